"""The report of a check of an annotation file, and parsing of loosely typed values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsdpt.utils.detection_benchmarks import category_names
from mmsdpt.utils.errors import InputError, listed

from .image_files import ImageFacts

_SHOWN = 3  # entries in a message


@dataclass
class CocoReport:
    """The result of checking one annotation file.

    Args:
        path: The file.
        content: Its content as COCO's tools expect it: ids are numbers, no value is missing.
        changed: Whether ``content`` differs from the file.
        errors: Problems to fix: sentences with the affected entries.
        left_out: Entries that were left out.
        kinds: Kind of a conversion's finding for each sentence of ``left_out``, such as
            ``image_missing``.
        filled: Values that were filled in.
        doubtful: Entries that are used but may be misinterpreted.
        boxes: Usable boxes by category name.
        facts: What is known of the images that were decoded.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    errors: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    filled: dict[str, list[str]] = field(default_factory=dict)
    doubtful: dict[str, list[str]] = field(default_factory=dict)
    boxes: Counter[str] = field(default_factory=Counter)
    facts: dict[Path, ImageFacts] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The categories' names, without a root that only groups the others."""
        return category_names(self.content.get("categories", ()), +self.boxes)

    def images_also_in(self, others: Iterable[CocoReport]) -> list[Path]:
        """The images whose content is also in other files."""
        digests = {facts.digest for other in others for facts in other.facts.values()}
        return [path for path, facts in self.facts.items() if facts.digest in digests]

    def sentences(self, kind: str) -> list[str]:
        """``errors``, ``left_out``, ``filled`` or ``doubtful`` as sentences that count and name."""
        found: dict[str, list[str]] = getattr(self, kind)
        return [
            f"{sentence} ({len(entries)}: {listed(entries, _SHOWN)})" if entries else sentence
            for sentence, entries in found.items()
        ]

    def refuse(self) -> None:
        """Raise if there are errors.

        Raises:
            InputError: with all errors.
        """
        if self.errors:
            raise InputError(f"{self.path}: {'; '.join(self.sentences('errors'))}")

    def add(self, kind: str, sentence: str, entry: object = None) -> None:
        entries = getattr(self, kind).setdefault(sentence, [])
        if entry is not None:
            entries.append(str(entry))
        self.changed |= kind in ("left_out", "filled")

    def leave_out(self, kind: str, sentence: str, entry: object) -> None:
        """Count an entry that is left out, with its kind for a conversion."""
        self.kinds[sentence] = kind
        self.add("left_out", sentence, entry)


_MALFORMED = dict(
    images="image_malformed", categories="category_malformed", annotations="object_malformed"
)


def objects_of(report: CocoReport, content: dict, key: str) -> list[dict]:
    """A list of objects, without entries of other types."""
    value = content.get(key)
    if value is None:
        report.changed = True
        value = []
    if not isinstance(value, list):
        report.add("errors", f"'{key}' is a {type(value).__name__}, expected a list")
        value = []
    kept = []
    for number, entry in enumerate(value):
        if isinstance(entry, dict):
            kept.append(dict(entry))
        else:
            what = f"entries of '{key}' that are not objects"
            report.leave_out(_MALFORMED[key], what, number)
    content[key] = kept
    return kept


def as_number(value: Any) -> float | None:
    """A finite number, which may be written as a string; else None."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return None if isinstance(value, bool) or not math.isfinite(number) else number


def as_key(value: Any) -> Any:
    """A comparable id: "7", 7 and 7.0 are equal."""
    if type(value) is int:
        return value  # a large integer, which a float would round
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value) if len(value) < 50 else value
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() else str(value)
