"""The tables of a study, by protocol; formats are in :mod:`mmsdpt.experiments.page`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from mmsdpt.utils.errors import InputError

from .frame import Score, harmonic_mean, mean_score, place, select, settings_key
from .records import FAILED
from .study import ZERO_SHOT, Study

MISSING = "–"
Cell = Score | str | None
"""None: a result is missing. An empty text: there is no such result."""

_COSTS = {
    "training, s": ("train_seconds", 1.0, ",.1f"),
    "training, CPU s": ("train_cpu_seconds", 1.0, ",.1f"),
    "peak memory, MB": ("peak_memory_bytes", 1e-6, ",.0f"),
    "tuner file, kB": ("tuner_bytes", 1e-3, ",.0f"),
}
_TRAINABLE, _SHARE = "trainable parameters", "of the base"
_NOT_TRAINED = "no training"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Heading.
        rows: Cells by column, the same columns in each row.
        notes: Sentences under it.
        host: Name of the model; None where it is not about one.
        data: What its scores are averaged over.
        shots: Its training images of each class; None: several, all, or none.
    """

    title: str
    rows: Sequence[Mapping[str, Cell]]
    notes: tuple[str, ...] = ()
    host: str | None = None
    data: tuple[str, ...] = ()
    shots: int | None = None

    @property
    def columns(self) -> list[str]:
        """Their headings."""
        return list(self.rows[0])

    def texts(self) -> list[list[str]]:
        """The rows as a person reads them."""
        return [[MISSING if x is None else str(x) for x in row.values()] for row in self.rows]

    def is_text(self, column: str) -> bool:
        """Whether a column holds no number."""
        return all(isinstance(row[column], str) for row in self.rows)


@dataclass(frozen=True)
class Line:
    """A method with one setting: a row of a table, a line or a point of a plot."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class View:
    """The results of one model, for one question of a study.

    Args:
        study: The study.
        frame: Its results, as :func:`mmsdpt.experiments.frame.to_frame` gives them.
        host: Name of the model.
        question: Name of the question in ``vary``; None: there is none.
    """

    def __init__(
        self, study: Study, frame: pd.DataFrame, host: str, question: str | None = None
    ) -> None:
        self.study, self.host, self.question = study, host, question
        self.frame = select(frame, host=host)
        names = [str(name) for name in self.frame["score_name"].dropna().unique()]
        self.score_name = " or ".join(names) or "score"
        self.style = ".1f" if self.score_name == "AP" else ".2f"  # COCO's has three decimals
        points = study.questions()[question] if question else [{}]
        self.lines = [
            Line(method.name, settings)
            for method in study.methods.values()
            if method.name not in study.left_out
            for settings in (points if method.trains else [{}])
        ]
        self.settings = list(dict.fromkeys(name for line in self.lines for name in line.settings))
        parts = [host] if len(study.hosts) > 1 else []
        self.parts = [*parts, question] if question else parts

    def title(self, *parts: str | None) -> str:
        """A heading from the parts that there are."""
        return ": ".join((*self.parts, ", ".join(part for part in parts if part)))

    def panels(self) -> dict[str, list[str]]:
        """What is shown: the average over all data sets if there are several, then each."""
        found = {name: [name] for name in self.study.data}
        if len(found) > 1:
            found = {f"Average over {len(found)} data sets": list(found), **found}
        return found

    def label(self, line: Line) -> str:
        """A line's name in a plot."""
        settings = ", ".join(f"{name} {_text(value)}" for name, value in line.settings.items())
        label = self.study.methods[line.method].label
        return f"{label}, {settings}" if settings else label

    def trains(self, line: Line) -> bool:
        """Whether anything is trained."""
        return self.study.methods[line.method].trains

    def rows(self, line: Line, shots: int | None) -> pd.DataFrame:
        """The results of a line; what trains nothing has no shots."""
        key = settings_key(line.settings)
        rows = select(self.frame, method=line.method, variant=key, on_top_of=None)
        return select(rows, shots=shots) if self.trains(line) else rows

    def score(
        self,
        line: Line,
        shots: int | None,
        data: Sequence[str],
        classes: str = "all",
        value: str = "score",
        style: str | None = None,
    ) -> Score | None:
        """Mean of a line over seeds, averaged over data sets."""
        places = [place(each, classes) for each in data]
        planned = len(self.study.seeds) if self.trains(line) else 1
        return mean_score(self.rows(line, shots), value, places, planned, style or self.style)

    def table(
        self,
        title: str,
        cells: Callable[[Line], Mapping[str, Cell]],
        data: Sequence[str] = (),
        shots: int | None = None,
        notes: Sequence[str] = (),
        lines: Sequence[Line] | None = None,
    ) -> Table:
        """A table with a row for each line, after columns for method and settings.

        Costs, AP50 and gain are left out where no line has them.
        """
        rows: list[dict[str, Cell]] = []
        for line in self.lines if lines is None else lines:
            label = self.study.methods[line.method].label
            settings = {x: _text(line.settings.get(x, "")) for x in self.settings}
            rows.append({"method": label, **settings, **cells(line)})
        optional = {*_COSTS, _TRAINABLE, _SHARE, "AP50", "gain"} & set(rows[0])
        empty = [name for name in optional if all(row[name] in (None, "") for row in rows)]
        rows = [{name: x for name, x in row.items() if name not in empty} for row in rows]
        return Table(title, rows, tuple(notes), self.host, tuple(data), shots)


