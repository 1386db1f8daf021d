"""Results as rows of one table, with all that is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .methods import ZERO_SHOT
from .plan import Cell, Training

MEASURES = ("matched", "unmatched", "margin", "gap")
Row = Mapping[str, Any]


def to_rows(
    protocol: str, model: str, results: Mapping[Cell, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each cell: what it is, accuracy, alignment before and after tuning, cost.

    Alignment before tuning is that of the model with its tuners switched off, on the same images.

    Args:
        protocol: Its name.
        model: Name of the model.
        results: Of the cells.
    """
    rows = []
    for cell, result in results.items():
        training = cell.training
        before = results.get(Cell(Training(ZERO_SHOT), cell.target, cell.classes), {})
        row: dict[str, Any] = dict(
            protocol=protocol,
            model=model,
            method=training.method,
            trained_on=training.source,
            trained_classes=training.classes if training.source else None,
            shots=training.shots,
            seed=training.seed,
            dataset=cell.target,
            classes=cell.classes,
        )
        row.update({name: result.get(name) for name in ("accuracy", "correct", "total")})
        row["num_classes"] = result.get("num_classes")
        for name in MEASURES:
            row[f"{name}_before"] = before.get(name)
            row[f"{name}_after"] = result.get(name)
        for name in ("trainable", "epochs", "steps", "train_seconds", "test_seconds"):
            row[name] = result.get(name)
        found = result.get("versions") or {}
        row.update(
            mmsdpt=found.get("mmsdpt"),
            torch=found.get("torch"),
            device=result.get("device"),
            error=result.get("error"),
        )
        rows.append(row)
    return rows


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]
