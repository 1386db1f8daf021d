"""Writing a dataset as COCO JSON that ``CocoDataset`` reads directly."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .common import ConverterError, ProblemsFound, Sample
from .files import ImageMode, place_image, write_json
from .report import ConversionReport
from .split import SPLITS


def check_output(out: Path, root: Path, overwrite: bool) -> None:
    """Refuses an output folder in which the source, or an earlier conversion, would be overwritten.

    Raises:
        ConverterError: With what to do instead.
    """
    if root.is_relative_to(out.resolve()):
        raise ConverterError(
            f"--out {out} is or contains the source folder; choose another folder for the result."
        )
    if out.exists() and not out.is_dir():
        raise ConverterError(f"--out {out} is a file; choose a folder for the result.")
    there = [name for name in SPLITS if (out / "annotations" / f"{name}.json").exists()]
    if there and not overwrite:
        raise ConverterError(
            f"{out / 'annotations'} already holds {', '.join(f'{name}.json' for name in there)}; "
            "choose another --out, or pass --overwrite."
        )


def write_coco(
    out: Path,
    splits: dict[str, list[Sample]],
    categories: Sequence[str],
    images: ImageMode,
    report: ConversionReport,
    strict: bool = False,
    progress: bool = True,
) -> None:
    """Writes the images, then ``annotations/{split}.json``, then the report. A JSON file that
    exists is whole.

    Images go to ``images/{split}/``; ``in-place`` leaves them where they are and writes absolute
    paths instead. Category ids are 1..C in the order of ``categories``; image and annotation ids
    count from 1 in every split, in the order of the images' paths.

    Raises:
        ProblemsFound: If ``strict`` and there is any problem. Nothing is written then.
        ConverterError: If there is no image to write.
    """
    splits = {
        name: sorted(splits[name], key=lambda s: report.name(s.image))
        for name in SPLITS
        if splits.get(name)
    }
    if not splits:
        raise ConverterError(f"No usable image was found in {report.root} ({_summary(report)}).")
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

    annotations = out / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:  # an earlier conversion's file must not stand beside this one's
        (annotations / f"{name}.json").unlink(missing_ok=True)
    for name, samples in splits.items():
        pairs = list(zip(samples, names[name], strict=True))
        for sample, file_name in tqdm(
            pairs, desc=f"{name} images", unit="img", disable=not progress
        ):
            place_image(sample.image, out / "images" / name / file_name, images)
    for name, content in contents.items():
        write_json(annotations / f"{name}.json", content)
    write_json(annotations / "conversion_report.json", report.to_dict())


def _summary(report: ConversionReport) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.counts.items()))
    return kinds or f"{report.images_found} images"


def _count_repeats(splits: dict[str, list[Sample]], report: ConversionReport) -> None:
    seen: dict[Path, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            if sample.image in seen:
                report.add("image_in_two_splits", sample.image, f"{seen[sample.image]} and {name}")
            else:
                seen[sample.image] = name


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
