"""The downstream tasks: what each shows, and how its classes are called.

Most tasks move away from pre-training: in how things look (``infrared``, ``aerial``, ``clutter``,
``backgrounds``), in how they are called (``new_names``, ``new_adjectives``), or in both
(``thermal``, ``new_shapes``). ``common`` and ``long_tail`` do not; ``seen`` and ``held_out``
measure pre-training itself.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .backgrounds import NEW_BACKGROUNDS
from .render import Scene, SceneRenderer, Style
from .sprites import PALETTE
from .world import (
    COLOURS,
    NEW_SHAPES,
    SHAPES,
    TEXTURES,
    Concept,
    held_out_combinations,
    matches,
    parse_phrase,
    seen_combinations,
)

_FEW_SHOT_SPLITS = (("train", 200), ("val", 50), ("test", 100))
_MEASURES = (("test", 200), ("short", 60))


@dataclass(frozen=True)
class SceneTask:
    """A detection task on procedural scenes.

    Args:
        classes: (name, concept) of each class; an attribute that a concept does not name is drawn
            at random.
        style: how its scenes look.
        objects: fewest and most objects of its classes in a picture.
        distractors: fewest and most objects of no class in a picture.
        colours: the colours that occur.
        textures: the textures that occur.
        splits: (name, number of pictures) of each split.
        image_size: side of the square pictures, pixels.
        long_tail: the n-th class is drawn 1 / n times as often as the first.
        absent: names that captions have besides those of the classes; nothing is drawn for them.
    """

    classes: tuple[tuple[str, Concept], ...]
    style: Style = field(default_factory=Style)
    objects: tuple[int, int] = (2, 6)
    distractors: tuple[int, int] = (0, 0)
    colours: tuple[str, ...] = COLOURS
    textures: tuple[str, ...] = TEXTURES
    splits: tuple[tuple[str, int], ...] = _FEW_SHOT_SPLITS
    image_size: int = 224
    long_tail: bool = False
    absent: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What captions name: the classes, in the order of the labels, and what is absent."""
        return tuple(name for name, _ in self.classes) + self.absent


def _phrases(*phrases: str) -> tuple[tuple[str, Concept], ...]:
    return tuple((phrase, parse_phrase(phrase)) for phrase in phrases)


def _spread_phrases(kinds: tuple[Concept, ...]) -> tuple[tuple[str, Concept], ...]:
    """24 full phrases in which every shape and colour occurs twice, and every texture about five
    times.
    """
    chosen: list[Concept] = []
    for turn in range(2):
        for number, shape in enumerate(SHAPES):
            colour = COLOURS[(7 * number + 10 * turn + 11) % len(COLOURS)]
            fitting = [kind for kind in kinds if (kind.shape, kind.colour) == (shape, colour)]
            chosen.append(fitting[(number + turn) % len(fitting)])
    return _phrases(*(kind.phrase for kind in chosen))


# Warm things are bright and cold things dark before a ground of middle grey.
_THERMAL = tuple(
    {
        **PALETTE,
        "white": ((240, 240, 240), (186, 186, 186)),
        "black": ((22, 22, 22), (64, 64, 64)),
    }.items()
)

_THERMAL_LOOK: dict[str, Any] = dict(
    style=Style(
        backgrounds=("flat", "gradient", "cloudy", "blobs", "photo"),
        palette=_THERMAL,
        grey_range=(75.0, 165.0),
        shadow=0.0,
        blur=1.0,
        noise=14.0,
        colour_jitter=0.0,
    ),
    colours=("white", "black"),
    textures=("plain", "outlined", "dotted"),
)


def _in_brightness(*words: tuple[str, str]) -> tuple[tuple[str, Concept], ...]:
    """Three shapes, bright and dark, each with the word for its brightness."""
    return tuple(
        (f"{word} {shape}", Concept(shape, colour))
        for shape in ("arrow", "cross", "heart")
        for word, colour in words
    )


