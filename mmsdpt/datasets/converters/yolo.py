"""YOLO text labels (Ultralytics, Roboflow, CVAT, Label Studio, labelImg) to COCO JSON."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mmsdpt.datasets.image_files import IMAGE_SUFFIXES
from mmsdpt.datasets.split_names import SPLITS, share_split
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text, folded, is_archive, no_folder

from .coco_writer import check_output, chosen_classes, note_renames, write_coco
from .common import Instance, Sample, fit_box, read_image_size
from .files import ImageMode, LabelRefused, find_inside, read_label, scan, trusted_folder
from .report import ConversionReport
from .split import random_split
from .yolo_folders import (
    DatasetFolders,
    class_names,
    find_data_file,
    label_side,
    names_of_a_part,
    read_data_file,
)


def convert_yolo(
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
    """Converts a YOLO dataset.

    A label line is ``class cx cy w h`` in fractions of the displayed image, or ``class x1 y1 x2 y2
    x3 y3 ...``, a polygon, of which the bounding box is taken. With ``kpt_shape`` in data.yaml a
    line of a box and its keypoints is a pose, of which the box is taken; a confidence or track
    number after a box is left out. Boxes become pixels without any offset.

    ``train``, ``val`` (or ``valid``) and ``test`` in data.yaml name a folder, a text file of image
    paths, or a list of these. They are looked for below ``path``, below the file itself, and
    without leading ``../`` (Roboflow's way); a split that data.yaml does not name, but whose folder
    is there, is used and noted. The label of ``.../images/a.jpg`` is ``.../labels/a.txt``, or
    ``a.txt`` beside it. Nothing outside ``root`` is read.

    Args:
        src: The data.yaml, obj.data (CVAT, darknet) or classes.txt (Label Studio, labelImg), or the
            folder that holds it.
        root: Folder that holds all of the dataset. Default: the folder of data.yaml.
        split: Three fractions that sum to 1, or three counts, drawn at random by ``seed`` from all
            images. Default: the splits of data.yaml, or of folders; without any all is train.
        classes: Classes to convert, in the order of their ids. Default: all names of data.yaml, in
            their order.
        missing_labels: Whether an image without a label file is kept as one without boxes, as YOLO
            trains on it.

    For the other arguments, returns and errors see :func:`convert_voc`.
    """
    source, out = Path(src), None if out is None else Path(out)
    if source.is_dir():
        source = find_data_file(source)
    if not source.is_file() or is_archive(source):
        raise InputError(f"{source} {no_folder(source)}; expected the dataset's data.yaml.")
    here = source.resolve().parent
    if names_of_a_part(source):
        here = here.parent
    top = trusted_folder(root, here)
    check_output(out, top, overwrite)
    data = read_data_file(source)
    report = ConversionReport(top, "yolo")
    rename = dict(rename or {})
    names = class_names(data, source, report)
    note_renames(rename, list(names.values()), report)
    names = {number: rename.get(name, name) for number, name in names.items()}
    categories = chosen_classes(classes, names.values())
    exclude = out and out.resolve()
    files = scan(top, top, IMAGE_SUFFIXES | {".txt"}, ConversionReport(top, "yolo"), exclude)
    labels = [path for path in files if path.suffix.lower() == ".txt"]
    reader = _Reader(
        names,
        frozenset(categories),
        missing_labels == "keep",
        _keypoints(data, source),
        labels,
        report,
    )
    folders = DatasetFolders(
        here, top, data, exclude, report, short_paths=source.suffix.lower() == ".data"
    )
    pictures = {name: folders.images(name) for name in SPLITS}
    if not pictures["train"] and any(pictures.values()) and "split_missing" in report.named:
        told = "; ".join(": ".join(each) for each in report.named["split_missing"])
        raise InputError(f"{source} has no training images: {told}.")
    if not any(pictures.values()) and not report.problems:
        pictures = {"train": folders.everything()}
    if split is not None:  # an image in two splits counts once
        pictures = {"train": list(dict.fromkeys(chain(*pictures.values())))}
    left = folders.in_no_split(chain(*pictures.values()))
    report.images_found += sum(map(len, pictures.values())) + len(left)
    for path in left:
        report.drop_image("not_in_split", path)
    reader.pair(pictures, [path for path in files if path.suffix.lower() != ".txt"])
    splits = {
        name: reader.read_all(paths, f"{name} labels", progress) for name, paths in pictures.items()
    }
    reader.refuse_other_conventions()
    reader.count_unused_labels(folders.label_files(labels))
    if classes is not None:
        for name in sorted(set(categories) - reader.seen):
            report.add("class_unused", name)
    if split is not None:
        splits = random_split(splits["train"], split, seed, report)
    write_coco(out, splits, categories, images, report, strict, progress)
    return report


def _keypoints(data: Mapping, source: Path) -> int:
    """How many numbers of a line are keypoints; 0 if there are no keypoints.

    Raises:
        InputError: if ``kpt_shape`` is not two numbers, the second 2 or 3.
    """
    shape = data.get("kpt_shape")
    if shape is None:
        return 0
    match shape:
        case [str(count), "2" | "3" as width] if count.isdecimal():
            return int(count) * int(width)
    raise InputError(
        f"kpt_shape in {source} must be [number, 2 or 3], as in [17, 3]; got {shape!r}."
    )


_MOST = 1.5
"""Largest fraction; more is a box in pixels or percent."""


class _Reader:
    """Reads label files."""

    def __init__(
        self,
        names: dict[int, str],
        chosen: frozenset[str],
        keep_unlabelled: bool,
        keypoints: int,
        labels: Sequence[Path],
        report: ConversionReport,
    ) -> None:
        self.names, self.chosen, self.keep_unlabelled = names, chosen, keep_unlabelled
        self.keypoints, self.report = keypoints, report
        self.by_path = {(path.parent, path.stem): path for path in reversed(labels)}
        self.by_folded: dict[tuple[Path, str], list[Path]] = {}
        for path in labels:
            self.by_folded.setdefault((path.parent, folded(path.stem)), []).append(path)
        self.by_stem: dict[str, list[Path]] = {}
        for path in labels:
            self.by_stem.setdefault(path.stem, []).append(path)
        self.seen: set[str] = set()
        self.numbers: set[int] = set()  # of all classes in labels, with or without a name
        self.angle = ""  # place of the first rotated box
        self.boxes: list[Sequence[float]] = []  # four numbers each, to check the convention
        self.overshoots = 0  # boxes that, as centre and size, exceed their image
        self.labels: dict[Path, Path | None] = {}  # by image
        self.places: dict[Path, list[Path]] = {}  # of labels, by folder of images
        self.used_labels: dict[Path, Path] = {}

    def pair(self, pictures: Mapping[str, Sequence[Path]], on_disk: Sequence[Path]) -> None:
        """Finds the label of each image: first in the image's own label folder.

        If it is not there, the only label of the same name is used, but not from the label folder
        of other images: cameras and splits often use the same file names, and an image without
        boxes often has no label. If an image's own label folder has no label of any image, an
        unused label from the label folder of a parent folder may be used.

        Args:
            on_disk: All images, also those in no split.
        """
        root = self.report.root
        images = dict.fromkeys(chain(*pictures.values()))
        self.labels = {image: self._own_label(image) for image in images}
        claimed = set(self.labels.values())
        found = claimed.union(map(self._own_label, on_disk))
        owned = {label.parent for label in found if label is not None}
        lacking = [image for image, label in self.labels.items() if label is None]
        wanted = Counter(stem for _, stem in {(image.parent, image.stem) for image in lacking})
        for image in lacking:
            above: set[Path] = set()
            if owned.isdisjoint(self._places(image.parent)):
                folders = (each for each in image.parents if each.is_relative_to(root))
                above = set(chain(*map(self._places, folders)))
            alike = [
                label
                for label in self.by_stem.get(image.stem, ())
                if (label.parent not in owned or (label.parent in above and label not in claimed))
                and share_split(image.relative_to(root), label.relative_to(root))
            ]
            if not self._refuses(image) and len(alike) == wanted[image.stem] == 1:
                self.report.add("label_elsewhere", image, self.report.name(alike[0]))
                self.labels[image] = alike[0]

    def read_all(self, pictures: Sequence[Path], title: str, progress: bool) -> list[Sample]:
        samples = [
            self._read(path)
            for path in tqdm(pictures, desc=title, unit="img", disable=not progress)
        ]
        return [sample for sample in samples if sample is not None]

    def refuse_other_conventions(self) -> None:
        """Refuses labels in another format than YOLO's: rotated boxes, boxes that are probably two
        corners or a corner and the size, and class numbers that start at another number than the
        names.

        Raises:
            InputError: if the labels are in such a format.
        """
        used, known = self.numbers, set(self.names)
        for shift in (1, -1):
            if not used <= known and {number - shift for number in used} <= known:
                raise InputError(
                    f"the labels of {self.report.root} have the classes {min(used)} to {max(used)},"
                    f" but the names are for {min(known)} to {max(known)}: both must start at the"
                    " same number."
                )
        if self.angle:
            raise InputError(
                f"the number after the box in {self.angle} is no confidence and no track: rotated"
                " boxes, cx cy w h angle, must be converted first."
            )
        count = len(self.boxes)
        many = self.overshoots >= 5 and self.overshoots * 10 > count
        if self.overshoots and all(x < w <= 1 and y < h <= 1 for x, y, w, h in self.boxes):
            form = "x1 y1 x2 y2"
        elif many and all(
            x >= 0 and x + w < 1.02 and y >= 0 and y + h < 1.02 for x, y, w, h in self.boxes
        ):
            form = "x y w h from the upper left corner"
        else:
            return
        raise InputError(
            f"the boxes of {self.report.root} seem to be {form}, and YOLO's are the centre and the"
            f" size, cx cy w h: read so, {self.overshoots} of {count} leave their image; convert"
            " them first."
        )

    def count_unused_labels(self, labels: Sequence[Path]) -> None:
        """Counts the label files without an image."""
        for path in labels:
            if path not in self.used_labels:
                self.report.add("label_without_image", path)

    def _read(self, image: Path) -> Sample | None:
        label = self.labels[image]
        if label is not None and self.used_labels.setdefault(label, image) != image:
            self.report.drop_image("image_name_duplicate", image)
            return None
        size = read_image_size(image, self.report)
        if size is None:
            return None
        if label is None:
            if not self.keep_unlabelled:
                self.report.drop_image("label_missing", image, "skipped")
                return None
            self.report.add("label_missing", image, "kept without boxes")
            return Sample(image, *size.displayed, [])
        try:
            text = decode_text(read_label(label))
        except LabelRefused as error:
            self.report.add("label_refused", label, str(error))
            self.report.drop_image("image_without_usable_label", image)
            return None
        except InputError as error:
            self.report.add("label_malformed", label, str(error))
            self.report.drop_image("image_without_usable_label", image)
            return None
        instances = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                instance = self._instance(
                    line.split(), f"{self.report.name(label)}:{number}", size.displayed
                )
                instances += [] if instance is None else [instance]
        return Sample(image, *size.displayed, instances)

    def _own_label(self, image: Path) -> Path | None:
        for folder in self._places(image.parent):
            label = self.by_path.get((folder, image.stem))
            if label is not None:
                return label
            alike = self.by_folded.get((folder, folded(image.stem)), [])
            if len(alike) == 1:
                return alike[0]
        return None

    def _places(self, folder: Path) -> list[Path]:
        """The two folders where the labels of a folder's images may be, with links resolved."""
        if folder not in self.places:
            sides = (label_side(folder, self.report.root), folder)
            self.places[folder] = [Path(os.path.realpath(side)) for side in sides]
        return self.places[folder]

    def _refuses(self, image: Path) -> bool:
        """Whether the label in the image's own label folder is a link to a file outside."""
        for folder in self._places(image.parent):
            label = folder / f"{image.stem}.txt"
            if label.is_file() and find_inside(self.report.root, label) is None:
                self.report.add("path_refused", label, "link to a file outside")
                return True
        return False

    @cached_property
    def _has_polygons(self) -> bool:
        """Whether more lines of all labels are certainly polygons than certainly tracked boxes."""
        polygons = tracks = 0
        for label in dict.fromkeys(filter(None, self.labels.values())):
            try:
                lines = decode_text(read_label(label)).split("\n")
            except (LabelRefused, InputError):  # reported later, in _read
                continue
            for columns in map(str.split, lines):
                number = columns[-1].isdecimal() if columns else False
                polygons += len(columns) % 2 == 1 and len(columns) > (7 if number else 5)
                tracks += len(columns) == 7 and number and columns[-1] not in ("0", "1")
        return polygons > tracks

    def _instance(self, columns: list[str], where: str, size: tuple[int, int]) -> Instance | None:
        self.report.boxes_found += 1
        try:
            number, *values = (float(column) for column in columns)
        except ValueError:
            told = f"a column is not a number: {' '.join(columns)[:60]}"
            self.report.drop_box("object_malformed", where, told)
            return None
        if not all(math.isfinite(value) for value in (number, *values)) or not number.is_integer():
            self.report.drop_box(
                "object_malformed", where, "a column is not finite, or the class is not an integer"
            )
            return None
        kind = self._kind(values, tracked=columns[-1].isdecimal())
        if kind == "box":
            cx, cy, w, h = values[:4]
            fractions = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        elif kind == "polygon":
            xs, ys = values[0::2], values[1::2]
            fractions = (min(xs), min(ys), max(xs), max(ys))
        else:
            self.report.drop_box(
                "object_malformed",
                where,
                f"{len(columns)} columns; a box has 5"
                + (
                    f", a pose of this kpt_shape {5 + self.keypoints}"
                    if self.keypoints
                    else ", a polygon 7, 9, 11 ..."
                ),
            )
            return None
        self.numbers.add(int(number))
        name = self.names.get(int(number))
        if name is None:
            self.report.drop_box("class_unknown", where, f"class {int(number)}")
            return None
        self.seen.add(name)
        if name not in self.chosen:
            self.report.drop_box("class_not_chosen", where, name)
            return None
        if max(abs(value) for value in (values[:4] if kind == "box" else values)) > _MOST:
            self.report.drop_box(
                "object_malformed", where, "numbers over 1; a box is in fractions of its image"
            )
            return None
        if kind == "box":
            if len(values) == 5 and not (0 <= values[4] <= 1 or values[4].is_integer()):
                self.angle = self.angle or where
            self.boxes.append(values[:4])
            self.overshoots += max(fractions[2:]) > 1.02 or min(fractions) < -0.02
        width, height = size
        corners = (
            fractions[0] * width,
            fractions[1] * height,
            fractions[2] * width,
            fractions[3] * height,
        )
        box = fit_box(corners, size, self.report, where)
        if box is None:
            return None
        if kind == "polygon":
            self.report.add("polygon", where, f"{len(values) // 2} points")
        elif len(values) > 4:
            what = "keypoints" if self.keypoints else "further_columns"
            self.report.add(what, where, f"{len(values) - 4} numbers")
        return Instance(name, box)

    def _kind(self, values: Sequence[float], tracked: bool) -> str | None:
        """Whether the numbers after the class are a box (perhaps followed by keypoints, a
        confidence or a track number) or a polygon; None if neither. A triangle has as many numbers
        as a box with confidence and track number; then a last number of 0 or 1 is a track number
        unless the labels have polygons.
        """
        count = len(values)
        if count == 4 or (self.keypoints and count == 4 + self.keypoints):
            return "box"
        if self.keypoints:
            return None
        if count == 6 and values[-1] <= 1 and tracked:
            return "polygon" if self._has_polygons else "box"
        if count == 5 or (count == 6 and values[-1] > 1):
            return "box"
        return "polygon" if count >= 6 and count % 2 == 0 else None
