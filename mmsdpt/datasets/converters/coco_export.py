"""Clean up COCO JSON exported by other tools."""

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

from mmsdpt.datasets.coco_checks import CocoReport, check_coco, what_json
from mmsdpt.datasets.split_names import split_in, split_of_folder
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import is_archive, no_folder, read_json

from .coco_writer import REPORT_FILE, check_output, chosen_classes, note_renames, write_coco
from .common import Instance, Sample, fit_box
from .files import ImageMode, find_inside, scan, trusted_folder
from .report import ConversionReport
from .split import random_split

_MAX_LOOKED_FOR = 500
"""Number of evenly spaced images used to find the image folder."""


def convert_coco(
    src: str | Path,
    out: str | Path | None,
    *,
    root: str | Path | None = None,
    split: Sequence[float] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    images: ImageMode = "copy",
    missing_labels: Literal["keep", "skip"] = "keep",
    overwrite: bool = False,
    strict: bool = False,
    progress: bool = True,
) -> ConversionReport:
    """Cleans up a COCO export: renames or selects classes, changes splits, removes missing entries.

    A file's split is a word of its name (``instances_val2017.json``, CVAT's
    ``instances_Train.json``) or of its folder's (Roboflow's ``valid/_annotations.coco.json``); a
    file without one is train. Images are looked for beside the file, in ``images`` and wherever
    else in the folder their names are unique; but of a name with a folder not in another folder,
    unless all names have moved alike, from another machine's folder or to ``images``. Images
    outside ``root``, or links to such, are not copied: a file from elsewhere may name private ones.

    Args:
        src: An annotation file, or a folder with one or more.
        root: Folder that holds the source and all images. Default: the source folder, which is that
            of an annotation file, or the one around ``annotations``.
        classes: Classes to convert, in the order of their ids. Default: the categories with boxes.
        missing_labels: Whether an image without annotations is kept.

    For the other arguments, returns and errors see :func:`convert_voc`.
    """
    src, out = Path(src), None if out is None else Path(out)
    if not src.exists():
        raise InputError(f"{src} {no_folder(src)}; give an annotation file or its folder.")
    if is_archive(src):
        raise InputError(f"{src} {no_folder(src)}.")
    here = (src if src.is_dir() else src.parent).resolve()
    if src.is_file() and here.name == "annotations":
        here = here.parent
    top = trusted_folder(root, here)
    if not here.is_relative_to(top):
        raise InputError(
            f"--root {root} does not contain {src}; give a folder that contains the whole source."
        )
    check_output(out, here, overwrite)
    report = ConversionReport(top, "coco")
    files = [src.resolve()] if src.is_file() else coco_files(here, report, out)
    if not files:
        others = [f"; {where} is {what}" for where, what in report.named.get("other_task", ())[:1]]
        packed = report.named.get("label_compressed", ())[:1]
        others += [f"; {where} is compressed: unpack it" for where, _ in packed]
        raise InputError(
            f"No COCO file (JSON with images and annotations) was found in {src}{''.join(others)}."
        )
    rename = dict(rename or {})
    folders = {path: image_folder(path, here, top) for path in files}
    exclude = out and out.resolve()
    checked = [check_coco(path, folders[path], 10**9, True, exclude) for path in files]
    for each in checked:
        each.refuse()
    names = list(dict.fromkeys(name for each in checked for name in each.names))
    note_renames(rename, names, report)
    categories = chosen_classes(classes, [rename.get(name, name) for name in names])
    splits: dict[str, list[Sample]] = {}
    unknown = [path for path in files if split is None and file_split(path, here) is None]
    for path in unknown:
        report.add("no_split" if len(unknown) == len(files) else "split_unknown", path)
    for each in checked:
        samples = _samples(
            each, folders[each.path], rename, set(categories), report, images == "in-place"
        )
        splits.setdefault(file_split(each.path, here) or "train", []).extend(samples)
    if split is not None:
        splits = {"all": [sample for group in splits.values() for sample in group]}
    splits = {
        name: _once_each(samples, missing_labels == "keep", report)
        for name, samples in splits.items()
    }
    if split is not None:
        splits = random_split(splits["all"], split, seed, report)
    write_coco(out, splits, categories, images, report, strict, progress)
    return report


def coco_files(folder: Path, report: ConversionReport, exclude: Path | None = None) -> list[Path]:
    """The JSON files below a folder that have images and annotations, or cannot be read. Files of
    another kind are left out, and noted: of COCO's own those of other tasks, and those that repeat
    the boxes of ``instances_*.json``.
    """
    found = []
    suffixes = (".json", *_COMPRESSED)
    files = scan(folder, report.root, suffixes, report, exclude and exclude.resolve())
    for path in files:
        if path.name == REPORT_FILE:  # of an earlier conversion
            continue
        if path.suffix.lower() in _COMPRESSED:
            if path.stem.lower().endswith(".json") and path.with_suffix("") not in files:
                report.add("label_compressed", path)
        elif is_coco(path) is False:
            report.add("other_task", path, what_json(read_json(path)))
        else:
            found.append(path)
    boxes = {path for path in found if path.name.startswith("instances_")}
    usable = []
    for path in found:
        task = path.name.partition("_")[0]
        beside = path.with_name(f"instances_{path.stem.rpartition('_')[2]}.json") in boxes
        if (task == "person" and beside) or (boxes and task in _OTHER_TASKS):
            report.add("other_task", path)
        else:
            usable.append(path)
    return usable


