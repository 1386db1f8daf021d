"""Subsets of a dataset: splits, K shots per class, base and new classes.

For GLIP's few-shot protocol for detection see ``mmsdpt.datasets.FewShotDataset``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from .items import Item

MAX_VAL_SHOTS = 4
Subset = Literal["all", "base", "new"]
VAL_OF_TRAIN = 0.2
"""Fraction of the training images to use for validation if only val is missing (CoOp,
``split_trainval``).
"""


def _by_class(items: Sequence[Item]) -> list[list[Item]]:
    """The items of each class, in the order of their first appearance."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return list(groups.values())


def _shuffled(items: Sequence[Item], seed: int) -> list[list[Item]]:
    """The items of each class in order of the labels, shuffled by one generator."""
    groups = sorted(_by_class(items), key=lambda group: group[0].label)
    generator = random.Random(seed)
    for group in groups:
        generator.shuffle(group)
    return groups


def split_all(
    items: Sequence[Item], fractions: tuple[float, float, float], seed: int
) -> dict[str, list[Item]]:
    """Split every class by ``fractions`` for train, val and test.

    A class with one image goes to train; one with at least two has a test image.

    Args:
        fractions: Fractions with sum 1. CoOp uses (0.5, 0.2, 0.3).
    """
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for group in _shuffled(items, seed):
        last_train = min(max(1, round(len(group) * fractions[0])), max(1, len(group) - 1))
        last_val = min(
            last_train + round(len(group) * fractions[1]), max(last_train, len(group) - 1)
        )
        splits["train"] += group[:last_train]
        splits["val"] += group[last_train:last_val]
        splits["test"] += group[last_val:]
    return splits


def hold_out_val(splits: Mapping[str, Sequence[Item]], seed: int) -> dict[str, list[Item]]:
    """Take a fifth of each class of train as val, at least one of two images."""
    train: list[Item] = []
    val: list[Item] = []
    for group in _shuffled(splits["train"], seed):
        count = min(max(1, round(len(group) * VAL_OF_TRAIN)), len(group) - 1)
        val += group[:count]
        train += group[count:]
    return {"train": train, "val": val, "test": list(splits["test"])}


def sample_shots(items: Sequence[Item], shots: int, generator: random.Random) -> list[Item]:
    """Draw ``shots`` items of each class, as CoOp does (Dassl, ``generate_fewshot_dataset``).

    Args:
        items: Items of all classes. Their order matters: classes are visited in the order of their
            first appearance, and ``generator.sample`` depends on the order within a class.
        shots: K. A class with fewer items keeps all of them, without repetition, and does not
            advance the generator (Dassl with ``repeat=False``).
        generator: Random generator; its state advances.

    Returns:
        The drawn items, class by class.
    """
    drawn: list[Item] = []
    for candidates in _by_class(items):
        drawn += generator.sample(candidates, shots) if len(candidates) >= shots else candidates
    return drawn


def sample_few_shot(
    train: Sequence[Item], val: Sequence[Item] | None, shots: int, seed: int
) -> tuple[list[Item], list[Item]]:
    """Draw K-shot training data, then min(K, 4)-shot validation data, from one generator.

    Base and new classes are selected afterwards, so that a class has the same shots in every
    protocol.

    Args:
        val: Items for validation; None: use the remaining items of ``train``.
        shots: K, at least 1.
        seed: Seed of ``random.Random``; the protocols use 1, 2 and 3.
    """
    generator = random.Random(seed)
    drawn_train = sample_shots(train, shots, generator)
    if val is None:
        taken = set(drawn_train)
        val = [item for item in train if item not in taken]
    return drawn_train, sample_shots(val, min(shots, MAX_VAL_SHOTS), generator)


def select_classes(
    items: Sequence[Item], names: Sequence[str], subset: Subset
) -> tuple[list[Item], tuple[str, ...]]:
    """Keep the items of one half of the classes (CoCoOp, ``subsample_classes``).

    With sorted labels, base is the first ceil(C / 2) of C classes and new the rest. Labels start at
    0 in each half, so that each is tested in its own label space.

    Args:
        items: Items with labels 0 .. C - 1.
        names: The C class names.
        subset: ``all`` changes nothing.

    Returns:
        The items with their new labels, and their class names.
    """
    middle = math.ceil(len(names) / 2)
    start, stop = {"all": (0, len(names)), "base": (0, middle), "new": (middle, len(names))}[subset]
    kept = [replace(item, label=item.label - start) for item in items if start <= item.label < stop]
    return kept, tuple(names[start:stop])
