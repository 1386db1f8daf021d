"""Checks of the annotations of a COCO file: derivable values are filled in, unusable annotations
are left out, and boxes in another convention are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .coco_report import CocoReport, as_key, as_number, objects_of

_BOX = "x, y, width, height in pixels"
_CORNERS = "corners x1, y1, x2, y2"
_CENTRE = "the centre and the size, cx, cy, width, height"
_SCALES = {100: "percent", 1000: "thousandths"}


def check_annotations(report: CocoReport, content: dict, categories: dict, images: dict) -> None:
    """Check the annotations, and fill in derivable values."""
    by_id = {image["id"]: image for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    kept, ids, seen = [], [], set()
    shapes = Counter()
    entries = objects_of(report, content, "annotations")
    _refuse_shifted(report, entries, "image", images)
    _refuse_shifted(report, entries, "category", categories)
    if report.errors:
        return
    for number, entry in enumerate(entries):
        where = f"id {entry['id']}" if "id" in entry else f"entry {number}"
        image_id = images.get(as_key(entry.get("image_id")))
        if image_id is None:
            report.leave_out(
                "object_malformed", "annotations of an image that is not listed", where
            )
            continue
        category = categories.get(as_key(entry.get("category_id")))
        if category is None:
            told = f"{where}: {entry.get('category_id')!r:.60}"
            what = "annotations of a category that is not listed"
            report.leave_out("object_malformed", what, told)
            continue
        if image_id not in by_id:
            continue  # its image cannot be read, which was reported
        report.changed |= (entry["image_id"], entry["category_id"]) != (image_id, category)
        entry["image_id"], entry["category_id"] = image_id, category
        box = _box(report, entry, where)
        if box is None:
            continue
        image = by_id[image_id]
        if not image["width"] or not image["height"]:
            report.add("errors", "images have no width and height", image["file_name"])
            continue
        shapes.update(_shape(box, image))
        if not as_number(entry.get("area")) or as_number(entry.get("area")) <= 0:
            report.add("filled", "annotations without area, taken from the box", where)
            entry["area"] = box[2] * box[3]
        elif isinstance(entry["area"], str):
            report.changed = True
            entry["area"] = as_number(entry["area"])
        if type(entry.get("iscrowd")) is not int:
            entry["iscrowd"] = int(entry.get("iscrowd") in (True, "1", "true", "True", 1.0))
            what = f"annotations without iscrowd 0 or 1, taken as {entry['iscrowd']}"
            report.add("filled", what, where)
        usable = _usable(box, image)
        if usable and not entry["iscrowd"] and not entry.get("ignore"):
            report.boxes[names[category]] += 1
        elif not usable:
            # They stay in the file: the metric counts them as in COCO's evaluation.
            what = "boxes outside their image or under one pixel, which training skips"
            report.left_out.setdefault(what, []).append(where)
        same = (image_id, category, *box, entry["iscrowd"])
        if same in seen:
            report.add("filled", "annotations that repeat another one exactly, kept", where)
        seen.add(same)
        kept.append(entry)
        ids.append(entry.get("id"))
    content["annotations"] = kept
    # COCO's evaluation treats an annotation with id 0 as missing.
    if len(set(map(str, ids))) != len(ids) or not all(type(i) is int and i > 0 for i in ids):
        report.add("filled", "ids of annotations that are missing, 0 or repeated, renumbered")
        for number, entry in enumerate(kept, start=1):
            entry["id"] = number
    _suspicious(report, shapes)
    if entries and not report.boxes and not report.errors:
        why = report.sentences("left_out")
        marked = [entry for entry in kept if entry["iscrowd"] or entry.get("ignore")]
        if marked:
            count = f"all {len(marked)}" if len(marked) == len(entries) else f"{len(marked)}"
            marks = [key for key in ("iscrowd", "ignore") if any(each.get(key) for each in marked)]
            why.append(
                f"{count} are marked {' or '.join(marks)}, which is for groups that training"
                " ignores"
            )
        report.add("errors", f"none of its {len(entries)} boxes can be used: {'; '.join(why)}")


def _refuse_shifted(
    report: CocoReport, entries: Sequence[dict], what: str, known: Collection[Any]
) -> None:
    """Refuse ids of images or categories that start at another number than those that are listed:
    boxes would belong to the next image or class.
    """
    used = {as_key(entry.get(f"{what}_id")) for entry in entries}
    if used.issubset(known) or not all(type(number) is int for number in (*used, *known)):
        return
    if any({number + shift for number in used}.issubset(known) for shift in (1, -1)):
        first, *others = used - set(known)
        removed = "" if others else f"; if {what} {first} was removed, remove its annotations"
        report.add(
            "errors",
            f"its annotations have {what} ids from {min(used)} to {max(used)}, but the ids that are"
            f" listed are {min(known)} to {max(known)}: both must start at the same number, or"
            f" boxes get the wrong {what}{removed}",
        )


def _box(report: CocoReport, entry: dict, where: str) -> list[float] | None:
    """The annotation's box, from its polygons if it has none."""
    box = entry.get("bbox")
    if not box:
        box = _around(entry.get("segmentation"))
        if box is None:
            report.leave_out("object_malformed", "annotations without a bbox or polygon", where)
            return None
        report.add("filled", "annotations without a bbox, taken from the polygons", where)
    numbers = [as_number(value) for value in box] if isinstance(box, list) else []
    if len(numbers) != 4 or None in numbers:
        what = f"annotations whose bbox is not {_BOX}"
        report.leave_out("object_malformed", what, f"{where}: {box!r:.60}")
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
            x, y, width, height = (float(value) for value in mask.toBbox(code))
            inside = x + width <= code["size"][1] and y + height <= code["size"][0]
            return [x, y, width, height] if inside else None
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            return None
    flat = list(_flat(segmentation)) if isinstance(segmentation, list) else []
    values = [value for value in map(as_number, flat) if value is not None]
    if len(values) != len(flat) or len(values) < 4 or len(values) % 2:
        return None
    xs, ys = values[0::2], values[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _flat(values: list) -> Iterator[Any]:
    """What is in lists in lists: tools write [[x, y, x, y]], [[x, y], [x, y]] or one list more."""
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _usable(box: Sequence[float], image: Mapping) -> bool:
    """Whether MMDetection's ``CocoDataset`` trains on it."""
    x, y, w, h = box
    width = min(x + w, image["width"]) - max(x, 0)
    height = min(y + h, image["height"]) - max(y, 0)
    return w >= 1 and h >= 1 and width > 0 and height > 0


def _shape(box: Sequence[float], image: Mapping) -> list[str]:
    """Hints at other conventions in a box."""
    x, y, w, h = box
    width, height = image["width"], image["height"]
    found = ["all"]
    if 0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1:
        found.append("fraction")
    for scale in _SCALES:
        if 0 <= min(box) and max(box) <= scale and min(width, height) >= 3 * scale:
            found.append(_SCALES[scale])
    if x + w > 1.02 * width + 1 or y + h > 1.02 * height + 1:
        found.append("leaves")
    if x < w <= width + 1 and y < h <= height + 1:
        found.append(_CORNERS)
    if w / 2 - 1 <= x <= width - w / 2 + 1 and h / 2 - 1 <= y <= height - h / 2 + 1:
        found.append(_CENTRE)
    return found


def _suspicious(report: CocoReport, shapes: Counter) -> None:
    """Refuse boxes in another convention, which would otherwise be trained on silently. Only warn
    if few boxes hint at it.
    """
    count, leaves = shapes["all"], shapes["leaves"]
    if count and shapes["fraction"] == count:
        report.add(
            "errors",
            f"all {count} boxes are fractions of the image size, expected {_BOX}: multiply them "
            "by the images' width and height",
        )
        return
    for scale, unit in _SCALES.items():
        if count and shapes[unit] == count:
            report.add(
                "errors" if count >= 10 else "doubtful",
                f"all {count} boxes look like {unit} of the image, as no number is over {scale} "
                f"and every image is much larger; expected {_BOX}: multiply them by the images' "
                f"width and height, and divide by {scale}",
            )
            return
    for form in (_CORNERS, _CENTRE):
        if leaves < 1 or shapes[form] < 0.99 * count:
            continue
        certain = leaves >= 5 and leaves * 10 > count
        certain |= form == _CORNERS and leaves * 2 > count
        if certain or (leaves >= 2 and leaves * 50 > count):
            report.add(
                "errors" if certain else "doubtful",
                f"boxes look like {form}: {leaves} of {count} leave their image as they are, and "
                f"read so all are inside; expected {_BOX}",
            )
            return
