"""The record of a conversion: what was found, written, mended and left out, each counted and
named.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsdpt.utils.errors import printable

MAX_NAMED = 10_000
"""Findings named per kind in the report file. Counts stay exact beyond it."""
MAX_TEXT = 500
"""Characters kept of each name and detail, which a hostile file may make long."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Args:
        meaning: What was found and what was done about it.
        problem: False for a note, which ``--strict`` accepts.
    """

    meaning: str
    problem: bool = True


KINDS: dict[str, Kind] = {
    # images
    "image_unreadable": Kind("truncated or unreadable image, skipped"),
    "image_too_large": Kind("image over Pillow's decompression limit, skipped"),
    "image_name_duplicate": Kind("image that shares folder and stem with the one used, skipped"),
    "image_listed_twice": Kind(
        "image listed again in the same split, used once with all of its boxes"
    ),
    "image_in_two_splits": Kind("image in more than one split, kept in each"),
    "image_name_taken": Kind("image with the file name of another image, written under a new name"),
    "resized": Kind("image resized after it was labelled: its boxes are of <size>, skipped"),
    "image_other_format": Kind("image of a format that is not read, skipped; save it as JPEG"),
    "image_missing": Kind("image that is listed but not there, skipped"),
    "image_without_usable_label": Kind("image whose label file is unusable, skipped"),
    "doubtful": Kind("what was used, and may be meant otherwise"),
    # label files
    "label_malformed": Kind("label file that cannot be parsed, left out"),
    "label_refused": Kind("label file with a DOCTYPE, or over the size limit, left out"),
    "image_malformed": Kind("image of a COCO file that is no object, left out"),
    "category_malformed": Kind("category of a COCO file that is no object, left out"),
    "label_missing": Kind("image without a label file"),
    "label_without_image": Kind("label file without an image, left out"),
    "label_twice": Kind("further label file for an image that has one, left out"),
    "filename_differs": Kind(
        "<filename> names another file than the image with the XML's own name, which was used"
    ),
    "filename_used": Kind("no image has the XML's own name, the one in <filename> was used"),
    "size_wrong": Kind("<size> differs from the image, the image's own size was used"),
    # boxes
    "object_malformed": Kind("object or line without a usable class and box, left out"),
    "class_unknown": Kind("box of a class number that has no name, left out"),
    "class_unused": Kind("requested class without any box"),
    "box_swapped": Kind("box with swapped corners, corners put in order"),
    "box_clipped": Kind("box partly outside the image, clipped"),
    "box_outside": Kind("box wholly outside the image, left out"),
    "box_empty": Kind("box less than one pixel wide or high, left out"),
    "box_repeated": Kind("box that its image has already, with the same class, left out"),
    "class_name_doubtful": Kind("class name that says nothing to the model, see --rename"),
    # paths and lists
    "path_refused": Kind("path that leaves the source folder or is not valid, not followed"),
    "path_moved": Kind("path of another machine, its end was found in the source folder"),
    "folder_unreadable": Kind("folder that cannot be listed"),
    "split_missing": Kind("split whose images cannot be found"),
    "split_unknown": Kind("file whose name and folder tell no split, used as train"),
    "listed_absent": Kind("entry of a split list that has no usable image"),
    "nc_differs": Kind("nc differs from the number of names, the names were used"),
    # notes
    "image_without_boxes": Kind("image without a box, kept", problem=False),
    "exif_orientation": Kind(
        "image with an EXIF orientation, its size taken as displayed", problem=False
    ),
    "exif_boxes_turned": Kind(
        "boxes drawn on the stored, unturned image, turned with it", problem=False
    ),
    "difficult": Kind("box marked difficult, attribute kept", problem=False),
    "polygon": Kind("polygon or rotated box, its bounding box was used", problem=False),
    "keypoints": Kind("pose, its box was used without the keypoints", problem=False),
    "further_columns": Kind("confidence or track number after a box, not used", problem=False),
    "label_elsewhere": Kind("label found by its name in another folder", problem=False),
    "class_renamed": Kind("class renamed by --rename", problem=False),
    "mended": Kind(
        "value of the annotation file that was missing or written differently", problem=False
    ),
    "class_not_chosen": Kind("box of a class that was not requested, left out", problem=False),
    "not_in_split": Kind("image in no split, left out", problem=False),
    "no_split": Kind("no split found, all images are in train", problem=False),
    "path_unused": Kind(
        "path of data.yaml that leaves its folder, where the splits were found", problem=False
    ),
    "split_from_folder": Kind(
        "split not named in the data file, its folder was used", problem=False
    ),
    "other_task": Kind("JSON file of captions, keypoints or another kind, not used", problem=False),
    "hidden_file": Kind("hidden file or folder, not looked at", problem=False),
}


@dataclass
class ConversionReport:
    """Counts and names of everything a conversion met.

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
        if kind not in KINDS:
            raise KeyError(f"'{kind}' is not a kind of finding; add it to KINDS.")
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
        return sum(count for kind, count in self.counts.items() if KINDS[kind].problem)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain data, in a fixed order."""

        def section(problem: bool) -> dict[str, Any]:
            return {
                kind: {
                    "count": self.counts[kind],
                    "meaning": KINDS[kind].meaning,
                    "where": [
                        f"{where} ({detail})" if detail else where
                        for where, detail in self.named[kind]
                    ],
                }
                for kind in KINDS
                if self.counts[kind] and KINDS[kind].problem is problem
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
            "problems": section(problem=True),
            "notes": section(problem=False),
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
