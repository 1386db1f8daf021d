"""K-shot subsets of classification data, as CoOp draws them (Dassl, ``generate_fewshot_dataset``).

GLIP's few-shot protocol for detection is another one: ``mmsdpt.datasets.FewShotDataset``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .items import Item

MAX_VAL_SHOTS = 4


def sample_shots(items: Sequence[Item], shots: int, generator: random.Random) -> list[Item]:
    """Draw ``shots`` items of each class.

    Args:
        items: Items of all classes. Their order counts: classes are visited in the order of their
            first appearance, and ``generator.sample`` depends on the order within a class.
        shots: K. A class with fewer items keeps all of them, without repetition, and takes nothing
            from the generator (Dassl with ``repeat=False``).
        generator: Its state moves on.

    Returns:
        The drawn items, class by class.
    """
    by_label: dict[int, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    drawn: list[Item] = []
    for candidates in by_label.values():
        drawn += generator.sample(candidates, shots) if len(candidates) >= shots else candidates
    return drawn


def sample_few_shot(
    train: Sequence[Item], val: Sequence[Item], shots: int, seed: int
) -> tuple[list[Item], list[Item]]:
    """Draw K-shot training data, then min(K, 4)-shot validation data, from one generator.

    Base and new classes are filtered afterwards, so that a class has the same shots in every
    protocol.

    Args:
        shots: K, at least 1.
        seed: Seed of ``random.Random``; the protocols use 1, 2 and 3.
    """
    generator = random.Random(seed)
    drawn_train = sample_shots(train, shots, generator)
    return drawn_train, sample_shots(val, min(shots, MAX_VAL_SHOTS), generator)
