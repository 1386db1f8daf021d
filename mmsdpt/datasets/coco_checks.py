"""Annotation files in COCO's format as people's tools export them: checked before the first step.

What has one meaning is filled in (a missing area, ids that repeat, a category order of its own);
what cannot be used leaves and is counted; what would train on nothing or on wrong boxes is refused.
Every sentence names the file and the entries.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text, disguise, encoding_of, folded

from .image_files import ImageFacts, UnreadableImage, inspect_images

MAX_INSPECTED = 5_000
"""Images of a file that are decoded; of larger files this many, evenly spaced, are."""
NOTHING_TO_TRAIN_ON = "it has no box, so there is nothing to train on"
NO_SCORE = "it has no box, so its AP will be -1, which compares nothing"
_SHOWN = 3  # entries in a message
_SAME_SIZE = 2  # pixels by which a size may differ: rounding of the tool that resized
_BOX = "x, y, width, height in pixels"


@dataclass
class CocoReport:
    """What one annotation file holds.

    Args:
        path: The file.
        content: It as COCO's tools want it: ids are numbers, every value is there.
        changed: Whether ``content`` differs from the file.
        errors: What must be mended: sentence to the entries that it is about.
        left_out: What leaves.
        filled: What was filled in.
        boxes: Usable boxes by category name.
        facts: What is known of the images that were decoded.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    errors: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    filled: dict[str, list[str]] = field(default_factory=dict)
    boxes: Counter[str] = field(default_factory=Counter)
    facts: dict[Path, ImageFacts] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The categories' names, but for a root that only groups the others."""
        categories = self.content.get("categories", [])
        parents = [category.get("supercategory") for category in categories]
        return [
            category["name"]
            for category in categories
            if self.boxes[category["name"]] or category["name"] not in parents
        ]

    def sentences(self, kind: str) -> list[str]:
        """``errors``, ``left_out`` or ``filled`` as sentences that count and name."""
        found: dict[str, list[str]] = getattr(self, kind)
        return [
            f"{sentence} ({_count(entries)})" if entries else sentence
            for sentence, entries in found.items()
        ]

    def refuse(self) -> None:
        """Raise if there is anything to mend.

        Raises:
            InputError: with all of it.
        """
        if self.errors:
            raise InputError(f"{self.path}: {'; '.join(self.sentences('errors'))}")

    def _add(self, kind: str, sentence: str, entry: object = None) -> None:
        entries = getattr(self, kind).setdefault(sentence, [])
        if entry is not None:
            entries.append(str(entry))
        self.changed |= kind != "errors"


def check_coco(
    path: str | Path,
    image_folder: str | Path | None = None,
    max_inspected: int = MAX_INSPECTED,
    leave_out_missing: bool = False,
) -> CocoReport:
    """Check a file, and put it into the form that COCO's tools expect.

    Args:
        path: Annotation file.
        image_folder: Folder that ``file_name`` is relative to; without one no image is looked at.
        max_inspected: Images that are decoded at most.
        leave_out_missing: Whether images that are not there leave; else they are an error.
    """
    report = CocoReport(Path(path))
    content = _read(report)
    if content is None:
        return report
    content = report.content = dict(content)
    category_ids = _categories(report, content)
    image_ids = _images(report, content)
    if not report.errors:
        _sizes(report, content["images"])
    if not report.errors and image_folder is not None and Path(image_folder).is_dir():
        _files(report, content, Path(image_folder), max_inspected, leave_out_missing)
    if not report.errors:
        _annotations(report, content, category_ids, image_ids)
    return report