TASKS: dict[str, SceneTask] = {
    # A grey palette: brightness is all there is, and it has new words.
    "thermal": SceneTask(
        classes=_in_brightness(("hot", "white"), ("cold", "black")), **_THERMAL_LOOK
    ),
    # The same pictures, in words that pre-training uses.
    "infrared": SceneTask(
        classes=_in_brightness(("white", "white"), ("black", "black")), **_THERMAL_LOOK
    ),
    # Smaller than anything in pre-training, and many.
    "aerial": SceneTask(
        classes=_phrases(
            "white arrow",
            "red square",
            "yellow circle",
            "blue cross",
            "black triangle",
            "green star",
        ),
        style=Style(
            backgrounds=("grainy", "planks", "cloudy", "photo"),
            diameters=(("small", (11.0, 19.0)),),
            max_angle=60.0,
            shadow=1.0,
            max_overlap=0.1,
        ),
        objects=(5, 14),
        textures=("plain",),
    ),
    # Crowded and overlapping, among things of no class that differ from the classes in one
    # attribute.
    "clutter": SceneTask(
        classes=_phrases(
            "striped red star",
            "blue heart",
            "dotted ring",
            "checkered green square",
            "yellow moon",
            "purple arrow",
        ),
        style=Style(max_overlap=0.45, diameters=(("small", (22.0, 40.0)), ("large", (40.0, 66.0)))),
        objects=(4, 8),
        distractors=(6, 12),
    ),
    # Grounds of strong colours, poor light and noise.
    "backgrounds": SceneTask(
        classes=_phrases("star", "heart", "arrow", "bolt", "flower", "moon", "cross", "hourglass"),
        style=Style(
            backgrounds=tuple(NEW_BACKGROUNDS),
            min_contrast=60.0,
            light=(0.5, 1.3),
            noise=24.0,
            blur=0.5,
            diameters=(("small", (20.0, 38.0)), ("medium", (38.0, 64.0))),
        ),
        objects=(3, 7),
    ),
    # Shapes that pre-training never shows.
    "new_shapes": SceneTask(classes=_phrases(*NEW_SHAPES), objects=(3, 6)),
    # Known things under names that pre-training never uses.
    "new_names": SceneTask(
        classes=(
            ("zorb", Concept("star", texture="striped")),
            ("wug", Concept("ring", texture="dotted")),
            ("blick", Concept("heart", "blue")),
            ("dax", Concept("arrow", "red")),
            ("toma", Concept("cross", texture="checkered")),
            ("fep", Concept("moon", "yellow")),
        ),
        objects=(2, 5),
        distractors=(0, 2),
    ),
    # Known shapes with adjectives that pre-training never uses: half of each name is known.
    "new_adjectives": SceneTask(
        classes=tuple(
            (f"{word} {shape}", Concept(shape, colour))
            for shape in ("heart", "moon", "flower")
            for word, colour in (("ripe", "red"), ("raw", "green"))
        ),
        objects=(2, 5),
        distractors=(0, 2),
    ),
    # Nothing is new but the set: what tuning gives where the model is at home.
    "common": SceneTask(classes=_spread_phrases(seen_combinations())[:12], objects=(2, 7)),
    # The same with many classes of which most are rare: the n-th is drawn 1 / n times as often.
    "long_tail": SceneTask(
        classes=_spread_phrases(seen_combinations()), objects=(2, 7), long_tail=True
    ),
    # Pre-training itself: what it saw, and what it must compose.
    "seen": SceneTask(
        classes=_spread_phrases(seen_combinations()), objects=(2, 7), splits=_MEASURES
    ),
    "held_out": SceneTask(
        classes=_spread_phrases(held_out_combinations()), objects=(2, 7), splits=_MEASURES
    ),
}
# Old and new words in one caption.
TASKS["seen_among_new_names"] = replace(TASKS["seen"], absent=TASKS["new_names"].names)
TASKS["new_names_among_seen"] = replace(
    TASKS["new_names"], absent=TASKS["seen"].names[:12], splits=(("test", 100),)
)


def get_task(name: str) -> SceneTask:
    """The task called ``name``.

    Raises:
        ValueError: no such task.
    """
    if name not in TASKS:
        raise ValueError(f"there is no scene task {name!r}; choose one of {tuple(TASKS)}")
    return TASKS[name]


class TaskPainter:
    """Draws the pictures of a task.

    Args:
        name: name of the task.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.task = get_task(name)
        self.renderer = SceneRenderer(self.task.image_size, self.task.style)

    def _complete(self, concept: Concept, rng: np.random.Generator) -> Concept:
        """``concept`` with its open attributes drawn at random."""

        def choose(value: str | None, values: tuple[str, ...]) -> str:
            return values[int(rng.integers(len(values)))] if value is None else value

        return Concept(
            choose(concept.shape, SHAPES),
            choose(concept.colour, self.task.colours),
            choose(concept.texture, self.task.textures),
            concept.size,
        )

    def label_of(self, thing: Concept) -> int | None:
        """The class of an object, or None for a distractor."""
        labels = [
            label for label, (_, concept) in enumerate(self.task.classes) if matches(concept, thing)
        ]
        return labels[0] if len(labels) == 1 else None

    def _draw_label(self, rng: np.random.Generator) -> int:
        count = len(self.task.classes)
        if not self.task.long_tail:
            return int(rng.integers(count))
        shares = 1.0 / np.arange(1, count + 1)
        return int(rng.choice(count, p=shares / shares.sum()))

    def _member(self, rng: np.random.Generator) -> Concept:
        while True:
            label = self._draw_label(rng)
            thing = self._complete(self.task.classes[label][1], rng)
            if self.label_of(thing) == label:
                return thing

    def _distractor(self, rng: np.random.Generator) -> Concept:
        while True:
            _, concept = self.task.classes[int(rng.integers(len(self.task.classes)))]
            thing = self._complete(concept, rng)
            # One attribute changed: as near to a class as a thing of no class can be.
            changed = ("shape", "colour", "texture")[int(rng.integers(3))]
            other = self._complete(Concept(), rng)
            thing = Concept(**{**vars(thing), changed: getattr(other, changed)})
            if not any(matches(concept, thing) for _, concept in self.task.classes):
                return thing

    def draw(self, split: str, index: int) -> tuple[Scene, list[int | None]]:
        """Picture ``index`` of a split; depends on its arguments and the task only.

        Args:
            split: name of the split.
            index: number of the picture.

        Returns:
            The scene, and the class of each object, None for distractors. At least one object has a
            class.
        """
        rng = np.random.default_rng((zlib.crc32(f"{self.name}/{split}".encode()), index))
        while True:
            members = [
                self._member(rng)
                for _ in range(int(rng.integers(*self.task.objects, endpoint=True)))
            ]
            count = int(rng.integers(*self.task.distractors, endpoint=True))
            things = members + [self._distractor(rng) for _ in range(count)]
            scene = self.renderer.render(
                [things[place] for place in rng.permutation(len(things))], rng
            )
            labels = [self.label_of(thing) for thing in scene.objects]
            if any(label is not None for label in labels):
                return scene, labels
