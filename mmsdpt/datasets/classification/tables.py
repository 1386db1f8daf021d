"""Your own data listed in a file: CSV, or CoOp's JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmsdpt.datasets.split_names import split_of
from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError

from .items import Item, inside, join, read_split
from .own_data import OwnData, is_number, number_key


class _ListedData(OwnData):
    """Images listed in a file."""

    def __init__(self, root: str | Path, file: str, image_dir: str = "", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.file = file
        self.image_dir = image_dir

    def _title(self) -> str:
        return str(self.root / self.file)


class CsvFile(_ListedData):
    """A CSV file with the columns ``path``, ``class`` or ``label`` or both, and optionally
    ``split``.

    Classes are sorted by their labels (numerically if all are numbers) or, without labels, by their
    names. With only one of the two columns, ``classnames.txt`` may give names, with lines
    ``<label or class> <name>``; class names that it lacks are kept. "1.0", as written by pandas, is
    the label 1 in both files.
    """

    def _read(self) -> dict[str, list[Item]]:
        text = self.text(self.file)
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)  # spreadsheets also write semicolons and tabs
        reader = csv.DictReader(io.StringIO(text), strict=True, delimiter=delimiter)
        try:
            names = reader.fieldnames or []
        except csv.Error as error:
            raise InputError(f"{self._title()}, line 1: {error}; expected CSV") from error
        columns = {name.strip().lower(): name for name in names if name}
        if len(columns) < len([name for name in names if name]):
            raise InputError(f"{self._title()} has a repeated column: {', '.join(names)}")
        if "path" not in columns or not {"class", "label"} & set(columns):
            raise InputError(
                f"{self._title()} has the columns {', '.join(columns) or 'none'}; expected "
                "path, class or label, and optionally split, separated by commas"
            )
        rows = []
        try:
            for row in reader:
                if any(row.pop(None, ())):
                    raise InputError(
                        f"{self._title()}, line {reader.line_num}, has more cells than the header; "
                        "put a path with a comma in quotes"
                    )
                cells = {name: (row[key] or "").strip() for name, key in columns.items()}
                if not any(cells.values()):
                    continue  # spreadsheets write empty rows
                cells |= {
                    name: one_form(cells[name]) for name in ("class", "label") if name in cells
                }
                rows.append(self._row(cells, reader.line_num))
        except csv.Error as error:
            raise InputError(
                f"{self._title()}, line {reader.line_num}: {error}; expected CSV"
            ) from error
        return self._label(rows, are_names="label" not in columns)

    def _row(self, cells: dict[str, str], line: int) -> tuple[str, str, str, str | None]:
        """Split, path, key and name of a row."""
        where = f"{self._title()}, line {line},"
        key = cells.get("label") or cells.get("class", "")
        if not key:
            raise InputError(f"{where} has no class; every image needs one")
        split = ""
        if "split" in cells:
            found = split_of(cells["split"])
            if found is None:
                raise InputError(
                    f"{where} has the split {cells['split']!r}; expected train, val or test"
                )
            split = found
        path = join(self.image_dir, inside(cells["path"], where))
        return split, path, key, (cells.get("class") or None) if "label" in cells else None

    def _label(
        self, rows: list[tuple[str, str, str, str | None]], are_names: bool
    ) -> dict[str, list[Item]]:
        as_numbers = all(is_number(key) for _, _, key, _ in rows)
        if as_numbers:
            rows = [(split, path, number_key(key), name) for split, path, key, name in rows]
        # Not a set, whose order is another one in each process: "1" and "01" are equal as numbers.
        keys = dict.fromkeys(key for _, _, key, _ in rows)
        ordered = sorted(keys, key=float if as_numbers else None)
        labels = {key: label for label, key in enumerate(ordered)}
        unnamed = {key for _, _, key, name in rows if name is None}
        names = self.names_of((key for key in ordered if key in unnamed), are_names)
        splits: dict[str, list[Item]] = {}
        for split, path, key, name in rows:
            item = Item(path, labels[key], name or names[key])
            splits.setdefault(split, []).append(item)
        return splits


class JsonFile(_ListedData):
    """A file in the format of CoOp's ``split_zhou_*.json``; see :func:`.items.read_split`."""

    def _read(self) -> dict[str, list[Item]]:
        splits = read_split(self.root / self.file, self.image_dir)
        return {
            split: [replace(item, class_name=one_form(item.class_name)) for item in items]
            for split, items in splits.items()
        }