def put_in_order(report: CocoReport, classes: Sequence[str], other_names: Iterable[str]) -> None:
    """Put the categories into the order of the classes: MMDetection counts labels in the file's
    order, whatever order the names have.

    Args:
        report: Of the file; its content changes.
        classes: Names in the order in which labels count.
        other_names: Categories of the data set's other files. A class that only these have gets
            its category here, too: some tools write only the categories that occur.
    """
    content, others = report.content, set(other_names)
    if not content["categories"] and not content["annotations"]:
        report._add(
            "errors",
            "it lists images only, without categories and annotations, so there is nothing to "
            "compare predictions with",
        )
        return
    by_name = {category["name"]: category for category in content["categories"]}
    free = max((category["id"] for category in content["categories"]), default=0) + 1
    for name in classes:
        known = one_form(name)
        if list(classes).count(name) > 1:
            report._add("errors", f"the config names the class {name!r} twice; name it once")
        elif known not in by_name and known in others:
            report._add("filled", "categories that only the other splits have", repr(name))
            by_name[known] = dict(id=free, name=name, supercategory="none")
            free += 1
        elif known not in by_name:
            quoted = ", ".join(map(repr, report.names)) or "none"
            report._add("errors", f"it has no category {name!r}; it has {quoted}")
    if report.errors:
        return
    ordered = [dict(by_name.pop(one_form(name)), name=name) for name in classes]
    ordered += by_name.values()
    report.changed |= ordered != content["categories"]
    content["categories"] = ordered


