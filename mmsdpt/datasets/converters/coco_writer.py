"""Write a dataset as COCO JSON for ``CocoDataset``."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmsdpt.utils.atomic import staged
from mmsdpt.utils.class_names import name_problems
from mmsdpt.utils.errors import InputError, printable

from .common import Instance, ProblemsFound, Sample
from .files import ImageMode, place_image, write_json
from .report import PROBLEMS, ConversionReport
from .split import SPLITS

REPORT_FILE = "conversion_report.json"


def check_output(out: Path | None, root: Path, overwrite: bool) -> None:
    """Refuses an output folder in which the source, or an earlier conversion, would be overwritten.

    Raises:
        InputError: With advice.
    """
    if out is None:
        return
    if root.is_relative_to(out.resolve()):
        raise InputError(
            f"--out {out} is or contains the source folder; choose another folder for the result."
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; choose a folder for the result.")
    there = [name for name in SPLITS if (out / "annotations" / f"{name}.json").exists()]
    if there and not overwrite:
        raise InputError(
            f"{out / 'annotations'} already holds {', '.join(f'{name}.json' for name in there)}; "
            "choose another --out, or pass --overwrite."
        )


def check_classes(categories: Sequence[str], report: ConversionReport) -> None:
    """Refuses classes that a model cannot distinguish, and notes doubtful names.

    Raises:
        InputError: Naming the classes and what to do.
    """
    wrong, same, unknown = name_problems(categories)
    if wrong or same:
        raise InputError(
            f"the class names of {report.root}: {'; '.join(wrong + same)}; use --rename OLD=NEW to"
            " rename classes, or to merge classes under the same name."
        )
    for text in unknown:
        report.add("class_name_doubtful", text)


def note_renames(rename: Mapping[str, str], names: Sequence[str], report: ConversionReport) -> None:
    """Notes the classes that were renamed.

    Raises:
        InputError: if one of them is not there.
    """
    for old, new in rename.items():
        if old not in names:
            raise InputError(
                f"--rename has {old!r}, which is not one of the classes: {', '.join(names)}."
            )
        report.add("class_renamed", f"{old} to {new}")


def chosen_classes(classes: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The classes to convert, in the order of their ids; by default all, each once.

    Raises:
        InputError: if there are none, or one is not known or is named twice.
    """
    known = list(dict.fromkeys(known))
    if classes is None:
        return known
    if not classes or not set(classes) <= set(known) or len(set(classes)) != len(classes):
        raise InputError(
            f"--classes must be different names from {', '.join(known)}; got '{','.join(classes)}'."
        )
    return list(classes)


def write_coco(
    out: Path | None,
    splits: dict[str, list[Sample]],
    categories: Sequence[str],
    images: ImageMode,
    report: ConversionReport,
    strict: bool = False,
    progress: bool = True,
) -> None:
    """Writes images, ``annotations/{split}.json`` and the report: all of them, or after an error
    none, and then an earlier conversion is as it was.

    Images go to ``images/{split}/``; ``in-place`` leaves them where they are and writes absolute
    paths instead. Category ids are 1..C in the order of ``categories``; image and annotation ids
    count from 1 in every split, in the order of the images' paths.

    Args:
        out: Folder for the result; None writes nothing and only completes the report.
        images: What to do with the images.
        strict: Write nothing if there is any problem.

    Raises:
        ProblemsFound: if ``strict`` and there is any problem. Nothing is written then.
        InputError: if there is no image to write, all boxes were lost, or class names are invalid.
    """
    splits = {
        name: sorted(splits[name], key=lambda s: report.name(s.image))
        for name in SPLITS
        if splits.get(name)
    }
    if not splits:
        raise InputError(f"No usable image was found in {report.root} ({_summary(report)}).")
    _refuse_without_boxes(splits, report)
    check_classes(categories, report)
    for samples in splits.values():
        _drop_repeats(samples, report)
    report.categories = tuple(categories)
    _count_repeats(splits, report)
    names = {name: _file_names(samples, images, report) for name, samples in splits.items()}
    contents = {
        name: _coco_dict(samples, names[name], categories) for name, samples in splits.items()
    }
    for name, samples in splits.items():
        boxes = Counter(instance.category for sample in samples for instance in sample.instances)
        report.splits[name] = {
            "images": len(samples),
            "images_without_boxes": sum(not sample.instances for sample in samples),
            "boxes": sum(boxes.values()),
            "boxes_per_category": {category: boxes[category] for category in categories},
        }
        for sample in samples:
            if not sample.instances:
                report.add("image_without_boxes", sample.image)
    if strict and report.problems:
        raise ProblemsFound(report)

    if out is None:
        return
    with staged(out, last="annotations") as stage:
        for name, samples in splits.items():
            pairs = list(zip(samples, names[name], strict=True))
            for sample, file_name in tqdm(
                pairs, desc=f"{name} images", unit="img", disable=not progress
            ):
                place_image(sample.image, stage / "images" / name / file_name, images)
        for name, content in contents.items():
            write_json(stage / "annotations" / f"{name}.json", content)
        write_json(stage / "annotations" / REPORT_FILE, report.to_dict())
        for name in SPLITS:  # remove files of an earlier conversion
            (out / "annotations" / f"{name}.json").unlink(missing_ok=True)


