"""Records of a study as one tidy table, and means over seeds and datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .records import Record

_NESTED = dict(settings="setting", metrics="metric", before="before", versions="version")
_LEFT_OUT = (*_NESTED, "recipe")  # not used as columns
_INTEGERS = (
    *("shots", "seed", "trainable", "base_parameters", "epochs", "best_epoch", "steps"),
    *("peak_memory_bytes", "tuner_bytes", "threads"),
)
MORE_SCORES = ("AP50", "APr", "APc", "APf")  # shown beside AP; the last three are LVIS' groups
# coco/bbox_mAP, coco/bbox_mAP_50, lvis/bbox_AP50, lvis_fixed_ap/APr, ...: fractions.
_AP = re.compile(r"(?:.*/)?(?:bbox_)?m?AP_?(\d\d|[smlrcf])?")


@dataclass(frozen=True)
class Score:
    """A mean over seeds.

    Attributes:
        mean: Mean over the seeds.
        std: Standard deviation over the seeds (n - 1 in the denominator); None with one seed.
        count: Number of seeds.
        planned: Number of seeds that the study names.
        style: Format of the numbers.
    """

    mean: float
    std: float | None = None
    count: int = 1
    planned: int = 1
    style: str = ".2f"

    def __str__(self) -> str:
        text = format(self.mean, self.style)
        if self.std is not None:
            text += f" ± {format(self.std, self.style.lstrip('+'))}"
        some = self.count < self.planned
        return text + (f" ({self.count} of {self.planned} seeds)" if some else "")


def scores_of(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Scores by their names in tables, the main one first.

    Args:
        metrics: As in a record. Accuracy is already in percent; average precisions (AP, AP50, ...)
            are converted to percent. Without either, the first number is used as it is.
    """
    numbers = {k: v for k, v in (metrics or {}).items() if isinstance(v, (int, float))}
    if "accuracy" in numbers:
        return {"accuracy": float(numbers["accuracy"])}
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if fits := _AP.fullmatch(name):
            found.setdefault(f"AP{fits[1] or ''}", 100.0 * value)
    found = found or dict(list(numbers.items())[:1])
    return dict(sorted(found.items(), key=lambda item: item[0] != "AP"))


def settings_key(settings: Mapping[str, Any]) -> str:
    """Varied settings as text; tuples and lists give the same text."""
    return json.dumps(settings, sort_keys=True)


def to_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each record.

    Nested values become columns: ``setting.<name>`` (with dots for deeper levels),
    ``metric.<name>``, ``before.<name>`` and ``version.<name>``. Added columns are ``variant`` (the
    settings as text), ``place`` (the test), ``training`` (shared by the cells of one training),
    ``score`` (the main metric, in percent) with its name ``score_name``, the same for the model
    with all tuners off, ``gain``, and ``MORE_SCORES``.

    Args:
        records: From :func:`mmsdpt.experiments.records.read_records`.
    """
    records, rows = list(records), []
    for record in records:
        row = {name: value for name, value in record.items() if name not in _LEFT_OUT}
        scores = scores_of(record.get("metrics"))
        main, value = next(iter(scores.items()), (None, None))
        level = scores_of(record.get("before")).get(main)  # type: ignore[arg-type]
        row |= dict(
            slots_on="+".join(record["slots_on"]),
            variant=settings_key(record["settings"]),
            place=place(record["tested_on"], record["tested_classes"]),
            training=record["cell"].rsplit("/on_", 1)[0],
            score_name=main,
            score=value,
            gain=None if value is None or level is None else value - level,
            # COCO and LVIS give -1 for a group without annotations.
            **{name: x for name in MORE_SCORES if (x := scores.get(name, -1.0)) >= 0},
        )
        rows.append(row)
    added = ("variant", "place", "training", "score_name", "score", "gain", *MORE_SCORES)
    known = [name for name in Record.__annotations__ if name not in _LEFT_OUT]
    nested = [
        pd.json_normalize([record.get(name) or {} for record in records]).add_prefix(f"{start}.")
        for name, start in _NESTED.items()
    ]
    frame = pd.concat([pd.DataFrame(rows), *nested], axis=1)
    others = [name for name in frame if name not in (*known, *added)]
    frame = frame.reindex(columns=[*known, *added, *others])
    settings = [name for name in others if name.startswith("setting.")]
    frame[settings] = frame[settings].convert_dtypes()
    return frame.astype(dict.fromkeys(_INTEGERS, "Int64"))


def place(data: str, classes: str = "all") -> str:
    """The test of a cell as text."""
    return data if classes == "all" else f"{data}, {classes} classes"


def select(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values; None selects missing values."""
    for name, value in wanted.items():
        column = frame[name]
        frame = frame[column.isna() if value is None else (column == value).fillna(False)]
    return frame


def mean_score(
    rows: pd.DataFrame,
    value: str,
    places: Sequence[str],
    planned: int = 1,
    style: str = ".2f",
) -> Score | None:
    """Mean over seeds of the mean over tests.

    The mean over the places is taken first for each seed, so that ± is over seeds.

    Args:
        rows: Rows of one method with one setting: at most one for each seed and place. Rows without
            training have no seed, which counts as one.
        value: Name of the column.
        places: Tests, as named by :func:`place`.
        planned: Expected number of seeds.
        style: Format of the numbers.

    Returns:
        None if there are no rows, or if a place lacks a seed that another has, as the means would
        not be comparable.

    Raises:
        ValueError: if there are two results for a seed and place.
    """
    if rows.empty or value not in rows:
        return None
    of_seed: dict[int, dict[str, float]] = {}
    # Plain loops: the rows are few, and pandas' selections would take most of a table's time.
    for seed, tested, score in zip(rows["seed"], rows["place"], rows[value], strict=True):
        if tested not in places or pd.isna(score):
            continue
        scores = of_seed.setdefault(-1 if pd.isna(seed) else seed, {})
        if tested in scores:
            raise ValueError(f"two results of seed {seed} on {tested}")
        scores[tested] = score
    if not of_seed or any(name not in found for found in of_seed.values() for name in places):
        return None
    means = np.array([np.mean([found[name] for name in places]) for found in of_seed.values()])
    std = float(means.std(ddof=1)) if len(means) > 1 else None
    return Score(float(means.mean()), std, len(means), planned, style)


def harmonic_mean(base: Score | None, new: Score | None) -> Score | None:
    """H = 2BN / (B + N) of two means, 0 if both are 0. The average H of a table is thus the H of
    the averages, not the average of the H. It is marked if one of the means is of fewer seeds.
    """
    if base is None or new is None:
        return None
    total = base.mean + new.mean
    mean = 2 * base.mean * new.mean / total if total else 0.0
    return Score(mean, None, min(base.count, new.count), base.planned, base.style)