def _read(report: CocoReport) -> dict | None:
    """The JSON object of a file, in any encoding that it declares."""
    try:
        raw = report.path.read_bytes()
        if what := disguise(raw):
            report._add("errors", f"this is not a JSON file but {what}")
            return None
        content = json.loads(decode_text(raw))
    except (ValueError, RecursionError, OSError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        report._add("errors", f"this is not a JSON file ({reason})")
        return None
    report.changed = encoding_of(raw) != "utf-8"
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return content
    report._add("errors", f"this is not COCO's format but {_guess(content)}")
    return None


def _guess(content: Any) -> str:
    """What a JSON file that is not COCO's seems to be."""
    if not isinstance(content, list | dict):
        return f"a JSON {type(content).__name__}"
    keys = set(content) if isinstance(content, dict) else set()
    members = (
        list(content.values() if isinstance(content, dict) else content)[:1] if content else []
    )
    inner = set(members[0]) if members and isinstance(members[0], dict) else set()
    if "_via_settings" in keys or {"filename", "regions"} <= inner:
        return "a project of VIA: export the annotations as COCO there"
    if "shapes" in keys or "imagePath" in keys:
        return "a file of labelme, one per image: convert them to COCO first (labelme2coco)"
    if inner & {"completions", "data"}:
        return "Label Studio's own JSON: export as COCO or YOLO there"
    if {"image", "annotations"} <= inner:
        return "CreateML's: export as COCO or VOC"
    if inner & {"bbox", "image_id"}:
        return "a bare list of annotations or results, without images and categories"
    return f"a JSON {type(content).__name__} without a list 'images'"


def _list(report: CocoReport, content: dict, key: str) -> list[dict]:
    """A list of objects; entries of another kind leave."""
    value = content.get(key)
    if value is None:
        report.changed = True
        value = []
    if not isinstance(value, list):
        report._add("errors", f"'{key}' is a {type(value).__name__}, expected a list")
        value = []
    kept = []
    for number, entry in enumerate(value):
        if isinstance(entry, dict):
            kept.append(dict(entry))
        else:
            report._add("left_out", f"entries of '{key}' that are not objects", number)
    content[key] = kept
    return kept


def _number(value: Any) -> float | None:
    """A finite number, also one that is written as text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return None if isinstance(value, bool) or not math.isfinite(number) else number


def _key(value: Any) -> Any:
    """An id to compare by: "7", 7 and 7.0 are one."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else str(value)


def _new_ids(report: CocoReport, entries: list[dict], what: str) -> dict[Any, int]:
    """Make ids whole numbers from 1 on where any is something else; old to new."""
    keys = [_key(entry.get("id")) for entry in entries]
    usable = all(isinstance(key, int) and not isinstance(key, bool) for key in keys)
    if usable and all(type(entry.get("id")) is int for entry in entries):
        return {key: key for key in keys}
    report._add("filled", f"ids of {what} that are not integers, renumbered")
    new = {key: key if usable else number for number, key in enumerate(dict.fromkeys(keys), 1)}
    for entry, key in zip(entries, keys, strict=True):
        entry["id"] = new[key]
    return new


def _categories(report: CocoReport, content: dict) -> dict[Any, int]:
    """Check the categories; their old ids to new ones. Equal names become one category."""
    categories = _list(report, content, "categories")
    for number, category in enumerate(categories):
        name = category.get("name")
        if isinstance(name, str | int | float) and not isinstance(name, bool) and str(name).strip():
            clean = one_form(str(name))
            report.changed |= clean != name
            category["name"] = clean
        else:
            report._add("errors", f"a category has the name {name!r}, expected a string", number)
            category["name"] = str(name)
        if "id" not in category:
            report._add("errors", "categories have no id", repr(name))
    ids = _new_ids(report, categories, "categories")
    by_id: dict[int, str] = {}
    first: dict[str, int] = {}
    merged: dict[Any, int] = {}
    kept = []
    for category in categories:
        name, number = category["name"], category.get("id")
        if by_id.setdefault(number, name) != name:
            report._add("errors", f"the id {number} has two categories, {by_id[number]} and {name}")
        elif name in first:
            report._add("filled", f"categories of one name, {name!r}, are one class", number)
        else:
            first[name] = number
            kept.append(category)
        merged[number] = first.get(name, number)
    content["categories"] = kept
    return {old: merged[new] for old, new in ids.items() if new in merged}


def _images(report: CocoReport, content: dict) -> dict[Any, int]:
    """Check the images' ids and names; old ids to new ones."""
    images = _list(report, content, "images")
    if not images:
        report._add("errors", "it holds no image")
    for number, image in enumerate(images):
        name = image.get("file_name")
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            report._add("errors", "images have no file_name", f"id {image.get('id', number)}")
        if "id" not in image:
            report._add("errors", "images have no id", name)
    if report.errors:
        return {}
    ids = _new_ids(report, images, "images")
    by_id: dict[int, str] = {}
    kept = []
    for image in images:
        name = image["file_name"]
        known = by_id.setdefault(image["id"], name)
        if known != name:
            report._add(
                "errors",
                "images share an id, so boxes cannot be assigned to images; give every image "
                "its own id",
                f"id {image['id']}: {known} and {name}",
            )
        elif len(by_id) == len(kept):
            report._add("left_out", "images that are listed again", name)
        else:
            kept.append(image)
    content["images"] = kept
    return ids


def _sizes(report: CocoReport, images: list[dict]) -> None:
    """Sizes as whole numbers, 0 where they are unknown."""
    for image in images:
        for key in ("width", "height"):
            if type(image.get(key)) is not int or image[key] < 1:
                image[key] = max(0, round(_number(image.get(key)) or 0))
                report.changed = True


class _Finder:
    """Finds files under other spellings: backslashes, folders of another machine, case, percent
    signs, encodings of letters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, list[Path]] | None = None

    def __call__(self, name: str) -> str | None:
        """A name relative to the folder under which the file is there."""
        for variant in dict.fromkeys((name, name.replace("\\", "/"), unquote(name))):
            if os.path.exists(self.folder / variant):
                return variant
        parts = [part for part in unquote(name).replace("\\", "/").split("/") if part not in "..."]
        for start in range(len(parts)):
            if len(found := self._known().get(folded("/".join(parts[start:])), [])) == 1:
                return found[0].relative_to(self.folder).as_posix()
        return None

    def _known(self) -> dict[str, list[Path]]:
        """Files below the folder by each end of their paths."""
        if self._paths is None:
            self._paths = defaultdict(list)
            for current, _, files in os.walk(self.folder):
                for file in files:
                    path = Path(current, file)
                    parts = path.relative_to(self.folder).parts
                    for start in range(len(parts)):
                        self._paths[folded("/".join(parts[start:]))].append(path)
        return self._paths


def _files(
    report: CocoReport, content: dict, folder: Path, most: int, leave_out_missing: bool
) -> None:
    """Find the image files, decode them, and compare their sizes."""
    finder, images = _Finder(folder), []
    seen: dict[str, Any] = {}
    for image in content["images"]:
        name = finder(image["file_name"])
        if name is not None:
            images.append(image)
        elif leave_out_missing:
            report._add("left_out", "images that are missing", image["file_name"])
            continue
        else:
            report._add(
                "errors",
                f"images are missing below {folder}; put them there, correct data_prefix, or leave"
                " them out with tools/dataset_converters/coco2coco.py",
                image["file_name"],
            )
            continue
        if name != image["file_name"]:
            report._add(
                "filled", "file names that are spelt differently on disk", image["file_name"]
            )
            image["file_name"] = name
        if seen.setdefault(name, image["id"]) != image["id"]:
            report._add("filled", "images that are listed under two ids, kept", name)
    if not images and not report.errors:
        report._add("errors", f"none of its images is below {folder}")
    if report.errors:
        return
    step = max(1, math.ceil(len(images) / most)) if most else len(images) + 1
    chosen = images[::step] if most else []
    unknown = [image for image in images if not image["width"] or not image["height"]]
    paths = {id(image): folder / image["file_name"] for image in [*chosen, *unknown]}
    found = inspect_images(paths.values())
    broken: set[int] = set()
    for image in images:
        facts = found.get(paths.get(id(image), Path()))
        if isinstance(facts, UnreadableImage):
            report._add("left_out", "images that cannot be read", f"{image['file_name']}: {facts}")
            broken.add(id(image))
        elif facts is not None:
            report.facts[folder / image["file_name"]] = facts
            _size(report, image, facts)
    content["images"] = [image for image in images if id(image) not in broken]
    if images and not content["images"]:
        report._add("errors", "none of its images can be read", str(paths[id(images[0])]))


def _size(report: CocoReport, image: dict, facts: ImageFacts) -> None:
    """Compare the size of an image with what the file says."""
    name, told, found = image["file_name"], (image["width"], image["height"]), facts.displayed
    if 0 in told:
        report._add("filled", "images without width and height", name)
    elif max(abs(a - b) for a, b in zip(told, found, strict=True)) <= _SAME_SIZE:
        report.changed |= told != found
    elif told == facts.size:
        report._add(
            "errors",
            "boxes were drawn on images that the EXIF orientation turns for display; save the "
            "images turned, without orientation, and turn their boxes with them",
            name,
        )
    else:
        report._add(
            "errors",
            "images have another size than the boxes were drawn on; use the images that the file "
            "was made for",
            f"{name}: {told[0]}x{told[1]} in the file, {found[0]}x{found[1]} on disk",
        )
    image["width"], image["height"] = found


def _annotations(report: CocoReport, content: dict, categories: dict, images: dict) -> None:
    """Check the annotations; fill in what follows from the rest."""
    by_id = {image["id"]: image for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    kept, ids, seen = [], [], set()
    shapes = Counter()
    entries = _list(report, content, "annotations")
    for number, entry in enumerate(entries):
        where = f"id {entry['id']}" if "id" in entry else f"entry {number}"
        image_id = images.get(_key(entry.get("image_id")))
        if image_id is None:
            report._add("left_out", "annotations of an image that is not listed", where)
            continue
        category = categories.get(_key(entry.get("category_id")))
        if category is None:
            report._add("left_out", "annotations of a category that is not listed", where)
            continue
        if image_id not in by_id:
            continue  # its image cannot be read, which was said
        report.changed |= (entry["image_id"], entry["category_id"]) != (image_id, category)
        entry["image_id"], entry["category_id"] = image_id, category
        box = _box(report, entry, where)
        if box is None:
            continue
        image = by_id[image_id]
        if not image["width"] or not image["height"]:
            report._add("errors", "images have no width and height", image["file_name"])
            continue
        shapes.update(_shape(box, image))
        if not _number(entry.get("area")) or _number(entry.get("area")) <= 0:
            report._add("filled", "annotations without area, taken from the box", where)
            entry["area"] = box[2] * box[3]
        if type(entry.get("iscrowd")) is not int:
            report._add("filled", "annotations without iscrowd, taken as 0", where)
            entry["iscrowd"] = int(entry.get("iscrowd") in (True, "1", "true", "True", 1.0))
        usable = _usable(box, image)
        if usable and not entry["iscrowd"] and not entry.get("ignore"):
            report.boxes[names[category]] += 1
        elif not usable:
            # They stay in the file: the metric counts them as COCO's own evaluation does.
            what = "boxes outside their image or under one pixel, which training skips"
            report.left_out.setdefault(what, []).append(where)
        same = (image_id, category, *box, entry["iscrowd"])
        if same in seen:
            report._add("filled", "annotations that repeat another one exactly, kept", where)
        seen.add(same)
        kept.append(entry)
        ids.append(entry.get("id"))
    content["annotations"] = kept
    # COCO's evaluation takes an annotation of id 0 for none at all.
    if len(set(map(str, ids))) != len(ids) or not all(type(i) is int and i > 0 for i in ids):
        report._add("filled", "ids of annotations that are missing, 0 or repeated, renumbered")
        for number, entry in enumerate(kept, start=1):
            entry["id"] = number
    _suspicious(report, shapes)
    if entries and not report.boxes and not report.errors:
        crowds = sum(bool(entry["iscrowd"]) for entry in kept)
        why = (
            f"all {crowds} are marked iscrowd, which is for groups that training ignores"
            if crowds == len(entries)
            else "; ".join(report.sentences("left_out"))
        )
        report._add("errors", f"none of its {len(entries)} boxes can be used: {why}")


def _box(report: CocoReport, entry: dict, where: str) -> list[float] | None:
    """The annotation's box, from its polygons where it has none."""
    box = entry.get("bbox")
    if not isinstance(box, list) or not box:
        box = _around(entry.get("segmentation"))
        if box is None:
            report._add("left_out", "annotations without a bbox or polygon", where)
            return None
        report._add("filled", "annotations without a bbox, taken from the polygons", where)
    numbers = [_number(value) for value in box]
    if len(numbers) != 4 or None in numbers:
        report._add("left_out", f"annotations whose bbox is not {_BOX}", f"{where}: {box!r:.60}")
        return None
    values = [value for value in numbers if value is not None]
    if any(isinstance(value, str) for value in box) or box is not entry.get("bbox"):
        report.changed = True
        entry["bbox"] = values
    return values


def _around(segmentation: Any) -> list[float] | None:
    """The bounding box of polygons or of a run-length code."""
    if isinstance(segmentation, dict):
        from pycocotools import mask

        try:
            code = segmentation
            if isinstance(code.get("counts"), list):
                code = mask.frPyObjects(code, *code["size"])
            return [float(value) for value in mask.toBbox(code)]
        except (KeyError, TypeError, ValueError, IndexError):
            return None
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    flat = [_number(value) for polygon in polygons for value in polygon]
    values = [value for value in flat if value is not None]
    if len(values) != len(flat) or len(values) < 4 or len(values) % 2:
        return None
    xs, ys = values[0::2], values[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _usable(box: Sequence[float], image: Mapping) -> bool:
    """Whether MMDetection's ``CocoDataset`` trains on it."""
    x, y, w, h = box
    width = min(x + w, image["width"]) - max(x, 0)
    height = min(y + h, image["height"]) - max(y, 0)
    return w >= 1 and h >= 1 and width > 0 and height > 0


def _shape(box: Sequence[float], image: Mapping) -> list[str]:
    """What a box looks like, to tell other conventions."""
    x, y, w, h = box
    found = ["all"]
    if 0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1:
        found.append("fraction")
    if x + w > image["width"] + 1 or y + h > image["height"] + 1:
        found.append("leaves")
    if x < w <= image["width"] + 1 and y < h <= image["height"] + 1:
        found.append("corners")
    return found


def _suspicious(report: CocoReport, shapes: Counter) -> None:
    """Refuse boxes of another convention: they would be trained on without any other sign."""
    if shapes["all"] and shapes["fraction"] == shapes["all"]:
        report._add(
            "errors",
            f"all {shapes['all']} boxes are fractions of the image, expected {_BOX}: multiply them "
            "by the images' width and height",
        )
    elif shapes["all"] == shapes["corners"] and shapes["leaves"] * 2 > shapes["all"]:
        report._add(
            "errors",
            f"boxes look like corners x1, y1, x2, y2: {shapes['leaves']} of {shapes['all']} would "
            f"leave their image; expected {_BOX}",
        )


def _count(entries: Sequence[str]) -> str:
    return f"{len(entries)}: {', '.join(entries[:_SHOWN])}" + (
        ", ..." if len(entries) > _SHOWN else ""
    )
