"""Splits that come with a VOC dataset: lists under ImageSets, or folders."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmsdpt.datasets.split_names import split_of, splits_of_folders
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text, folded

from .common import Sample
from .files import LabelRefused, read_label, scan
from .report import ConversionReport


def listed_splits(
    root: Path, samples: Sequence[Sample], report: ConversionReport
) -> dict[str, list[Sample]]:
    """Reads ``ImageSets/Main``, or ``ImageSets`` if there is no ``Main`` (any case, at any depth:
    ``VOCdevkit/VOC2007``; CVAT writes ``Train.txt`` and ``Validation.txt``). ``trainval`` is read
    if there is no ``train``.

    Returns:
        Samples by split, empty where there are no lists.
    """
    by_end: dict[str, list[Sample]] = defaultdict(list)
    by_folded: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        for end in _ends(sample.key):
            by_end[end].append(sample)
            by_folded[folded(end)].append(sample)
    splits: dict[str, list[Sample]] = {}
    for name, path in _lists(root):
        try:
            text = decode_text(read_label(path))
        except (LabelRefused, InputError) as error:
            raise InputError(f"The split list {path} cannot be read: {error}.") from error
        chosen = splits.setdefault(name, [])
        taken = {id(sample) for sample in chosen}
        for number, line in enumerate(text.split("\n"), start=1):
            entry = line.strip().replace("\\", "/")
            where = f"{report.name(path)}:{number}"
            if not entry:
                continue
            alike = _named(entry, by_end) or _named(folded(entry), by_folded)
            if not alike:
                report.add("listed_absent", where, entry)
            elif len(alike) > 1:
                report.add("listed_absent", where, f"{entry} may be any of {len(alike)} files")
            elif id(alike[0]) in taken:
                report.add("image_listed_twice", where, entry)
            else:
                chosen.append(alike[0])
                taken.add(id(alike[0]))
    if splits:
        _account(splits, samples, report)
    return splits


def _lists(root: Path) -> list[tuple[str, Path]]:
    """Split and path of each list.

    Raises:
        InputError: if a folder has two lists for one split.
    """
    found: dict[tuple[Path, str], Path] = {}
    trainval: list[Path] = []
    texts = scan(root, root, {".txt"}, ConversionReport(root, "voc"))
    main = {path.parent for path in texts if _folders(path) == ["imagesets", "main"]}
    above = {folder.parent for folder in main}
    for path in texts:
        split = split_of(path.stem)
        directly = _folders(path)[-1] == "imagesets" and path.parent not in above
        if path.parent not in main and not directly:
            continue
        if path.stem.lower() == "trainval":
            trainval.append(path)
        elif split is not None:
            if (other := found.setdefault((path.parent, split), path)) != path:
                raise InputError(f"{other} and {path} list the same split; remove one of them.")
    for path in trainval:
        found.setdefault((path.parent, "train"), path)
    return [(split, path) for (_, split), path in found.items()]


def _folders(path: Path) -> list[str]:
    return [part.lower() for part in path.parent.parts[-2:]]


def _named(entry: str, by_end: Mapping[str, list[Sample]]) -> list[Sample]:
    """The samples of a line: a name or path, with or without suffix, and with or without a 1, 0 or
    -1 after it, as in VOC's lists for one class.
    """
    plain = re.sub(r"\s+[+-]?[01]$", "", entry)
    for name in (entry, plain, entry.rpartition(".")[0], plain.rpartition(".")[0]):
        for end in _ends(name):
            if end in by_end:
                return by_end[end]
    return []


def _ends(path: str) -> list[str]:
    """All ends of a path, such as ``b/c`` of ``a/b/c``, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def folder_splits(samples: Sequence[Sample], report: ConversionReport) -> dict[str, list[Sample]]:
    """Splits by the names of folders; with fewer than two splits all is train."""
    splits: dict[str, list[Sample]] = defaultdict(list)
    paths = [sample.image.relative_to(report.root) for sample in samples]
    for sample, split in zip(samples, splits_of_folders(paths), strict=True):
        if split is not None:
            splits[split].append(sample)
    if len(splits) < 2:
        report.add("no_split", report.root.name)
        return {"train": list(samples)}
    _account(splits, samples, report)
    return splits


def _account(
    splits: dict[str, list[Sample]], samples: Sequence[Sample], report: ConversionReport
) -> None:
    """Counts the images in no split; counts an image in several splits as found several times."""
    used: set[Path] = set()
    for sample in (sample for chosen in splits.values() for sample in chosen):
        if sample.image in used:
            report.images_found += 1
            report.boxes_found += len(sample.instances)
        used.add(sample.image)
    for sample in samples:
        if sample.image not in used:
            report.drop_image("not_in_split", sample.image, boxes=len(sample.instances))
