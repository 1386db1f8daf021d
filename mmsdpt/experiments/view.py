"""The results of one model for each method and setting, as shown in tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from .frame import Score, mean_score, place, select, settings_key
from .study import Method, Study

MISSING = "–"
Cell = Score | str | None
"""None: a missing result. Empty string: not applicable."""


@dataclass(frozen=True)
class Line:
    """A method with one setting: a row of a table, a line or a point of a plot."""

    method: Method
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        return self.method.trains

    @property
    def label(self) -> str:
        """Its name in a plot."""
        parts = [f"{name} {as_text(value)}" for name, value in self.settings.items()]
        return ", ".join((self.method.label, *parts))


class View:
    """The results of one model in a study's frame, for one question of ``vary``, if any."""

    def __init__(
        self, study: Study, frame: pd.DataFrame, host: str, question: str | None = None
    ) -> None:
        self.study, self.host = study, host
        self.frame = select(frame, host=host)
        self._no_rows = self.frame.iloc[:0]
        alone = select(self.frame, on_top_of=None)
        self._rows = {
            (method, variant, None if pd.isna(shots) else int(shots)): rows
            for (method, variant, shots), rows in alone.groupby(
                ["method", "variant", "shots"], dropna=False
            )
        }
        names = [str(name) for name in self.frame["score_name"].dropna().unique()]
        self.score_name = " or ".join(names) or "score"
        self.style = ".1f" if self.score_name == "AP" else ".2f"  # COCO's has three decimals
        points = study.questions()[question] if question else [{}]
        self.lines = [
            Line(method, settings)
            for method in study.methods.values()
            if method.name not in study.left_out
            for settings in (points if method.trains else [{}])
        ]
        self.settings = list(dict.fromkeys(name for line in self.lines for name in line.settings))
        parts = [host] if len(study.hosts) > 1 else []
        self.parts = [*parts, question] if question else parts

    def title(self, *parts: str | None) -> str:
        """A heading from the parts that are not None."""
        return ": ".join((*self.parts, ", ".join(part for part in parts if part)))

    def panels(self) -> dict[str, list[str]]:
        """Panels: the average over all datasets if there are several, then each dataset."""
        found = {name: [name] for name in self.study.data}
        if len(found) > 1:
            found = {f"Average over {len(found)} data sets": list(found), **found}
        return found

    def seeds(self, line: Line) -> int:
        """Expected number of results of each test."""
        return len(self.study.seeds) if line.trains else 1

    def rows(self, line: Line, shots: int | None) -> pd.DataFrame:
        """The results of a line; shots are ignored if nothing is trained."""
        key = (line.method.name, settings_key(line.settings), shots if line.trains else None)
        return self._rows.get(key, self._no_rows)

    def score(
        self,
        line: Line,
        shots: int | None,
        data: Sequence[str],
        classes: str = "all",
        value: str = "score",
        style: str | None = None,
    ) -> Score | None:
        """Mean of a line over seeds, averaged over datasets."""
        places = [place(each, classes) for each in data]
        rows = self.rows(line, shots)
        return mean_score(rows, value, places, self.seeds(line), style or self.style)

    def known(self, line: Line, shots: int | None, data: Sequence[str]) -> Cell:
        """Mean score on previously known data, after training on each of ``data``."""
        tests = list(self.study.forgetting)
        if not tests:
            return ""
        if not line.trains:
            return self.score(line, shots, tests)
        rows = self.rows(line, shots)
        rows = rows[rows["trained_on"].isin(list(data)) & rows["tested_on"].isin(tests)]
        pairs = rows["trained_on"] + " then " + rows["tested_on"]
        wanted = [f"{one} then {other}" for one in data for other in tests]
        return mean_score(rows.assign(place=pairs), "score", wanted, self.seeds(line), self.style)


@dataclass(frozen=True)
class Table:
    """A table and its subject."""

    title: str
    rows: Sequence[Mapping[str, Cell]]  # cells by column, the same columns in each row
    notes: Sequence[str] = ()  # sentences under it
    host: str | None = None
    data: tuple[str, ...] = ()  # data that scores are averaged over
    shots: int | None = None  # images of each class; None: several, all, or none

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0])

    def texts(self) -> list[list[str]]:
        """The rows as formatted text."""
        return [[MISSING if x is None else str(x) for x in row.values()] for row in self.rows]

    def is_text(self, column: str) -> bool:
        """Whether a column holds no number."""
        return all(isinstance(row[column], str) for row in self.rows)


def shots_in_words(shots: int | None) -> str:
    """``1 shot``, ``16 shots``, ``all images``."""
    return "all images" if not shots else f"{shots} shot{'' if shots == 1 else 's'}"


def most_shots(study: Study) -> int | None:
    """The largest number of shots; None and 0 stand for all images."""
    return next((x for x in study.shots if not x), max(x or 0 for x in study.shots))


def as_text(value: Any) -> str:
    """A setting as formatted text."""
    if value is None:
        return "none"
    return ", ".join(map(as_text, value)) if isinstance(value, (list, tuple)) else str(value)
