"""Tables of measured results as a Markdown page, CSV or JSON."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError
from mmsdpt.version import __version__

FORMATS = (".md", ".csv", ".json")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of the value in a row; a row without it has an empty cell.
        title: Heading on a page.
        style: Format of a value on a page, as in ``format``.
        scale: What a value is multiplied by on a page, to its unit there.
        numeric: Whether it is aligned to the right.
    """

    key: str
    title: str
    style: str = ""
    scale: float = 1
    numeric: bool = True

    def cell(self, row: Mapping[str, Any]) -> str:
        """The value of ``row``, in Markdown."""
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, str):
            return value.replace("|", "\\|")
        return format(value * self.scale, self.style)


def to_markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, without a line break at its end."""
    lines = [
        f"| {' | '.join(column.title for column in columns)} |",
        f"|{'|'.join('--:' if column.numeric else '---' for column in columns)}|",
    ]
    lines += [f"| {' | '.join(column.cell(row) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """All values under the names of all keys, in the order in which they first come."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def check_format(path: str | Path) -> None:
    """Raise :class:`InputError` unless the ending of ``path`` names a format."""
    if Path(path).suffix not in FORMATS:
        raise InputError(f"--out ends in {', '.join(FORMATS)}, got {path}")


def write_report(
    path: Path, page: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """Write the results in the format that the ending of ``path`` names.

    Args:
        path: ``.md`` for the page, ``.csv`` or ``.json`` for all values.
        page: The Markdown page.
        rows: What it shows.
        facts: What belongs to all rows, for JSON.
    """
    check_format(path)
    if path.suffix == ".md":
        text = page
    elif path.suffix == ".csv":
        text = to_csv(rows)
    else:
        text = json.dumps(dict(facts, rows=list(rows)), indent=2) + "\n"
    write_atomically(path, text.encode())


def run_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to all rows, as the fields of a page's template: versions as one line of text.

    Args:
        facts: As :meth:`mmsdpt.analysis.table_runs.TableRun.facts` gives them.
    """
    listed = (f"{name} {version}" for name, version in facts["versions"].items())
    return dict(facts, versions=", ".join(listed))


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = dict(mmsdpt=__version__, python=platform.python_version(), torch=torch.__version__)
    for names in (("onedl-mmdetection", "mmdet"), ("transformers",)):
        for name in names:
            try:
                found[names[-1]] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found
