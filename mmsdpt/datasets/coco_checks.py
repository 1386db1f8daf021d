"""Check COCO annotation files exported by other tools before training starts.

Unambiguous problems are corrected (a missing area, repeated ids, another category order); unusable
entries are left out and counted; files without boxes or with wrong boxes are refused. Every message
names the file and the entries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmsdpt.utils.class_names import as_read, one_form
from mmsdpt.utils.errors import InputError, listed
from mmsdpt.utils.texts import encoding_of, parse_json

from .coco_boxes import check_annotations
from .coco_images import check_images
from .coco_report import CocoReport, as_key, as_number, objects_of

MAX_INSPECTED = 5_000
"""Maximum number of images to decode per file, evenly spaced."""
NOTHING_TO_TRAIN_ON = "it has no box, so there is nothing to train on"
NO_SCORE = "it has no box, so its AP will be -1, which is not a score"


def check_coco(
    path: str | Path,
    image_folder: str | Path | None = None,
    max_inspected: int = MAX_INSPECTED,
    leave_out_missing: bool = False,
    exclude: Path | None = None,
) -> CocoReport:
    """Check a file, and convert it to the form that COCO's tools expect.

    Args:
        path: Annotation file.
        image_folder: Folder that ``file_name`` is relative to; None: do not check images.
        max_inspected: Maximum number of images to decode.
        leave_out_missing: Whether to leave out missing images; otherwise they are an error.
        exclude: Folder in which not to search for images, such as an earlier result.
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
        folder = Path(image_folder)
        check_images(report, content, folder, max_inspected, leave_out_missing, exclude)
    if not report.errors:
        check_annotations(report, content, category_ids, image_ids)
    return report


def put_in_order(report: CocoReport, classes: Sequence[str], other_names: Iterable[str]) -> None:
    """Sort the categories by the classes, as MMDetection numbers labels in the file's order,
    regardless of the order of the names.

    Args:
        report: Report of the file; its content is changed.
        classes: Names in the order of the labels.
        other_names: Categories of the dataset's other files. A class that only these have is added
            as a category, as some tools write only the categories that occur.
    """
    content = report.content
    if not content["categories"] and not content["annotations"]:
        report.add(
            "errors",
            "it has only images, without categories and annotations, so predictions cannot be "
            "evaluated",
        )
        return
    by_name = {category["name"]: category for category in content["categories"]}
    free = _by_words(by_name, without=classes)
    open_classes = _by_words(classes, without=by_name)
    others = set(other_names)
    free_others = _by_words(others, without=classes)
    clean = [one_form(name) for name in classes]
    new_id = max((category["id"] for category in content["categories"]), default=0) + 1
    for name, known in zip(classes, clean, strict=True):
        words = as_read(name).tokens
        alike = free.get(words, [])
        if clean.count(known) > 1:
            report.add("errors", f"the config has the class {name!r} twice; remove one")
        elif known not in by_name and len(alike) == len(open_classes[words]) == 1:
            report.add("filled", "categories that the config spells differently", f"{alike[0]!r}")
            by_name[known] = by_name.pop(alike[0])
            report.boxes[known] = report.boxes.pop(alike[0], 0)
        elif known not in by_name and alike:
            report.add(
                "errors",
                f"the config's classes {listed(map(repr, open_classes[words]))} and the categories"
                f" {listed(map(repr, alike))} are the same text to the model, so their mapping is"
                " ambiguous: use the category names as classes, or merge or rename categories with"
                " tools/dataset_converters/coco2coco.py --rename",
            )
        elif known not in by_name and (known in others or words in free_others):
            report.add("filled", "categories that only the other splits have", repr(name))
            by_name[known] = dict(id=new_id, name=name, supercategory="none")
            new_id += 1
        elif known not in by_name:
            quoted = ", ".join(map(repr, report.names)) or "none"
            report.add("errors", f"it has no category {name!r}; it has {quoted}")
        if known != name:
            report.boxes[name] = report.boxes.pop(known, 0)
    if report.errors:
        return
    wanted = [dict(by_name[known], name=name) for name, known in zip(classes, clean, strict=True)]
    places = iter(wanted)  # others keep theirs, as another dataset of this file may use them
    ordered = [next(places) if known in clean else each for known, each in by_name.items()]
    report.changed |= ordered != content["categories"]
    content["categories"] = ordered


def _by_words(names: Iterable[str], without: Iterable[str]) -> dict[Hashable, list[str]]:
    """Names without an exact match in the others, by how a model reads them."""
    others, found = set(map(one_form, without)), defaultdict(list)
    for name in names:
        if one_form(name) not in others:
            found[as_read(name).tokens].append(name)
    return found


