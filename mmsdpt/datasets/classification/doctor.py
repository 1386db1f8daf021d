"""Check the benchmarks' data on disk: folders, files, counts, images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mmsdpt.utils.errors import InputError, listed

from .benchmarks import BENCHMARKS, Benchmark
from .images import find_unreadable
from .items import SPLITS, Item
from .source import Source

SHOWN = 3
_BATCH = 200  # images between two calls of the progress bar


@dataclass
class Finding:
    """The result of checking one benchmark.

    Args:
        num_classes: Number of classes found, if readable.
        counts: Number of images found, by split.
        problems: Sentences; empty if there are none.
    """

    name: str
    there: bool = True
    num_classes: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``OK``, ``not there`` or ``WRONG``."""
        if not self.there:
            return "not there"
        return "WRONG" if self.problems else "OK"


def examine(
    name: str,
    data_root: str | Path,
    check_images: bool = False,
    advance: Callable[[int], object] | None = None,
) -> Finding:
    """Check one benchmark.

    Args:
        data_root: Folder that holds the benchmarks' folders.
        check_images: Decode every image.
        advance: Called with the number of images decoded since the last call.
    """
    benchmark, root = BENCHMARKS[name], Path(data_root)
    if not (root / name).is_dir():
        return Finding(name, there=False, problems=[_missing_folder(root, name)])
    finding = Finding(name)
    for path in benchmark.folders:
        if not (root / path).is_dir():
            finding.problems.append(_missing_folder(root, path))
    for path in benchmark.files:
        shared_names = path.endswith("classnames.txt") and "imagenet/classnames.txt"
        if not (root / path).is_file() and not (shared_names and (root / shared_names).is_file()):
            finding.problems.append(f"the file {root / path} is missing{_near(root / path)}")
    source = benchmark.open(root)
    _count_classes(finding, benchmark, source)
    for split in benchmark.counts:
        _examine_split(finding, benchmark, source, split, check_images, advance)
    return finding


def _count_classes(finding: Finding, benchmark: Benchmark, source: Source) -> None:
    try:
        finding.num_classes = len(source.class_names())
    except InputError as error:
        _add(finding, str(error))
        return
    if finding.num_classes != benchmark.num_classes:
        finding.problems.append(f"{finding.num_classes} classes instead of {benchmark.num_classes}")


def _examine_split(
    finding: Finding,
    benchmark: Benchmark,
    source: Source,
    split: str,
    check_images: bool,
    advance: Callable[[int], object] | None,
) -> None:
    try:
        items = source.items(split)
    except InputError as error:
        _add(finding, str(error))
        return
    finding.counts[split] = len(items)
    if len(items) != benchmark.counts[split]:
        finding.problems.append(
            f"{len(items):,} {split} images instead of {benchmark.counts[split]:,}"
        )
    missing = []
    if source.lists_images:
        missing = [item.path for item in items if not (source.root / item.path).is_file()]
    if missing:
        finding.problems.append(
            f"{len(missing):,} of {len(items):,} {split} images are missing:"
            f" {listed(missing, SHOWN)}"
        )
    if check_images:
        gone = set(missing)
        bad = _decode(source.root, [item for item in items if item.path not in gone], advance)
        if bad:
            named = listed((f"{path} ({reason})" for path, reason in bad), SHOWN)
            finding.problems.append(f"{len(bad):,} {split} images cannot be read: {named}")


def _decode(
    root: Path, items: Sequence[Item], advance: Callable[[int], object] | None
) -> list[tuple[str, str]]:
    bad = []
    for start in range(0, len(items), _BATCH):
        part = items[start : start + _BATCH]
        bad += find_unreadable(root, [item.path for item in part])
        if advance is not None:
            advance(len(part))
    return bad


def _add(finding: Finding, sentence: str) -> None:
    """Add an error of a reader, unless the same folder or file was already reported."""
    missing = " is missing"
    what = sentence.partition(missing)[0] + missing if missing in sentence else sentence
    if not any(problem.startswith(what) for problem in finding.problems):
        finding.problems.append(sentence)


def _missing_folder(root: Path, path: str) -> str:
    """A sentence about a missing folder, with its outermost missing part."""
    missing = root / path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    return f"the folder {root / path} is missing{_near(missing)}"


def _near(path: Path) -> str:
    """A hint at an existing name similar to that of ``path``."""
    if not path.parent.is_dir():
        return ""
    there = {other.name.lower(): other.name for other in path.parent.iterdir()}
    for near in difflib.get_close_matches(path.name.lower(), there, n=1, cutoff=0.75):
        # The folder of another benchmark is not a misspelling.
        if there[near] not in BENCHMARKS:
            return f"; did you mean {there[near]}?"
    return ""


def all_well(findings: Iterable[Finding], required: bool) -> bool:
    """Whether no problems were found.

    Args:
        findings: Findings of all datasets.
        required: Whether a missing dataset is a problem. Otherwise at least one must exist.
    """
    findings = list(findings)
    if required:
        return all(finding.state == "OK" for finding in findings)
    states = {finding.state for finding in findings}
    return "WRONG" not in states and "OK" in states


def as_table(findings: Iterable[Finding]) -> Table:
    """One row for each benchmark; problems are lines of the last column."""
    table = Table("dataset", "state", "classes", "train", "val", "test", "what is wrong")
    for column in table.columns[2:6]:
        column.justify = "right"
    table.columns[-1].overflow = "fold"  # a truncated URL or path would be useless
    colours = {"OK": "green", "WRONG": "red", "not there": "yellow"}
    for finding in findings:
        counts = [f"{finding.counts[key]:,}" if key in finding.counts else "" for key in SPLITS]
        classes = "" if finding.num_classes is None else f"{finding.num_classes:,}"
        # Text, because a path may look like markup.
        problems = Text("\n".join(finding.problems))
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.name, state, classes, *counts, problems)
    return table