_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_OTHER_TASKS = ("captions", "panoptic", "stuff", "image")  # image_info has no annotations


def is_coco(path: Path) -> bool | None:
    """Whether a JSON file has images; None if it cannot be read."""
    try:
        content = read_json(path)
    except InputError:
        return None
    return isinstance(content, dict) and isinstance(content.get("images"), list)


def file_split(path: Path, root: Path) -> str | None:
    """The split of an annotation file, by its name or its folders'."""
    return split_in(path.stem) or split_of_folder(path.relative_to(root))


def image_folder(path: Path, root: Path, top: Path | None = None) -> Path:
    """Where the images of an annotation file lie: the usual place that has most of them by their
    names, or else by the ends of their names.

    Args:
        root: Folder of the annotation files.
        top: Folder around it with all images, which is the result if no usual place has any.
    """
    top = top or root
    try:
        images = read_json(path)["images"]
        told = [image.get("file_name") for image in images if isinstance(image, dict)]
    except (InputError, LookupError, TypeError):
        return top
    names = [name.replace("\\", "/") for name in told if isinstance(name, str)]
    split = split_in(path.stem)
    usual: list[Path] = [path.parent]
    for base, part in product(dict.fromkeys((root, top)), (".", "images", "Images", "data")):
        folder = base / part
        if split is not None and folder.is_dir():
            usual += [each for each in folder.iterdir() if split_in(each.name) == split]
        usual.append(folder)
    some = names[:: max(1, len(names) // _MAX_LOOKED_FOR)]
    for asked in (some, [name.rpartition("/")[2] for name in some]):
        there = [sum(os.path.isfile(folder / name) for name in asked) for folder in usual]
        if any(there):
            return usual[there.index(max(there))]
    return top


_KEPT = ("iscrowd", "ignore", "difficult")


def _samples(
    checked: CocoReport,
    folder: Path,
    rename: Mapping[str, str],
    chosen: set[str],
    report: ConversionReport,
    anywhere: bool,
) -> list[Sample]:
    """The samples of a checked file.

    Args:
        folder: Folder that ``file_name`` is relative to.
        anywhere: Whether images may be outside the report's root, because none is copied.
    """
    content, where = checked.content, report.name(checked.path)
    for text in checked.sentences("filled"):
        report.add("mended", where, text)
    for text in checked.sentences("doubtful"):
        report.add("doubtful", where, text)
    for sentence, kind in checked.kinds.items():
        for entry in checked.left_out[sentence]:
            if kind.startswith("image_"):
                report.images_found += 1
                report.drop_image(kind, f"{where}: {entry}", sentence)
            elif kind.startswith("object_"):
                report.boxes_found += 1
                report.drop_box(kind, f"{where}: {entry}", sentence)
            else:
                report.add(kind, f"{where}: {entry}", sentence)
    report.images_found += len(content["images"])
    names = {category["id"]: category["name"] for category in content["categories"]}
    by_image: dict[Any, list[dict]] = {}
    for entry in content["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    samples = []
    for image in content["images"]:
        size = (image["width"], image["height"])
        entries, instances = by_image.get(image["id"], []), []
        named = folder / image["file_name"]
        path = Path(os.path.normpath(named)) if anywhere else find_inside(report.root, named)
        if path is None:
            what = f"not inside {report.root.name}, see --root and --in-place: {image['file_name']}"
            report.boxes_found += len(entries)
            report.drop_image("path_refused", f"{where}: id {image['id']}", what, len(entries))
            continue
        for entry in entries:
            place = f"{where}: id {entry['id']}"
            report.boxes_found += 1
            old = names[entry["category_id"]]
            name = rename.get(old, old)
            if name not in chosen:
                report.drop_box("class_not_chosen", place, name)
                continue
            x, y, w, h = entry["bbox"]
            box = fit_box((x, y, x + w, y + h), size, report, place)
            if box is not None:
                extra = {key: entry[key] for key in _KEPT if entry.get(key)}
                share = box[2] * box[3] / (w * h)  # of the box that remains after clipping
                extra["area"] = round(abs(entry["area"] * share), 4)
                instances.append(Instance(name, box, extra))
        samples.append(Sample(path, *size, instances))
    return samples


def _once_each(
    samples: Sequence[Sample], keep_empty: bool, report: ConversionReport
) -> list[Sample]:
    """Merge repeated images with all their boxes, because some tools write one file per class."""
    by_image: dict[Path, Sample] = {}
    for sample in samples:
        first = by_image.setdefault(sample.image, sample)
        if first is not sample:
            first.instances += sample.instances
            report.drop_image("image_listed_twice", sample.image)
    kept = []
    for sample in by_image.values():
        if sample.instances or keep_empty:
            kept.append(sample)
        else:
            report.drop_image("label_missing", sample.image, "skipped")
    return kept