def _read(report: CocoReport) -> dict | None:
    """The JSON object of a file, in any declared encoding."""
    try:
        raw = report.path.read_bytes()
        content = parse_json(raw)
    except (InputError, OSError) as error:
        report.add("errors", str(error) if isinstance(error, InputError) else str(error.strerror))
        return None
    report.changed = encoding_of(raw) != "utf-8"
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return content
    report.add("errors", f"this is not in COCO's format: it is {what_json(content)}")
    return None


def what_json(content: Any) -> str:
    """The probable format of a JSON file that is not COCO's."""
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
    if {"objects", "size"} <= keys or {"classes", "projectType"} <= keys:
        return "a Supervisely file: export as COCO or VOC there"
    if {"items", "categories"} <= keys:
        return "a Datumaro file: export as COCO or VOC"
    if inner & {"completions", "data"}:
        return "Label Studio's own JSON: export as COCO or YOLO there"
    if {"image", "annotations"} <= inner:
        return "a CreateML file: export as COCO or VOC"
    if {"file_name", "annotations"} <= inner:
        return "a list of images with their annotations (Detectron2): save it as COCO"
    if inner & {"bbox", "image_id"}:
        return "a bare list of annotations or results, without images and categories"
    return f"a JSON {type(content).__name__} without a list 'images'"


def _new_ids(report: CocoReport, entries: list[dict], what: str) -> dict[Any, int]:
    """Renumber ids from 1 if any is not an integer, or too large for NumPy. Returns old to new
    ids.
    """
    keys = [as_key(entry.get("id")) for entry in entries]
    usable = all(isinstance(key, int) and abs(key) < 2**63 for key in keys)
    if usable and all(type(entry.get("id")) is int for entry in entries):
        return {key: key for key in keys}
    report.add("filled", f"ids of {what} that are not integers, renumbered")
    new = {key: key if usable else number for number, key in enumerate(dict.fromkeys(keys), 1)}
    for entry, key in zip(entries, keys, strict=True):
        entry["id"] = new[key]
    return new


def _categories(report: CocoReport, content: dict) -> dict[Any, int]:
    """Check the categories, and merge those with equal names. Returns old to new ids."""
    categories = objects_of(report, content, "categories")
    for number, category in enumerate(categories):
        name = category.get("name")
        if isinstance(name, str | int | float) and not isinstance(name, bool) and str(name).strip():
            clean = one_form(str(name))
            report.changed |= clean != name
            category["name"] = clean
        else:
            report.add("errors", f"a category has the name {name!r}, expected a string", number)
            category["name"] = str(name)
        if "id" not in category:
            report.add("errors", "categories have no id", repr(name))
    if report.errors:
        return {}
    ids = _new_ids(report, categories, "categories")
    by_id: dict[int, str] = {}
    same: dict[str, list[int]] = {}
    kept = []
    for category in categories:
        name, number = category["name"], category.get("id")
        if by_id.setdefault(number, name) != name:
            report.add("errors", f"the id {number} has two categories, {by_id[number]} and {name}")
        elif name in same:
            report.add("filled", f"categories of one name, {name!r}, are one class", number)
        else:
            kept.append(category)
        same.setdefault(name, []).append(number)
    content["categories"] = kept
    if len(kept) < len(categories):  # with the id of the boxes, so that results fit the file
        entries = content.get("annotations")
        entries = entries if isinstance(entries, list) else []
        used = Counter(
            ids.get(as_key(each.get("category_id"))) for each in entries if isinstance(each, dict)
        )
        for category in kept:
            category["id"] = max(same[category["name"]], key=lambda number: used[number])
    first = {category["name"]: category["id"] for category in kept}
    return {old: first[by_id[new]] for old, new in ids.items() if new in by_id}


def _images(report: CocoReport, content: dict) -> dict[Any, int]:
    """Check the images' ids and names. Returns old to new ids."""
    images = objects_of(report, content, "images")
    if not images:
        report.add("errors", "it has no images")
    for number, image in enumerate(images):
        name = image.get("file_name")
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            report.add("errors", "images have no file_name", f"id {image.get('id', number)}")
        if "id" not in image:
            report.add("errors", "images have no id", name)
    if report.errors:
        return {}
    ids = _new_ids(report, images, "images")
    by_id: dict[int, str] = {}
    kept = []
    for image in images:
        name = image["file_name"]
        known = by_id.setdefault(image["id"], name)
        if known != name:
            report.add(
                "errors",
                "images share an id, so boxes cannot be assigned to images; give every image "
                "its own id",
                f"id {image['id']}: {known} and {name}",
            )
        elif len(by_id) == len(kept):
            report.leave_out("image_listed_twice", "images that are listed again", name)
        else:
            kept.append(image)
    content["images"] = kept
    return ids


def _sizes(report: CocoReport, images: list[dict]) -> None:
    """Convert sizes to integers, 0 if unknown."""
    for image in images:
        for key in ("width", "height"):
            if type(image.get(key)) is not int or image[key] < 1:
                image[key] = max(0, round(as_number(image.get(key)) or 0))
                report.changed = True
