"""Splitting data that comes without a split, the same way every time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from .items import Item

VAL_OF_TRAIN = 0.2
"""Share of the training images that become validation images where only those are missing (CoOp,
``split_trainval``).
"""


def _by_class(items: Sequence[Item], seed: int) -> list[list[Item]]:
    """The items of each class in order of the labels, shuffled by one generator."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    generator = random.Random(seed)
    ordered = [groups[label] for label in sorted(groups)]
    for group in ordered:
        generator.shuffle(group)
    return ordered


def split_all(
    items: Sequence[Item], fractions: tuple[float, float, float], seed: int
) -> dict[str, list[Item]]:
    """Split every class by ``fractions`` for train, val and test.

    A class of one image goes to train; from two on it has a test image.

    Args:
        fractions: Their sum is 1. CoOp splits by (0.5, 0.2, 0.3).
    """
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for group in _by_class(items, seed):
        last_train = min(max(1, round(len(group) * fractions[0])), max(1, len(group) - 1))
        last_val = min(
            last_train + round(len(group) * fractions[1]), max(last_train, len(group) - 1)
        )
        splits["train"] += group[:last_train]
        splits["val"] += group[last_train:last_val]
        splits["test"] += group[last_val:]
    return splits


def hold_out_val(splits: Mapping[str, Sequence[Item]], seed: int) -> dict[str, list[Item]]:
    """Take a fifth of each class of train as val; test stays."""
    train: list[Item] = []
    val: list[Item] = []
    for group in _by_class(splits["train"], seed):
        count = min(round(len(group) * VAL_OF_TRAIN), len(group) - 1)
        val += group[:count]
        train += group[count:]
    return {"train": train, "val": val, "test": list(splits["test"])}
