"""The report of a conversion: everything found, written, corrected and left out, with counts and
names.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsdpt.utils.errors import printable

MAX_NAMED = 10_000
"""Findings named per kind in the report file. Counts stay exact beyond it."""
MAX_TEXT = 500
"""Characters kept of each name and detail, which a hostile file may make long."""

PROBLEMS = {
    # images
    "image_unreadable": "truncated or unreadable image, skipped",
    "image_too_large": "image over Pillow's decompression limit, skipped",
    "image_name_duplicate": "image that shares folder and stem with the one used, skipped",
    "image_listed_twice": "image listed again in the same split, used once with all of its boxes",
    "image_in_two_splits": "image in more than one split, kept in each",
    "image_name_taken": "image with the file name of another image, written under a new name",
    "resized": "image resized after it was labelled: its boxes are of <size>, skipped",
    "image_other_format": "image of a format that is not read, skipped; save it as JPEG",
    "image_missing": "image that is listed but not there, skipped",
    "image_without_usable_label": "image whose label file is unusable, skipped",
    "doubtful": "what was used, and may be meant otherwise",
    # label files
    "label_malformed": "label file that cannot be parsed, left out",
    "label_refused": "label file with a DOCTYPE, or over the size limit, left out",
    "image_malformed": "image of a COCO file that is no object, left out",
    "category_malformed": "category of a COCO file that is no object, left out",
    "label_compressed": "compressed JSON file, not used; unpack it",
    "label_missing": "image without a label file",
    "label_without_image": "label file without an image, left out",
    "label_twice": "further label file for an image that has one, left out",
    "filename_differs": "<filename> names another file than the image with the XML's own name,"
    " which was used",
    "filename_used": "no image has the XML's own name, the one in <filename> was used",
    "size_wrong": "<size> differs from the image, the image's own size was used",
    # boxes
    "object_malformed": "object or line without a usable class and box, left out",
    "class_unknown": "box of a class number that has no name, left out",
    "class_unused": "requested class without any box",
    "box_swapped": "box with swapped corners, corners put in order",
    "box_clipped": "box partly outside the image, clipped",
    "box_outside": "box wholly outside the image, left out",
    "box_empty": "box less than one pixel wide or high, left out",
    "box_repeated": "box that its image has already, with the same class, left out",
    "class_name_doubtful": "class name that says nothing to the model, see --rename",
    # paths and lists
    "path_refused": "path that leaves the source folder or is not valid, not followed",
    "path_moved": "path of another machine, its end was found in the source folder",
    "folder_unreadable": "folder that cannot be listed",
    "split_missing": "split whose images cannot be found",
    "split_unknown": "file whose name and folder tell no split, used as train",
    "listed_absent": "entry of a split list that has no usable image",
    "nc_differs": "nc differs from the number of names, the names were used",
}
"""What was found and what was done about it, by kind."""

NOTES = {
    "image_without_boxes": "image without a box, kept",
    "exif_orientation": "image with an EXIF orientation, its size taken as displayed",
    "exif_boxes_turned": "boxes drawn on the stored, unturned image, turned with it",
    "difficult": "box marked difficult, attribute kept",
    "object_deleted": "object that LabelMe marks as deleted, left out",
    "polygon": "polygon or rotated box, its bounding box was used",
    "keypoints": "pose, its box was used without the keypoints",
    "further_columns": "confidence or track number after a box, not used",
    "label_elsewhere": "label found by its name in another folder",
    "class_renamed": "class renamed by --rename",
    "mended": "value of the annotation file that was missing or written differently",
    "class_not_chosen": "box of a class that was not requested, left out",
    "not_in_split": "image in no split, left out",
    "no_split": "no split found, all images are in train",
    "path_unused": "path of data.yaml that leaves its folder, where the splits were found",
    "split_from_folder": "split not named in the data file, its folder was used",
    "other_task": "JSON file of captions, keypoints or another kind, not used",
    "hidden_file": "hidden file or folder, not looked at",
}
"""The same of what ``--strict`` accepts."""


@dataclass
class ConversionReport:
    """Counts and names of all findings of a conversion.

    Args:
        root: Source folder. Files are named relative to it.
        source_format: ``"voc"``, ``"yolo"`` or ``"coco"``.
    """

    root: Path
    source_format: str
    counts: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    images_found: int = 0
    images_dropped: int = 0
    boxes_found: int = 0
    boxes_dropped: int = 0
    categories: tuple[str, ...] = ()
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, kind: str, where: Path | str, detail: str = "") -> None:
        """Counts one finding and names where it was met (a path, or ``path:line``)."""
        if kind not in PROBLEMS and kind not in NOTES:
            raise KeyError(f"'{kind}' is not a kind of finding; add it to PROBLEMS or NOTES.")
        self.counts[kind] += 1
        names = self.named.setdefault(kind, [])
        if len(names) < MAX_NAMED:
            names.append((self.name(where)[:MAX_TEXT], detail[:MAX_TEXT]))

    def drop_image(self, kind: str, where: Path | str, detail: str = "", boxes: int = 0) -> None:
        """Counts a finding for which an image is left out, with the ``boxes`` already read for
        it.
        """
        self.images_dropped += 1
        self.boxes_dropped += boxes
        self.add(kind, where, detail)

    def drop_box(self, kind: str, where: Path | str, detail: str = "") -> None:
        """Counts a finding for which a box is left out."""
        self.boxes_dropped += 1
        self.add(kind, where, detail)

    def name(self, where: Path | str) -> str:
        """Returns ``where`` relative to the source folder if it is a path inside it."""
        if isinstance(where, Path) and where.is_relative_to(self.root):
            return where.relative_to(self.root).as_posix()
        return str(where)

    @property
    def problems(self) -> int:
        """Number of findings that are problems rather than notes."""
        return sum(count for kind, count in self.counts.items() if kind in PROBLEMS)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain data, in a fixed order."""

        def section(meanings: Mapping[str, str]) -> dict[str, Any]:
            return {
                kind: {
                    "count": self.counts[kind],
                    "meaning": meaning,
                    "where": [
                        f"{where} ({detail})" if detail else where
                        for where, detail in self.named[kind]
                    ],
                }
                for kind, meaning in meanings.items()
                if self.counts[kind]
            }

        images = sum(split["images"] for split in self.splits.values())
        boxes = sum(split["boxes"] for split in self.splits.values())
        return {
            "format_version": 1,
            "source_format": self.source_format,
            "categories": list(self.categories),
            "splits": self.splits,
            "images": {
                "found": self.images_found,
                "written": images,
                "left_out": self.images_dropped,
            },
            "boxes": {"found": self.boxes_found, "written": boxes, "left_out": self.boxes_dropped},
            "problems": section(PROBLEMS),
            "notes": section(NOTES),
        }

    def table(self, examples: int = 2) -> str:
        """Returns the report as text: splits, totals, and one row per kind of finding with a few
        names.
        """
        data = self.to_dict()
        rows = [("split", "images", "without boxes", "boxes")]
        rows += [
            (name, str(s["images"]), str(s["images_without_boxes"]), str(s["boxes"]))
            for name, s in self.splits.items()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]
        lines.append(f"classes: {printable(', '.join(self.categories), None)}")
        for what in ("images", "boxes"):
            total = data[what]
            lines.append(
                f"{what}: {total['found']} found, {total['written']} written, {total['left_out']}"
                " left out"
            )
        for title in ("problems", "notes"):
            if not data[title]:
                lines.append(f"{title}: none")
                continue
            lines.append(f"{title}:")
            for kind, entry in data[title].items():
                lines.append(f"  {entry['count']:>7}  {kind}: {entry['meaning']}")
                lines += [
                    f"           {printable(where, None)[:200]}"
                    for where in entry["where"][:examples]
                ]
                if entry["count"] > examples:
                    lines.append(
                        f"           … and {entry['count'] - examples} more, see the report file"
                    )
        return "\n".join(line.rstrip() for line in lines)
