"""Chooses the phrases of a caption: each object is matched by exactly one, and the others match
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .world import COLOURS, MEDIUM, SHAPES, SIZES, TEXTURES, Concept, is_held_out, matches

_VALUES = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}

# Which attributes a phrase names, and how often. "size" is dropped where a size would be ambiguous.
_PATTERNS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("shape",), 0.12),
    (("colour", "shape"), 0.28),
    (("texture", "shape"), 0.12),
    (("texture", "colour", "shape"), 0.28),
    (("size", "shape"), 0.02),
    (("size", "colour", "shape"), 0.04),
    (("size", "texture", "colour", "shape"), 0.05),
    (("colour",), 0.03),
    (("texture",), 0.02),
    (("texture", "colour"), 0.04),
)
_SINGLE = tuple((pattern,) for pattern in ("shape", "colour", "texture"))
_CUMULATED = np.cumsum([chance for _, chance in _PATTERNS])


def _random_pattern(rng: np.random.Generator, single_attribute: float = 0.0) -> tuple[str, ...]:
    if single_attribute > 0.0 and rng.random() < single_attribute:
        return _SINGLE[int(rng.integers(len(_SINGLE)))]
    place = np.searchsorted(_CUMULATED, rng.random() * _CUMULATED[-1], side="right")
    return _PATTERNS[int(place)][0]


def _named(thing: Concept, attributes: Sequence[str]) -> Concept:
    return Concept(**{attribute: getattr(thing, attribute) for attribute in attributes})


def is_ambiguous(named: Concept, objects: Sequence[Concept]) -> bool:
    """Whether ``named`` names a size that an object of medium size may or may not have."""
    if named.size is None:
        return False
    return named.size == MEDIUM or any(
        thing.size == MEDIUM and matches(named.kind, thing) for thing in objects
    )


def positive_phrases(
    objects: Sequence[Concept], rng: np.random.Generator, single_attribute: float = 0.0
) -> tuple[list[Concept], list[int]]:
    """Phrases of random length such that each object is matched by exactly one.

    Args:
        objects: concepts with all attributes known.
        rng: source of all chance.
        single_attribute: probability that a phrase is tried with one attribute first.

    Returns:
        The phrases, and for each object the index of its phrase.
    """
    phrases: list[Concept] = []
    label = [-1] * len(objects)
    for index in rng.permutation(len(objects)):
        if label[index] >= 0:
            continue
        thing = objects[index]
        candidates = [_named(thing, _random_pattern(rng, single_attribute)) for _ in range(4)]
        # One of the last two always fits: an object that an earlier phrase covers differs from this
        # one in its kind or, where both kinds are equal, in an unambiguous size (else this object
        # would be covered).
        candidates += [thing.kind, thing]
        for phrase in candidates:
            covered = [other for other, concept in enumerate(objects) if matches(phrase, concept)]
            if all(label[other] < 0 for other in covered) and not is_ambiguous(phrase, objects):
                break
        for other in covered:
            label[other] = len(phrases)
        phrases.append(phrase)
    return phrases, label


def negative_phrases(
    objects: Sequence[Concept],
    positives: Sequence[Concept],
    count: int,
    kinds: Sequence[Concept],
    rng: np.random.Generator,
    may_be_held_out: bool = False,
    hard: float = 0.7,
    single_attribute: float = 0.0,
) -> list[Concept]:
    """Phrases that match no object.

    Args:
        objects: what is in the picture.
        positives: the phrases that match.
        count: how many are wanted.
        kinds: combinations to name in easy negatives.
        rng: source of all chance.
        may_be_held_out: whether held-out combinations may be named. In pre-training they may not: a
            model would learn that they never exist.
        hard: probability of a negative that differs from a phrase or an object in one attribute
            only.
        single_attribute: probability that a phrase names one attribute.

    Returns:
        At most ``count`` different phrases.
    """
    negatives: list[Concept] = []
    # Almost every attempt succeeds; the bound is for pictures in which nearly every phrase matches.
    for _ in range(20 * count):
        if len(negatives) == count:
            break
        if objects and rng.random() < hard:
            if rng.random() < 0.5:
                base = positives[int(rng.integers(len(positives)))]
            else:
                base = _named(
                    objects[int(rng.integers(len(objects)))], _random_pattern(rng, single_attribute)
                )
            attributes = [name for name in _VALUES if getattr(base, name) is not None]
            attribute = attributes[int(rng.integers(len(attributes)))]
            values = _VALUES[attribute]
            phrase = replace(base, **{attribute: values[int(rng.integers(len(values)))]})
        else:
            kind = replace(
                kinds[int(rng.integers(len(kinds)))], size=SIZES[int(rng.integers(len(SIZES)))]
            )
            phrase = _named(kind, _random_pattern(rng, single_attribute))
        if (
            phrase in negatives
            or is_ambiguous(phrase, objects)
            or any(matches(phrase, thing) for thing in objects)
        ):
            continue
        if is_held_out(phrase) and not may_be_held_out:
            continue
        negatives.append(phrase)
    return negatives