def study_tables(study: Study, frame: pd.DataFrame) -> list[Table]:
    """All tables of a study: results, alignment, cost, published numbers, what failed."""
    makers = dict(
        few_shot=_few_shot, base_to_new=_base_to_new, transfer=_transfer, comparison=_comparison
    )
    found = []
    for host in study.hosts:
        if study.protocol == "stacking":
            found += _stacking(View(study, frame, host))
            continue
        for question in study.questions() or [None]:
            view = View(study, frame, host, question)
            if view.lines:
                found += makers[study.protocol](view) + _alignment(view)
                found += [] if study.protocol == "comparison" else _cost(view)
    return found + _published(study, frame, found) + _failed(frame)


def shots_in_words(shots: int | None) -> str:
    """``1 shot``, ``16 shots``, ``all images``."""
    return "all images" if shots is None else f"{shots} shot{'' if shots == 1 else 's'}"


def most_shots(study: Study) -> int | None:
    """The largest number of shots; None stands for all images."""
    return None if None in study.shots else max(x for x in study.shots if x is not None)


def _text(value: Any) -> str:
    """A setting as text."""
    if value is None:
        return "none"
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)


def _few_shot(view: View) -> list[Table]:
    def cells(data: Sequence[str], line: Line) -> dict[str, Cell]:
        trains = view.trains(line)
        found: dict[str, Cell] = {_NOT_TRAINED: "" if trains else view.score(line, None, data)}
        for k in view.study.shots:
            found[shots_in_words(k)] = view.score(line, k, data) if trains else ""
        return found

    return [
        view.table(view.title(name), partial(cells, data), data)
        for name, data in view.panels().items()
    ]


def _base_to_new(view: View) -> list[Table]:
    def cells(k: int | None, data: Sequence[str], line: Line) -> dict[str, Cell]:
        base, new = (view.score(line, k, data, half) for half in ("base", "new"))
        return dict(base=base, new=new, H=harmonic_mean(base, new))

    return [
        view.table(view.title(name, shots_in_words(k)), partial(cells, k, data), data, k)
        for k in view.study.shots
        for name, data in view.panels().items()
    ]


def _transfer(view: View) -> list[Table]:
    source = str(view.study.source)
    targets = [name for name in view.study.data if name != source]

    def cells(k: int | None, line: Line) -> dict[str, Cell]:
        found: dict[str, Cell] = {f"{source} (source)": view.score(line, k, [source])}
        found |= {name: view.score(line, k, [name]) for name in targets}
        return {**found, "average of targets": view.score(line, k, targets)}

    return [
        view.table(view.title(shots_in_words(k)), partial(cells, k), targets, k)
        for k in view.study.shots
    ]


def _comparison(view: View) -> list[Table]:
    names = list(view.study.data)

    def overview(k: int | None, line: Line) -> dict[str, Cell]:
        found: dict[str, Cell] = {name: view.score(line, k, [name]) for name in names}
        return {**found, "average": view.score(line, k, names)}

    def details(k: int | None, name: str, line: Line) -> dict[str, Cell]:
        rows = select(view.rows(line, k), tested_on=name)
        trains, costs = view.trains(line), _costs(rows, view.trains(line))
        score, ap50 = (view.score(line, k, [name], value=x) for x in ("score", "AP50"))
        gain = view.score(line, k, [name], value="gain", style=f"+{view.style}")
        found: dict[str, Cell] = {x: costs.pop(x) for x in (_TRAINABLE, _SHARE)}
        found |= {view.score_name: score, "AP50": ap50, "gain": gain if trains else ""}
        return {**found, **costs}

    found = []
    for k in view.study.shots:
        shots = None if k is None else shots_in_words(k)
        if len(names) > 1:
            title = view.title(f"{view.score_name} on all data", shots)
            found.append(view.table(title, partial(overview, k), names, k))
        for name in names:
            title = view.title(name, shots)
            found.append(view.table(title, partial(details, k, name), [name], k))
    return found


