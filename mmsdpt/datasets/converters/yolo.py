"""YOLO text labels with a data.yaml (Ultralytics, Roboflow) to COCO JSON."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from .coco import check_output, write_coco
from .common import ConverterError, Instance, Sample, fit_box, read_image_size
from .files import ImageMode, LabelRefused, read_label, resolve_inside
from .report import ConversionReport
from .split import SPLITS
from .yolo_folders import DatasetFolders, chosen_classes, class_names, label_side, read_data_file


def convert_yolo(
    src: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    images: ImageMode = "copy",
    missing_labels: Literal["keep", "skip"] = "keep",
    overwrite: bool = False,
    strict: bool = False,
    progress: bool = True,
) -> ConversionReport:
    """Converts a YOLO dataset.

    A label line is ``class cx cy w h`` in fractions of the displayed image, or ``class x1 y1 x2 y2
    x3 y3 ...``, a polygon, of which the bounding box is taken. Boxes become pixels without any
    offset.

    ``train``, ``val`` (or ``valid``) and ``test`` in data.yaml name a folder, a text file of image
    paths, or a list of these. They are looked for below ``path``, below the file itself, and
    without leading ``../`` (Roboflow's way); a split that data.yaml does not name, but whose folder
    is there, is used and noted. The label of ``.../images/a.jpg`` is ``.../labels/a.txt``, or
    ``a.txt`` beside it. Nothing outside ``root`` is read.

    Args:
        src: The data.yaml, or a folder that holds one.
        out: Folder for the result.
        root: Folder that holds all of the dataset. Default: the folder of data.yaml.
        classes: Classes to convert, in the order of their ids. Default: all names of data.yaml, in
            their order.
        images: ``copy`` or ``link`` them, or use them ``in-place`` by absolute path.
        missing_labels: Whether an image without a label file is kept as one without boxes, as YOLO
            trains on it.
        overwrite: Replace an earlier conversion.
        strict: Write nothing and raise if there is any problem.
        progress: Show progress bars.

    Returns:
        The report, which is also written to ``annotations/conversion_report.json``.

    Raises:
        ConverterError: If the conversion cannot be done as asked.
    """
    source, out = Path(src), Path(out)
    if source.is_dir():
        source = source / "data.yaml"
    if not source.is_file():
        raise ConverterError(f"{source} is no file; name the dataset's data.yaml.")
    top = Path(root).resolve() if root is not None else source.resolve().parent
    if not top.is_dir():
        raise ConverterError(f"--root {root} is no folder; name the folder that holds the dataset.")
    check_output(out, top, overwrite)
    data = read_data_file(source)
    report = ConversionReport(top, "yolo")
    names = class_names(data, source, report)
    categories = chosen_classes(classes, names)
    reader = _Reader(names, frozenset(categories), missing_labels == "keep", report)
    folders = DatasetFolders(source.resolve().parent, top, data, out.resolve(), report)
    splits = {}
    for split in SPLITS:
        pictures = folders.images(split)
        splits[split] = reader.read_all(pictures, f"{split} labels", progress)
    reader.count_unused_labels(folders.label_files())
    if classes is not None:
        for name in sorted(set(categories) - reader.seen):
            report.add("class_unused", name)
    write_coco(out, splits, categories, images, report, strict, progress)
    return report


class _Reader:
    """Reads label files."""

    def __init__(
        self,
        names: dict[int, str],
        chosen: frozenset[str],
        keep_unlabelled: bool,
        report: ConversionReport,
    ) -> None:
        self.names, self.chosen, self.keep_unlabelled, self.report = (
            names,
            chosen,
            keep_unlabelled,
            report,
        )
        self.seen: set[str] = set()
        self.used_labels: dict[Path, Path] = {}

    def read_all(self, pictures: Sequence[Path], title: str, progress: bool) -> list[Sample]:
        samples = [
            self._read(path)
            for path in tqdm(pictures, desc=title, unit="img", disable=not progress)
        ]
        return [sample for sample in samples if sample is not None]

    def count_unused_labels(self, labels: Sequence[Path]) -> None:
        """Counts the label files that belong to no image found."""
        for path in labels:
            if path not in self.used_labels:
                self.report.add("label_without_image", path)

    def _read(self, image: Path) -> Sample | None:
        label = self._label(image)
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
            text = read_label(label).decode("utf-8-sig")
        except LabelRefused as error:
            self.report.add("label_refused", label, str(error))
            self.report.drop_image("image_without_usable_label", image)
            return None
        except UnicodeDecodeError:
            self.report.add("label_malformed", label, "it is not UTF-8 text")
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

    def _label(self, image: Path) -> Path | None:
        for folder in (label_side(image.parent, self.report.root), image.parent):
            label = folder / f"{image.stem}.txt"
            if label.is_file():
                if resolve_inside(self.report.root, label) is not None:
                    return label
                self.report.add("path_refused", label, "link to a file outside")
        return None

    def _instance(self, columns: list[str], where: str, size: tuple[int, int]) -> Instance | None:
        self.report.boxes_found += 1
        try:
            number, *values = (float(column) for column in columns)
        except ValueError:
            self.report.drop_box("object_malformed", where, "a column is no number")
            return None
        if not all(math.isfinite(value) for value in (number, *values)) or not number.is_integer():
            self.report.drop_box(
                "object_malformed", where, "a column is no finite number, or the class no whole one"
            )
            return None
        if len(values) == 4:
            cx, cy, w, h = values
            fractions = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        elif len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[0::2], values[1::2]
            fractions = (min(xs), min(ys), max(xs), max(ys))
        else:
            self.report.drop_box(
                "object_malformed",
                where,
                f"{len(columns)} columns; a box has 5, a polygon 7, 9, 11 ...",
            )
            return None
        name = self.names.get(int(number))
        if name is None:
            self.report.drop_box("class_unknown", where, f"class {int(number)}")
            return None
        self.seen.add(name)
        if name not in self.chosen:
            self.report.drop_box("class_not_chosen", where, name)
            return None
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
        if len(values) > 4:
            self.report.add("polygon", where, f"{len(values) // 2} points")
        return Instance(name, box)
