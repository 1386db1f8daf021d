"""The vocabulary of the procedural world: what exists, how it is called, which combinations are
kept aside.

An object is a shape with a colour, a texture and a size. A phrase names some of these attributes,
in the order size, texture, colour, shape ("large striped blue star", "blue star", "dotted object"),
and matches every object that agrees on all attributes it names.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "ring",
    "cross",
    "moon",
    "arrow",
    "flower",
    "bolt",
    "hourglass",
)
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "brown",
    "white",
    "black",
    "grey",
)
TEXTURES = ("plain", "striped", "dotted", "checkered", "outlined")

# Diameters in pixels. Between the two lies "medium": such objects exist, but no phrase depends on
# their size.
SIZES = ("small", "large")
MEDIUM = "medium"
DIAMETERS = {"small": (20.0, 38.0), MEDIUM: (38.0, 64.0), "large": (64.0, 110.0)}

# Never drawn in pre-training; the shapes of the downstream task `new_shapes`.
NEW_SHAPES = ("fish", "house", "tree", "mug", "key", "crown")

ANY_SHAPE = "object"


@dataclass(frozen=True, order=True)
class Concept:
    """What a phrase names, or what an object is. None means "not named".

    Args:
        shape: one of ``SHAPES`` or ``NEW_SHAPES``.
        colour: one of ``COLOURS``.
        texture: one of ``TEXTURES``.
        size: one of ``SIZES``; an object may also be ``MEDIUM``.
    """

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None

    @property
    def phrase(self) -> str:
        """The words for the named attributes, for example ``"striped blue star"``."""
        words = (self.size, self.texture, self.colour, self.shape or ANY_SHAPE)
        return " ".join(word for word in words if word is not None)

    @property
    def kind(self) -> Concept:
        """The same concept without its size."""
        return replace(self, size=None)


def matches(named: Concept, thing: Concept) -> bool:
    """Whether ``thing`` agrees with every attribute that ``named`` names."""
    return (
        (named.shape is None or named.shape == thing.shape)
        and (named.colour is None or named.colour == thing.colour)
        and (named.texture is None or named.texture == thing.texture)
        and (named.size is None or named.size == thing.size)
    )


def parse_phrase(phrase: str) -> Concept:
    """The concept that a phrase names; the inverse of ``Concept.phrase``.

    Raises:
        ValueError: a word is unknown, an attribute is named twice, or the last word is no shape.
    """
    vocabulary = {
        "size": SIZES,
        "texture": TEXTURES,
        "colour": COLOURS,
        "shape": (*SHAPES, *NEW_SHAPES),
    }
    named: dict[str, str] = {}
    words = phrase.split()
    if words and words[-1] == ANY_SHAPE:
        words = words[:-1]
    for word in words:
        attribute = next((name for name, values in vocabulary.items() if word in values), None)
        if attribute is None or attribute in named:
            raise ValueError(
                f"cannot read the phrase {phrase!r} at {word!r}: expected at most one size {SIZES},"
                f" texture {TEXTURES}, colour {COLOURS} and shape"
                f" {(*SHAPES, *NEW_SHAPES, ANY_SHAPE)}"
            )
        named[attribute] = word
    concept = Concept(**named)
    if concept.phrase != phrase:
        raise ValueError(f"the phrase {phrase!r} must be written {concept.phrase!r}")
    return concept


def is_held_out(concept: Concept) -> bool:
    """Whether ``concept`` names a combination of shape, colour and texture that pre-training must
    never see.

    One fifth of all combinations, on diagonals of the cube shape × colour × texture: every value
    and every pair of values also appears in combinations that are seen, so only the composition is
    new.
    """
    if concept.shape not in SHAPES or concept.colour is None or concept.texture is None:
        return False
    index = (
        SHAPES.index(concept.shape)
        + COLOURS.index(concept.colour)
        + TEXTURES.index(concept.texture)
    )
    return index % 5 == 0


def all_combinations() -> tuple[Concept, ...]:
    """All combinations of shape, colour and texture, in a fixed order."""
    return tuple(Concept(*values) for values in itertools.product(SHAPES, COLOURS, TEXTURES))


def seen_combinations() -> tuple[Concept, ...]:
    """The combinations that pre-training may draw and name."""
    return tuple(concept for concept in all_combinations() if not is_held_out(concept))


def held_out_combinations() -> tuple[Concept, ...]:
    """The combinations that only the evaluation of pre-training draws and names."""
    return tuple(concept for concept in all_combinations() if is_held_out(concept))


def combinations(which: str) -> tuple[Concept, ...]:
    """The combinations called ``which``: ``"seen"``, ``"held_out"`` or ``"all"``.

    Raises:
        ValueError: another name.
    """
    choices = {
        "seen": seen_combinations,
        "held_out": held_out_combinations,
        "all": all_combinations,
    }
    if which not in choices:
        raise ValueError(f"combinations must be one of {tuple(choices)}, but got {which!r}")
    return choices[which]()