def _refuse_without_boxes(splits: dict[str, list[Sample]], report: ConversionReport) -> None:
    """Refuses a conversion if every box was lost, no image has a label, or all labels are empty."""
    samples = [sample for group in splits.values() for sample in group]
    if any(sample.instances for sample in samples):
        return
    if report.boxes_found:
        raise InputError(
            f"None of the {report.boxes_found} boxes of {report.root} can be used"
            f" ({_summary(report)})."
        )
    if report.counts["label_missing"] >= len(samples):
        raise InputError(
            f"No label was found for any of the {len(samples)} images of {report.root}"
            f" ({_summary(report)}); images and labels must have the same names, in the same folder"
            " or in folders named images and labels."
        )
    raise InputError(
        f"The labels of {report.root} are empty: none of the {len(samples)} images has a box, so"
        f" there is nothing to train on ({_summary(report)})."
    )


def _summary(report: ConversionReport) -> str:
    """The problems, each with the first place where it was found."""
    kinds = []
    for kind, count in sorted(report.counts.items()):
        if kind in PROBLEMS:
            where, detail = report.named[kind][0]
            told = printable(f"{where[:80]}: {detail[:80]}" if detail else where[:160], None)
            kinds.append(f"{count} {kind}, first {told}")
    return "; ".join(kinds[:3]) or f"{report.images_found} images"


def _drop_repeats(samples: Sequence[Sample], report: ConversionReport) -> None:
    """Removes repeated boxes of an image."""
    for sample in samples:
        found: dict[tuple, Instance] = {}
        for instance in sample.instances:
            same = (instance.category, instance.box)
            if same in found:
                report.drop_box("box_repeated", sample.image, instance.category)
            found.setdefault(same, instance)
        sample.instances = list(found.values())


def _count_repeats(splits: dict[str, list[Sample]], report: ConversionReport) -> None:
    seen: dict[Path, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            image = sample.image.resolve()  # two links may point to one image
            if image in seen:
                report.add("image_in_two_splits", sample.image, f"{seen[image]} and {name}")
            else:
                seen[image] = name


def _file_names(
    samples: Sequence[Sample], images: ImageMode, report: ConversionReport
) -> list[str]:
    """Names of the images under ``images/{split}/``, or absolute paths for ``in-place``."""
    if images == "in-place":
        return [str(sample.image.resolve()) for sample in samples]
    taken: set[str] = set()
    names = []
    for sample in samples:
        name, number = sample.image.name, 1
        while name.lower() in taken:  # some file systems ignore case
            number += 1
            name = f"{sample.image.stem}__{number}{sample.image.suffix}"
        if number > 1:
            report.add("image_name_taken", sample.image, f"written as {name}")
        taken.add(name.lower())
        names.append(name)
    return names


def _coco_dict(
    samples: Sequence[Sample], names: Sequence[str], categories: Sequence[str]
) -> dict[str, Any]:
    ids = {category: number for number, category in enumerate(categories, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (sample, name) in enumerate(zip(samples, names, strict=True), start=1):
        images.append(
            {"id": image_id, "file_name": name, "width": sample.width, "height": sample.height}
        )
        for instance in sample.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[instance.category],
                    "bbox": list(instance.box),
                    "area": round(instance.box[2] * instance.box[3], 4),
                    "iscrowd": 0,
                    **instance.extra,
                }
            )
    return {
        "info": {"description": "converted to COCO by mmsdpt"},
        "licenses": [],
        "categories": [
            {"id": ids[name], "name": name, "supercategory": "none"} for name in categories
        ],
        "images": images,
        "annotations": annotations,
    }
