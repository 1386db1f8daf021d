"""The tables of a study, by protocol; formats are in :mod:`mmsdpt.experiments.page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from .frame import MORE_SCORES, Score, harmonic_mean, mean_score, select
from .published import published_tables
from .records import FAILED
from .study import ZERO_SHOT, Study
from .view import Cell, Line, Table, View, as_text, most_shots, shots_in_words

_COSTS = {
    "training, s": ("train_seconds", 1.0, ",.1f"),
    "training, CPU s": ("train_cpu_seconds", 1.0, ",.1f"),
    "step, s": ("step_seconds", 1.0, ".2f"),
    "peak memory, MB": ("peak_memory_bytes", 1e-6, ",.0f"),
    "tuner file, kB": ("tuner_bytes", 1e-3, ",.0f"),
}
_TRAINABLE, _SHARE = "trainable parameters", "of the base"
_KNOWN = "of what it knew"
# Left out if no row has them.
_OPTIONAL = {*_COSTS, _TRAINABLE, _SHARE, _KNOWN, *MORE_SCORES, "gain"}
_NOT_TRAINED = "no training"


def study_tables(study: Study, frame: pd.DataFrame) -> list[Table]:
    """All tables of a study: results, alignment, cost, published numbers, failures."""
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
    return found + published_tables(study, frame, found) + _failed(frame)


def _table(
    view: View,
    title: str,
    cells: Callable[[Line], Mapping[str, Cell]],
    data: Sequence[str] = (),
    shots: int | None = None,
    note: str | None = None,
    lines: Sequence[Line] | None = None,
) -> Table:
    """A table with a row for each line, after columns for method and settings."""
    rows: list[dict[str, Cell]] = []
    for line in view.lines if lines is None else lines:
        settings = {name: as_text(line.settings.get(name, "")) for name in view.settings}
        rows.append({"method": line.method.label, **settings, **cells(line)})
    empty = {name for name in _OPTIONAL if all(row.get(name) in (None, "") for row in rows)}
    rows = [{name: x for name, x in row.items() if name not in empty} for row in rows]
    return Table(title, rows, (note,) if note else (), view.host, tuple(data), shots)


def _few_shot(view: View) -> list[Table]:
    panels, note = view.panels(), _known_note(view.study)
    found = [
        _by_shots(view, view.title(name), partial(view.score, data=data), data)
        for name, data in panels.items()
    ]
    if view.study.forgetting:
        found += [
            _by_shots(view, view.title(name, _KNOWN), partial(view.known, data=data), note=note)
            for name, data in panels.items()
        ]
    return found


def _by_shots(
    view: View,
    title: str,
    score: Callable[[Line, int | None], Cell],
    data: Sequence[str] = (),
    note: str | None = None,
) -> Table:
    """A table with a column for each number of shots."""

    def cells(line: Line) -> dict[str, Cell]:
        plain = "" if line.trains else score(line, None)
        by_shots = {
            shots_in_words(k): score(line, k) if line.trains else "" for k in view.study.shots
        }
        return {_NOT_TRAINED: plain, **by_shots}

    return _table(view, title, cells, data, note=note)


def _base_to_new(view: View) -> list[Table]:
    def one(name: str, data: Sequence[str], k: int | None) -> Table:
        def cells(line: Line) -> dict[str, Cell]:
            base, new = (view.score(line, k, data, half) for half in ("base", "new"))
            return dict(base=base, new=new, H=harmonic_mean(base, new))

        return _table(view, view.title(name, shots_in_words(k)), cells, data, k)

    return [one(*panel, k) for k in view.study.shots for panel in view.panels().items()]


def _transfer(view: View) -> list[Table]:
    source = str(view.study.source)
    targets = [name for name in view.study.data if name != source]

    def one(k: int | None) -> Table:
        def cells(line: Line) -> dict[str, Cell]:
            found: dict[str, Cell] = {f"{source} (source)": view.score(line, k, [source])}
            found |= {name: view.score(line, k, [name]) for name in targets}
            return {**found, "average of targets": view.score(line, k, targets)}

        return _table(view, view.title(shots_in_words(k)), cells, targets, k)

    return [one(k) for k in view.study.shots]


def _comparison(view: View) -> list[Table]:
    names = list(view.study.data)
    groups: dict[str, list[str]] = {}
    for each in view.study.data.values():
        if each.group:
            groups.setdefault(f"mean: {each.group}", []).append(each.name)

    def overview(k: int | None) -> Table:
        def cells(line: Line) -> dict[str, Cell]:
            found: dict[str, Cell] = {name: view.score(line, k, [name]) for name in names}
            found |= {group: view.score(line, k, data) for group, data in groups.items()}
            found |= {"average": view.score(line, k, names), _KNOWN: view.known(line, k, names)}
            return found | _costs(view.rows(line, k), line.trains) if groups else found

        title = view.title(f"{view.score_name} on all data", words(k))
        return _table(view, title, cells, names, k, _known_note(view.study))

    def details(k: int | None, name: str) -> Table:
        def cells(line: Line) -> dict[str, Cell]:
            costs = _costs(view.rows(line, k), line.trains, name)
            gain = view.score(line, k, [name], value="gain", style=f"+{view.style}")
            scores = {
                view.score_name: view.score(line, k, [name]),
                **{more: view.score(line, k, [name], value=more) for more in MORE_SCORES},
                "gain": gain if line.trains else "",
                _KNOWN: view.known(line, k, [name]),
            }
            return {_TRAINABLE: None, _SHARE: None, **scores, **costs}

        note = _known_note(view.study)
        return _table(view, view.title(name, words(k)), cells, [name], k, note)

    def words(k: int | None) -> str | None:
        return None if k is None else shots_in_words(k)

    found = []
    for k in view.study.shots:
        found += [overview(k)] if len(names) > 1 else []
        found += [details(k, name) for name in names]
    return found


def _known_note(study: Study) -> str | None:
    """Note on the forgetting column."""
    if not study.forgetting:
        return None
    data = ", ".join(study.forgetting)
    return (
        f"{_KNOWN}: mean over {data} with the tuner switched on; switched off, the model is the"
        " untuned one."
    )


def _stacking(view: View) -> list[Table]:
    study, frame, source = view.study, view.frame, str(view.study.source)
    seeds, found = len(study.seeds), []
    for k in study.shots:
        for other in (name for name in study.data if name != source):
            scores: list[dict[str, Cell]] = []
            costs: list[dict[str, Cell]] = []
            for one, two in study.pairs:
                names = {"in slot old": one, "in slot new": two}
                pair: dict[str, Cell] = {x: study.methods[y].label for x, y in names.items()}
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
                    for data in (source, other)
                    for which, (rows, planned) in tests.items()
                }
                scores.append({**pair, **cells})
                costs.append({**pair, **_costs(stack, True)})
            title = view.title(f"{source}, then {other}", None if k is None else shots_in_words(k))
            note = f"{view.score_name}, by data set and the slots that are switched on."
            found.append(Table(title, scores, (note,), view.host, (source, other), k))
            found.append(Table(f"{title}: cost of the second training", costs, host=view.host))
    return found


def _alignment(view: View) -> list[Table]:
    """Alignment of images and texts with the most shots."""
    k = most_shots(view.study)
    # In each protocol all lines have the same tests, so a gap is a missing result. Data that the
    # model already knows have a result after each training.
    tested = view.frame["tested_on"].isin(list(view.study.data))
    places = view.frame["place"][tested].unique().tolist()

    def cells(line: Line) -> dict[str, Cell]:
        found: dict[str, Cell] = {}
        for name in ("margin", "gap"):
            before, after = (
                mean_score(view.rows(line, k), f"{when}.{name}", places, view.seeds(line), ".4f")
                for when in ("before", "metric")
            )
            found[f"{name} before"] = before and replace(before, std=None)  # the same for all seeds
            found[f"{name} after"] = after
        return found

    if "metric.margin" not in view.frame or view.frame["metric.margin"].isna().all():
        return []
    note = (
        f"With {shots_in_words(k)}; means over all tests. margin: mean cosine of an image and the"
        " text of its class, minus that of an image and other classes; gap: distance of the mean"
        " image feature and the mean text feature. Before: all tuners off, on the same images."
    )
    return [_table(view, view.title("Alignment"), cells, note=note)]


def _cost(view: View) -> list[Table]:
    """Cost of the trainings with the most shots."""
    k = most_shots(view.study)
    lines = [line for line in view.lines if line.trains]
    note = f"With {shots_in_words(k)}; means over all trainings. Seconds are by the clock."
    table = _table(
        view,
        view.title("Cost"),
        lambda line: _costs(view.rows(line, k), True),
        note=note,
        lines=lines,
    )
    return [table] if lines else []


def _costs(rows: pd.DataFrame, trains: bool, data: str | None = None) -> dict[str, Cell]:
    """Trainable parameters, seconds, memory, file size: means over the trainings, of one data set
    if it is named.
    """
    if not trains:
        return dict.fromkeys((_TRAINABLE, _SHARE, *_COSTS), "")
    first: dict[str, int] = {}  # row of each training
    for i, (training, tested_on) in enumerate(
        zip(rows["training"], rows["tested_on"], strict=True)
    ):
        if data in (None, tested_on):
            first.setdefault(training, i)

    # Plain loops, as in mean_score().
    def values(name: str) -> list[float | None]:
        column = rows[name].tolist()
        return [None if pd.isna(x := column[i]) else float(x) for i in first.values()]

    pairs = zip(values("trainable"), values("base_parameters"), strict=True)
    counts = [(x, of) for x, of in pairs if x is not None and of is not None]
    found: dict[str, Cell] = {_TRAINABLE: _spread([x for x, _ in counts], ",.0f")}
    found[_SHARE] = _spread([x / of for x, of in counts], ".2%")
    for title, (name, scale, style) in _COSTS.items():
        known = [x * scale for x in values(name) if x is not None]
        found[title] = Score(float(np.mean(known)), style=style) if known else None
    return found


def _spread(values: Sequence[float], style: str) -> Cell:
    """One number, or minimum and maximum."""
    if not values:
        return None
    low, high = min(values), max(values)
    return Score(low, style=style) if low == high else f"{low:{style}} to {high:{style}}"


def _failed(frame: pd.DataFrame) -> list[Table]:
    failed = select(frame, status=FAILED)
    rows: list[Any] = (
        failed[["cell", "error"]].set_axis(["cell", "cause"], axis=1).to_dict("records")
    )
    return [Table("Failed", rows, ("Run the study again to compute them.",))] if rows else []
