"""Mean and standard deviation over seeds, averages over datasets, the harmonic mean."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Accuracies of one method under one condition, in percent.

    Attributes:
        values: One for each seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (n - 1 in the denominator); None with one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        mean = format(self.mean, spec)
        return mean if self.std is None else f"{mean} ± {format(self.std, spec)}"


def average(scores: Sequence[Mapping[int | None, float]]) -> Score | None:
    """Average over datasets: for each seed the mean of the datasets, so that ± is over seeds.

    Args:
        scores: For each dataset the accuracies by seed. A method without seeds has one under None.

    Returns:
        None where a dataset lacks a seed that another has: its average would be of other things.
    """
    if not scores or not scores[0] or any(set(each) != set(scores[0]) for each in scores):
        return None
    return Score(tuple(statistics.fmean(each[seed] for each in scores) for seed in scores[0]))


def harmonic_mean(base: float, new: float) -> float:
    """H = 2 B N / (B + N); 0 where both are.

    A table's average H is the H of the average B and N, and not the average of the H.
    """
    return 2 * base * new / (base + new) if base + new else 0.0
