"""Cells of a table: each is computed once, and a run that was broken off goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError


class CellError(RuntimeError):
    """A cell cannot be computed; the message is one line that says why."""


def digest(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a cell; the order of keys does not count."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


class CellBook:
    """Results of cells by name, in one JSON file that is replaced atomically.

    A result holds as long as the inputs of its cell are the same. What failed is tried again in the
    next run. Safe to use from several threads.

    Args:
        path: The file; made with the first result.

    Attributes:
        errors: Why cells of this run failed, by name.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.errors: dict[str, str] = {}
        self._lock = threading.Lock()
        self._cells: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                self._cells = dict(json.loads(self.path.read_text(encoding="utf-8"))["cells"])
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"{self.path} does not hold results ({type(error).__name__}: {error}): remove"
                    " it to start anew, or choose another --work-dir"
                ) from None

    def run(
        self,
        name: str,
        inputs: Callable[[], Mapping[str, Any]],
        work: Callable[[], Mapping[str, Any]],
        is_whole: Callable[[Mapping[str, Any]], bool] = bool,
    ) -> dict[str, Any] | None:
        """The result of a cell, computed unless it is known.

        Args:
            name: Of the cell.
            inputs: Gives what decides the result, in JSON's types.
            work: Computes the result, in JSON's types.
            is_whole: Whether what a known result speaks of is still there, such as files.

        Returns:
            The result; None if ``inputs`` or ``work`` raised :class:`CellError` or
            :class:`InputError`, which is recorded.
        """
        key = None
        try:
            key = digest(inputs())
            known = self._cells.get(name, {})
            if known.get("key") == key and "result" in known and is_whole(known["result"]):
                return known["result"]
            result = dict(work())
        except (CellError, InputError) as error:
            self.fail(name, str(error), key)
            return None
        self._record(name, dict(key=key, result=result))
        return result

    def fail(self, name: str, error: str, key: str | None = None) -> None:
        """Record that a cell has no result."""
        self.errors[name] = error
        self._record(name, dict(key=key, error=error))

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        with self._lock:
            self._cells[name] = entry
            content = json.dumps(dict(cells=self._cells), indent=1, sort_keys=True)
            write_atomically(self.path, content.encode())
