"""Splits that come with a VOC dataset: lists under ImageSets, or folders."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmsdpt.datasets.split_names import split_of
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text

from .common import Sample
from .files import LabelRefused, read_label, resolve_inside
from .report import ConversionReport


def listed_splits(
    root: Path, samples: Sequence[Sample], report: ConversionReport
) -> dict[str, list[Sample]]:
    """Reads ``ImageSets/Main`` (any case; CVAT writes ``Train.txt`` and ``Validation.txt``), where
    ``trainval`` serves if ``train`` is absent.

    Returns:
        Samples by split, empty where there are no lists.
    """
    lists: dict[str, Path] = {}
    for path in sorted((root / "ImageSets" / "Main").glob("*.[tT][xX][tT]")):
        split = split_of(path.stem)
        if split in lists:
            raise InputError(f"{lists[split]} and {path} list the same split; remove one of them.")
        if split is not None:
            lists[split] = path
    if "train" not in lists:
        lists["train"] = root / "ImageSets" / "Main" / "trainval.txt"
    by_key: dict[str, Sample] = {}
    for sample in samples:
        by_key.setdefault(sample.key, sample)
    splits: dict[str, list[Sample]] = {}
    for name, path in lists.items():
        if not path.exists():
            continue
        if resolve_inside(root, path) is None:
            report.add("path_refused", path, "link to a file outside")
            continue
        try:
            text = decode_text(read_label(path))
        except (LabelRefused, InputError) as error:
            raise InputError(f"The split list {path} cannot be read: {error}.") from error
        splits[name] = []
        taken: set[str] = set()
        for number, line in enumerate(text.split("\n"), start=1):
            entry = line.split()[0] if line.strip() else ""
            where = f"{report.name(path)}:{number}"
            if not entry:
                continue
            listed = by_key.get(entry) or by_key.get(PurePosixPath(entry).stem)
            if entry in taken:
                report.add("image_listed_twice", where, entry)
            elif listed is None:
                report.add("listed_absent", where, entry)
            else:
                splits[name].append(listed)
            taken.add(entry)
    if splits:
        _account(splits, samples, report)
    return splits


def folder_splits(samples: Sequence[Sample], report: ConversionReport) -> dict[str, list[Sample]]:
    """Splits by folders named train, val or valid, and test; with fewer than two of them all is
    train.
    """
    splits: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        split = folder_split(PurePosixPath(report.name(sample.image)))
        if split is not None:
            splits[split].append(sample)
    if len(splits) < 2:
        report.add("no_split", report.root.name)
        return {"train": list(samples)}
    _account(splits, samples, report)
    return splits


def folder_split(path: PurePosixPath) -> str | None:
    """Returns the split that the innermost folder named like one stands for, or None."""
    named = [split for part in path.parent.parts if (split := split_of(part)) is not None]
    return named[-1] if named else None


def _account(
    splits: dict[str, list[Sample]], samples: Sequence[Sample], report: ConversionReport
) -> None:
    """Counts the images in no split, and those in several as found once more."""
    used: set[Path] = set()
    for sample in (sample for chosen in splits.values() for sample in chosen):
        if sample.image in used:
            report.images_found += 1
            report.boxes_found += len(sample.instances)
        used.add(sample.image)
    for sample in samples:
        if sample.image not in used:
            report.drop_image("not_in_split", sample.image, boxes=len(sample.instances))