def _stacking(view: View) -> list[Table]:
    study, frame, source = view.study, view.frame, view.study.source
    names = {name: method.label for name, method in study.methods.items()}
    seeds = len(study.seeds)
    found = []
    for k in study.shots:
        for other in (name for name in study.data if name != source):
            scores: list[dict[str, Cell]] = []
            costs: list[dict[str, Cell]] = []
            for one, two in study.pairs:
                pair: dict[str, Cell] = {"in slot old": names[one], "in slot new": names[two]}
                alone = select(frame, method=one, on_top_of=None, trained_on=source, shots=k)
                stack = select(frame, method=two, on_top_of=one, trained_on=other, shots=k)
                tests = dict(
                    none=(select(frame, method=ZERO_SHOT), 1),
                    old=(alone, seeds),
                    new=(select(stack, slots_on="new"), seeds),
                    both=(select(stack, slots_on="old+new"), seeds),
                )
                cells = {
                    f"{data}: {which}": mean_score(rows, "score", [data], planned, view.style)
                    for data in (str(source), other)
                    for which, (rows, planned) in tests.items()
                }
                scores.append({**pair, **cells})
                costs.append({**pair, **_costs(stack, True)})
            shots = None if k is None else shots_in_words(k)
            title = view.title(f"{source}, then {other}", shots)
            facts = dict(host=view.host, data=(str(source), other), shots=k)
            notes = (f"{view.score_name}, by data set and the slots that are switched on.",)
            found.append(Table(title, scores, notes, **facts))  # type: ignore[arg-type]
            found.append(Table(f"{title}: cost of the second training", costs, host=view.host))
    return found


def _alignment(view: View) -> list[Table]:
    """Alignment of images and texts, for the most shots."""
    k = most_shots(view.study)

    def cells(line: Line) -> dict[str, Cell]:
        rows = view.rows(line, k)
        # In each protocol the lines are tested on the same: what one lacks is missing.
        places = view.frame["place"].unique().tolist()
        planned = len(view.study.seeds) if view.trains(line) else 1
        found: dict[str, Cell] = {}
        for name in ("margin", "gap"):
            before, after = (
                mean_score(rows, f"{column}.{name}", places, planned, ".4f")
                for column in ("before", "metric")
            )
            found[f"{name} before"] = before and replace(before, std=None)  # the same in all seeds
            found[f"{name} after"] = after
        return found

    if "metric.margin" not in view.frame or view.frame["metric.margin"].isna().all():
        return []
    note = (
        f"With {shots_in_words(k)}; means over all tests. margin: mean cosine of an image and the"
        " text of its class, minus that of an image and other classes; gap: distance of the mean"
        " image feature and the mean text feature. Before: all tuners off, on the same images."
    )
    return [view.table(view.title("Alignment"), cells, notes=[note])]


def _cost(view: View) -> list[Table]:
    """What trainings cost, for the most shots."""
    k = most_shots(view.study)
    lines = [line for line in view.lines if view.trains(line)]
    if not lines:
        return []
    note = f"With {shots_in_words(k)}; means over all trainings. Seconds are by the clock."
    title = view.title("Cost")
    return [view.table(title, lambda x: _costs(view.rows(x, k), True), notes=[note], lines=lines)]


def _costs(rows: pd.DataFrame, trains: bool) -> dict[str, Cell]:
    """Trainable parameters, seconds, memory, file size: means over the trainings."""
    if not trains:
        return dict.fromkeys((_TRAINABLE, _SHARE, *_COSTS), "")
    rows = rows.drop_duplicates("training")
    counts = rows[["trainable", "base_parameters"]].dropna().astype(float)
    found: dict[str, Cell] = {_TRAINABLE: _spread(counts["trainable"], ",.0f")}
    found[_SHARE] = _spread(counts["trainable"] / counts["base_parameters"], ".2%")
    for title, (name, scale, style) in _COSTS.items():
        values = rows[name].dropna().astype(float) * scale
        found[title] = Score(float(values.mean()), style=style) if len(values) else None
    return found


