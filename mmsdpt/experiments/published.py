"""Published numbers beside ours, and differences in the settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmsdpt.utils.errors import InputError

from .frame import Score
from .study import Study
from .view import MISSING, Cell, Table, as_text


def published_entries(study: Study) -> list[dict[str, Any]]:
    """The published numbers of a study, from an attribute ``PUBLISHED`` of a module.

    Each is a dict: ``protocol``; ``source``, the paper and its table; and either ``sentence``, or
    ``title``, ``setting`` and ``values``. ``setting`` has ``host``, ``data`` (a list of names),
    ``shots``, ``seeds`` (a number) and ``epochs`` as far as they are known, which are compared with
    the study's, and any other key, which is shown. ``values`` are numbers by method, in
    ``stacking`` by the pair, and column of our table; ``labels`` those of methods that the study
    lacks.

    Returns:
        Those of the study's protocol that share a model or a data set with it, or else the first.

    Raises:
        InputError: if there is no such module, or it has no ``PUBLISHED``.
    """
    if not study.published:
        return []
    try:
        module = importlib.import_module(study.published)
        found = [each for each in module.PUBLISHED if each["protocol"] == study.protocol]
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"study.published must be a module with PUBLISHED, got {study.published!r}: {error}"
        ) from error

    def shares(setting: Mapping[str, Any]) -> bool:
        return setting.get("host") in study.hosts or any(
            x in study.data for x in setting.get("data", ())
        )

    return [each for each in found if "setting" in each and shares(each["setting"])] or found[:1]


def published_tables(study: Study, frame: pd.DataFrame, tables: Sequence[Table]) -> list[Table]:
    """Published numbers beside those of our most similar table."""
    found = []
    for entry in (each for each in published_entries(study) if "values" in each):
        columns = list(dict.fromkeys(name for row in entry["values"].values() for name in row))
        fitting = [table for table in tables if table.data and set(columns) & set(table.columns)]
        if fitting:
            ours = max(fitting, key=lambda table: _nearness(table, entry["setting"]))  # noqa: B023
            notes = (f"Source: {entry['source']}.", _differences(study, frame, ours, entry))
            rows = _rows(study, entry, columns, ours)
            found.append(Table(f"Published: {entry['title']}", rows, notes))
    return found


def _nearness(table: Table, setting: Mapping[str, Any]) -> tuple[Any, ...]:
    same = [getattr(table, name) == setting.get(name) for name in ("host", "shots")]
    return *same, len({*setting.get("data", ())} & {*table.data}), len(table.data)


def _rows(
    study: Study, entry: Mapping[str, Any], columns: Sequence[str], ours: Table
) -> list[dict[str, Cell]]:
    keys = ours.columns[: 2 if study.protocol == "stacking" else 1]
    names_of = [tuple(row[key] for key in keys) for row in ours.rows]
    # A method with several varied settings has no one number to compare.
    known = {
        own: row for own, row in zip(names_of, ours.rows, strict=True) if names_of.count(own) == 1
    }
    labels = {**entry.get("labels", {}), **{x: y.label for x, y in study.methods.items()}}
    rows = []
    for names, numbers in entry["values"].items():
        own = tuple(labels[x] for x in ((names,) if isinstance(names, str) else names))
        row: dict[str, Cell] = dict(zip(keys, own, strict=True))
        for column in columns:
            style = ".1f" if column.startswith("AP") or study.protocol == "stacking" else ".2f"
            number = numbers.get(column)
            row[f"{column}, published"] = "" if number is None else Score(number, style=style)
            row[f"{column}, here"] = known[own].get(column) if own in known else ""
        rows.append(row)
    return rows


def _differences(study: Study, frame: pd.DataFrame, ours: Table, entry: Mapping[str, Any]) -> str:
    epochs = frame.loc[frame["host"] == ours.host, "epochs"].dropna().unique()
    here = dict(
        host=ours.host,
        data=list(ours.data),
        shots=ours.shots,
        seeds=len(study.seeds),
        epochs=" or ".join(map(str, sorted(epochs))),
    )
    differs = [
        f"{name}: {as_text(there)} there"
        + (f", {as_text(here[name]) or MISSING} here" if name in here else "")
        for name, there in entry["setting"].items()
        if name not in here or _sorted(there) != _sorted(here[name])
    ]
    return f"What differs: {'; '.join(differs)}." if differs else "The same setting."


def _sorted(value: Any) -> Any:
    """A list without its order, all else as text."""
    return sorted(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