def _spread(values: pd.Series, style: str) -> Cell:
    """One number, or the least and the largest."""
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    return Score(low, style=style) if low == high else f"{low:{style}} to {high:{style}}"


def published_entries(study: Study) -> list[dict[str, Any]]:
    """The published numbers that a study names, in an attribute ``PUBLISHED`` of a module.

    Each is a dict: ``protocol``; ``source``, the paper and its table; and either ``sentence``, or
    ``title``, ``setting`` and ``values``. ``setting`` has ``host``, ``data`` (a list of names),
    ``shots``, ``seeds`` (a number) and ``epochs`` as far as they are known, which are compared with
    the study's, and any other key, which is shown. ``values`` are numbers by method, in
    ``stacking`` by the pair, and column of our table; ``labels`` those of methods that the study
    lacks.

    Returns:
        Those of the study's protocol that share a model or a data set with it, or else the first.

    Raises:
        InputError: if there is no such module, or nothing published in it.
    """
    if not study.published:
        return []
    try:
        module = importlib.import_module(study.published)
        found = [each for each in module.PUBLISHED if each["protocol"] == study.protocol]
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"study.published must name a module with PUBLISHED, got {study.published!r}: {error}"
        ) from error
    settings = [each.get("setting", {}) for each in found]
    shares = [
        each.get("host") in study.hosts or not study.data.keys().isdisjoint(each.get("data", ()))
        for each in settings
    ]
    return [each for each, share in zip(found, shares, strict=True) if share] or found[:1]


def _published(study: Study, frame: pd.DataFrame, tables: Sequence[Table]) -> list[Table]:
    """Published numbers beside ours, and what differs in the setting."""
    found = []
    for entry in (each for each in published_entries(study) if "values" in each):
        setting, values = entry["setting"], entry["values"]
        columns = list(dict.fromkeys(name for row in values.values() for name in row))
        fitting = [table for table in tables if table.data and set(columns) & set(table.columns)]
        if not fitting:
            continue

        def nearness(table: Table, setting: Mapping[str, Any] = setting) -> tuple[Any, ...]:
            same = [getattr(table, name) == setting.get(name) for name in ("host", "shots")]
            return *same, len({*setting.get("data", ())} & {*table.data}), len(table.data)

        ours = max(fitting, key=nearness)
        keys = ours.columns[:2] if study.protocol == "stacking" else ours.columns[:1]
        known = {tuple(row[key] for key in keys): row for row in ours.rows}
        labels = {**entry.get("labels", {}), **{x: y.label for x, y in study.methods.items()}}
        rows = []
        for names, numbers in values.items():
            own = tuple(labels[x] for x in ((names,) if isinstance(names, str) else names))
            row: dict[str, Cell] = dict(zip(keys, own, strict=True))
            for column in columns:
                style = ".1f" if column.startswith("AP") or study.protocol == "stacking" else ".2f"
                number = numbers.get(column)
                row[f"{column}, published"] = "" if number is None else Score(number, style=style)
                row[f"{column}, here"] = known[own].get(column) if own in known else ""
            rows.append(row)
        epochs = frame.loc[frame["host"] == ours.host, "epochs"].dropna().unique()
        here = dict(
            host=ours.host,
            data=list(ours.data),
            shots=ours.shots,
            seeds=len(study.seeds),
            epochs=" or ".join(map(str, sorted(epochs))),
        )
        sentences = [
            f"{name}: {_text(there)} there"
            + (f", {_text(here[name]) or MISSING} here" if name in here else "")
            for name, there in setting.items()
            if name not in here or _sorted(there) != _sorted(here[name])
        ]
        note = f"What differs: {'; '.join(sentences)}." if sentences else "The same setting."
        notes = (f"Source: {entry['source']}.", note)
        found.append(Table(f"Published: {entry['title']}", rows, notes))
    return found


def _sorted(value: Any) -> Any:
    """A list without its order, all else as text."""
    return sorted(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _failed(frame: pd.DataFrame) -> list[Table]:
    failed = select(frame, status=FAILED)
    rows = [
        dict(cell=str(cell), cause=str(error))
        for cell, error in zip(failed["cell"], failed["error"], strict=True)
    ]
    return [Table("Failed", rows, ("Run the study again to compute them.",))] if rows else []
