"""Pascal VOC XML to COCO JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal
from xml.etree.ElementTree import Element
from xml.parsers import expat

from tqdm import tqdm

from mmsdpt.datasets.image_files import IMAGE_SUFFIXES, ImageFacts
from mmsdpt.datasets.split_names import share_split
from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import folded, no_folder

from .coco_writer import check_output, note_renames, write_coco
from .common import Box, Instance, Sample, fit_box, read_image_size, turn_box
from .files import ImageMode, LabelRefused, read_label, scan
from .report import ConversionReport
from .split import random_split
from .voc_splits import folder_splits, listed_splits
from .voc_xml import (
    box_corners,
    boxed_objects,
    parse_xml,
    polygon_points,
    read_number,
    rotated_corners,
)


def convert_voc(
    src: str | Path,
    out: str | Path | None,
    *,
    split: Sequence[float] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    images: ImageMode = "copy",
    difficult: Literal["keep", "ignore"] = "keep",
    zero_based: bool = False,
    missing_labels: Literal["keep", "skip"] = "skip",
    overwrite: bool = False,
    strict: bool = False,
    progress: bool = True,
) -> ConversionReport:
    """Converts a folder of VOC XML files and images, including subfolders.

    Pixel convention: VOC counts pixels from 1. As MMDetection does (``XMLDataset`` and
    ``pascal_voc.py``), 1 is subtracted from all four coordinates and the width is ``xmax - xmin``,
    so that x, y, w, h = xmin - 1, ymin - 1, xmax - xmin, ymax - ymin. Unlike ``XMLDataset``,
    fractions of a pixel are kept and boxes are clipped to the image.

    The image of ``a/x.xml`` is the one with stem ``x``, any image extension and case, nearest in
    the folder tree; the file named in ``<filename>`` is used only where there is none. Splits come
    from ``split``, else from ``ImageSets/Main/{train,val,test}.txt``, else from folders named
    train, val or valid, and test, else all is train.

    Args:
        src: Folder of the dataset.
        out: Folder for the result; None writes nothing and only reports.
        split: Three fractions that sum to 1, or three counts, drawn at random by ``seed``.
        seed: Seed of the draw.
        classes: Classes to convert, in the order of their ids. Default: all that occur, sorted by
            name.
        rename: New class names by old ones; classes that get one name become one.
        images: ``copy`` or ``link`` them, or use them ``in-place`` by absolute path.
        difficult: Boxes marked difficult always carry ``difficult: 1``. ``keep`` leaves them
            ordinary boxes; ``ignore`` sets ``iscrowd: 1``, so that MMDetection neither trains on
            them nor counts them in evaluation.
        zero_based: The boxes already count from 0: nothing is subtracted.
        missing_labels: Whether an image without XML is kept as one without boxes. In VOC such an
            image was not annotated, so the default is to skip it.
        overwrite: Replace an earlier conversion.
        strict: Write nothing and raise if there is any problem.
        progress: Show progress bars.

    Returns:
        The report, which is also written to ``annotations/conversion_report.json``.

    Raises:
        InputError: if the conversion cannot be done as asked.
    """
    src, out = Path(src), None if out is None else Path(out)
    if not src.is_dir():
        raise InputError(
            f"{src} {no_folder(src)}; expected the folder that holds the XML files and images."
        )
    root = src.resolve()
    check_output(out, root, overwrite)
    if classes is not None and (not classes or len(set(classes)) != len(classes)):
        raise InputError(
            f"--classes needs different, non-empty class names, got '{','.join(classes)}'."
        )
    report = ConversionReport(root, "voc")
    files = scan(root, root, IMAGE_SUFFIXES | {".xml"}, report, exclude=out and out.resolve())
    xmls = [path for path in files if path.suffix.lower() == ".xml"]
    pictures = [path for path in files if path.suffix.lower() != ".xml"]
    report.images_found = len(pictures)
    if not xmls:
        raise InputError(f"No XML file was found in {src}; give the folder of the annotations.")

    rename = dict(rename or {})
    reader = _Reader(
        pictures, report, classes, rename, difficult == "ignore", 0.0 if zero_based else 1.0
    )
    samples = reader.read_all(xmls, missing_labels == "keep", progress)
    reader.refuse_sizes()
    note_renames(rename, sorted(reader.old_names), report)
    if classes is not None and reader.names and reader.names.isdisjoint(classes):
        raise InputError(
            f"--classes has none of the classes {', '.join(sorted(reader.names))}; got"
            f" '{','.join(classes)}'."
        )
    categories = list(classes) if classes is not None else sorted(reader.names)
    if not categories and report.counts["resized"]:
        raise InputError(
            f"{report.counts['resized']} images of {src} were resized after they were labelled, and"
            f" none is left with a box: {', '.join(report.named['resized'][0])}; use the"
            " images that were labelled, or correct <size> where the boxes are right."
        )
    if not categories:
        if report.counts["label_without_image"] == len(xmls):
            raise InputError(
                f"No image was found for any of the {len(xmls)} XML files of {src}, the first is"
                f" {report.named['label_without_image'][0][0]}; give the folder that holds both,"
                " where an image has the name of its XML file or the one in <filename>."
            )
        kinds = ("object_malformed", "label_malformed", "label_refused")
        found = next((report.named[k][0] for k in kinds if k in report.named), ("no <object>", ""))
        raise InputError(
            f"No object with a class and a box was found in the {len(xmls)} XML files of {src}:"
            f" {': '.join(filter(None, found))}."
        )
    for name in sorted(set(categories) - reader.names):
        report.add("class_unused", name)

    if split is not None:
        splits = random_split(samples, split, seed, report)
    else:
        splits = listed_splits(root, samples, report) or folder_splits(samples, report)
    write_coco(out, splits, categories, images, report, strict, progress)
    return report


_SLACK = 2.0  # pixels that a box may exceed its image by rounding
_CERTAIN = 10  # this many boxes of a larger image would not all fit into a smaller one


class _WrongSize:
    """An image and its XML, whose <size> differs from that of the image.

    Args:
        declared: Width and height in <size>; None if there is no number.
    """

    def __init__(
        self,
        xml: Path,
        tree: Element,
        image: Path,
        size: ImageFacts,
        declared: tuple[float | None, float | None],
    ) -> None:
        self.xml, self.tree, self.image, self.size = xml, tree, image, size
        self.declared = declared[0] or 0.0, declared[1] or 0.0
        self.own = size.displayed
        self.corners = [c for c in map(box_corners, boxed_objects(tree)) if c is not None]

    @property
    def may_be_meant(self) -> bool:
        """Whether the boxes, if there are any, may belong to an image of the size in <size>."""
        differs = any(abs(a - b) > _SLACK for a, b in zip(self.declared, self.own, strict=True))
        return bool(self.corners) and min(self.declared) > 0 and differs

    @property
    def kind(self) -> str:
        """How the image was changed: turned, scaled (and rounded to whole pixels) or other."""
        (w, h), (width, height) = self.declared, self.own
        if (w, h) == (height, width):
            return "turned"
        return "scaled" if abs(w * height - h * width) <= max(w, h) else "other"

    def fits(self, size: tuple[float, float]) -> bool:
        """Whether all boxes are inside an image of this width and height."""
        return all(c[2] <= size[0] + _SLACK and c[3] <= size[1] + _SLACK for c in self.corners)


class _Reader:
    """Reads XML files and pairs them with images."""

    def __init__(
        self,
        pictures: Sequence[Path],
        report: ConversionReport,
        classes: Sequence[str] | None,
        rename: Mapping[str, str],
        ignore_difficult: bool,
        offset: float,
    ) -> None:
        self.report = report
        self.classes = None if classes is None else frozenset(classes)
        self.ignore_difficult = ignore_difficult
        self.offset = offset
        self.rename = rename
        self.names: set[str] = set()
        self.old_names: set[str] = set()
        self.pictures = pictures
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in pictures:
            self.by_stem[folded(path.stem)].append(path)
            self.by_name[folded(path.name)].append(path)
        self.claimed: set[Path] = set()
        self.wrong_sizes: list[_WrongSize] = []
        self.shapes: Counter[str] = Counter()

    def read_all(self, xmls: Sequence[Path], keep_unlabelled: bool, progress: bool) -> list[Sample]:
        samples = []
        # An image belongs to the nearest XML with its name, even if another XML has it as
        # <filename>.
        order = sorted(xmls, key=lambda path: (-self._closeness(path), self.report.name(path)))
        for xml in tqdm(order, desc="annotations", unit="xml", disable=not progress):
            sample = self._read(xml)
            if sample is not None:
                samples.append(sample)
        samples += self._read_wrong_sizes()
        used = {(path.parent, folded(path.stem)) for path in self.claimed}
        for path in self.pictures:
            if path in self.claimed:
                continue
            if (path.parent, folded(path.stem)) in used:
                self.report.drop_image("image_name_duplicate", path)
            elif not keep_unlabelled:
                self.report.drop_image("label_missing", path, "skipped")
            else:
                self.report.add("label_missing", path, "kept without boxes")
                size = read_image_size(path, self.report)
                if size is not None:
                    samples.append(
                        Sample(path, *size.displayed, [], self.report.name(path.with_suffix("")))
                    )
        return samples

    def _read(self, xml: Path) -> Sample | None:
        try:
            tree = parse_xml(read_label(xml))
        except LabelRefused as error:
            self.report.add("label_refused", xml, str(error))
            tree = None
        except expat.ExpatError as error:
            self.report.add(
                "label_malformed",
                f"{self.report.name(xml)}:{error.lineno}",
                expat.ErrorString(error.code),
            )
            tree = None
        if tree is not None and tree.tag != "annotation":
            cvat = ", CVAT's own format: export as Pascal VOC there" * (tree.tag == "annotations")
            self.report.add(
                "label_malformed", xml, f"its root is <{tree.tag}>, expected <annotation>{cvat}"
            )
            tree = None
        image = self._find_image(
            xml, "" if tree is None else (tree.findtext("filename") or "").strip()
        )
        if image is None:
            if tree is not None:
                self.report.add("label_without_image", xml)
            return None
        if image in self.claimed:
            self.report.add("label_twice", xml, self.report.name(image))
            return None
        self.claimed.add(image)
        if tree is None:
            self.report.drop_image("image_without_usable_label", image)
            return None
        size = read_image_size(image, self.report)
        if size is None:
            return None
        declared = (read_number(tree, "size/width"), read_number(tree, "size/height"))
        turn = size.size != size.displayed and declared == size.size
        if turn:
            self.report.add("exif_boxes_turned", image, f"orientation {size.orientation}")
        elif declared != size.displayed:
            told = "none" if None in declared else f"{declared[0]:g}x{declared[1]:g}"
            self.report.add(
                "size_wrong", xml, f"{told}, the image is {size.displayed[0]}x{size.displayed[1]}"
            )
            each = _WrongSize(xml, tree, image, size, declared)
            if each.may_be_meant:
                self.wrong_sizes.append(each)
                return None
        return self._sample(xml, tree, image, size, turn)

    def _sample(
        self, xml: Path, tree: Element, image: Path, size: ImageFacts, turn: bool = False
    ) -> Sample:
        instances = [
            self._instance(node, f"{self.report.name(xml)}:{node.get('line')}", size, turn)
            for node in boxed_objects(tree)
        ]
        kept = [instance for instance in instances if instance is not None]
        return Sample(image, *size.displayed, kept, self.report.name(xml.with_suffix("")))

    def _read_wrong_sizes(self) -> Iterator[Sample]:
        """Reads the images with a wrong <size>, but leaves out those that were resized after they
        were labelled. One image is rarely enough to detect this, so all images of one kind are
        judged together: some boxes of the larger size will not fit into the smaller one.
        """
        for kind in dict.fromkeys(each.kind for each in self.wrong_sizes):
            group = [each for each in self.wrong_sizes if each.kind == kind]
            of_file = sum(each.fits(each.declared) > each.fits(each.own) for each in group)
            of_image = sum(each.fits(each.declared) < each.fits(each.own) for each in group)
            few = sum(len(each.corners) for each in group) < _CERTAIN
            for each in group:
                if kind != "scaled":  # <size> is often wrong in other ways
                    resized = of_image < of_file >= len(group) / 10
                elif of_file == of_image:
                    resized = few or each.declared < each.own
                else:
                    resized = of_file > of_image
                if each.fits(each.declared) and (resized or not each.fits(each.own)):
                    told = "its boxes are of {:g}x{:g} pixels".format(*each.declared)
                    self.report.drop_image("resized", each.image, told)
                else:
                    yield self._sample(each.xml, each.tree, each.image, each.size)

    def refuse_sizes(self) -> None:
        """Refuses boxes that seem to be a corner and the size: as two corners, many are swapped.

        Raises:
            InputError: if the boxes seem to be a corner and the size.
        """
        count, swapped = self.shapes["all"], self.shapes["swapped"]
        if swapped >= 5 and swapped * 10 > count and self.shapes["size"] >= 0.99 * count:
            raise InputError(
                f"the boxes of {self.report.root} seem to be x, y, width, height, and VOC's are the"
                f" corners xmin, ymin, xmax, ymax: read so, {swapped} of {count} have swapped"
                " corners; convert them first."
            )

    def _find_image(self, xml: Path, file_name: str) -> Path | None:
        pure = PurePosixPath(file_name.replace("\\", "/"))
        if pure.is_absolute() or PureWindowsPath(file_name).drive or ".." in pure.parts:
            self.report.add("path_refused", xml, f"<filename> is {file_name}")
            pure = PurePosixPath()
        image = self._nearest(xml, self.by_stem[folded(xml.stem)], pure.name)
        if image is not None:
            # Some tools write it without a suffix.
            if pure.name and one_form(pure.name) not in map(one_form, (image.name, image.stem)):
                self.report.add("filename_differs", xml, f"{pure.name}, used {image.name}")
            return image
        name = folded(pure.name)
        named = self.by_name[name] or self.by_stem[name] or self.by_stem[folded(pure.stem)]
        image = self._nearest(xml, named, pure.name)
        if image is not None:
            self.report.add("filename_used", xml, image.name)
        return image

    def _closeness(self, xml: Path) -> int:
        """Number of folders that the XML shares with the image of the same name; -1 if there is
        none.
        """
        image = self._nearest(xml, self.by_stem[folded(xml.stem)], "")
        return -1 if image is None else _shared_folders(xml, image)

    def _nearest(self, xml: Path, candidates: Sequence[Path], file_name: str) -> Path | None:
        """Returns the candidate that shares most folders with ``xml``; if several are equal, the
        one named ``file_name``.

        An image in another split's folder is not a candidate, because splits often use the same
        numbers as file names.
        """
        root = self.report.root
        place = xml.relative_to(root)
        usable = [path for path in candidates if share_split(place, path.relative_to(root))]
        return min(
            usable,
            key=lambda path: (-_shared_folders(xml, path), path.name != file_name, path.as_posix()),
            default=None,
        )

    def _instance(self, node: Element, where: str, size: ImageFacts, turn: bool) -> Instance | None:
        self.report.boxes_found += 1
        old = one_form(node.findtext("name") or "")
        if (node.findtext("deleted") or "").strip() == "1":
            self.report.drop_box("object_deleted", where, old)
            return None
        corners = self._corners(node, where)
        if not old or corners is None:
            tags = ", ".join(f"<{child.tag}>" for child in node if child.tag != "name") or "nothing"
            what = f"a <bndbox> of four numbers, it has {tags}" if old else "a <name>"
            self.report.drop_box("object_malformed", where, f"without {what}")
            return None
        (x1, y1, x2, y2), (width, height) = corners, size.size if turn else size.displayed
        inside = x1 + x2 < width and y1 + y2 < height
        self.shapes.update(all=1, swapped=x2 < x1 or y2 < y1, size=inside)
        name = self.rename.get(old, old)
        self.old_names.add(old)
        self.names.add(name)
        if self.classes is not None and name not in self.classes:
            self.report.drop_box("class_not_chosen", where, name)
            return None
        box = turn_box(corners, size) if turn else corners
        fitted = fit_box(box, size.displayed, self.report, where)
        if fitted is None:
            return None
        extra: dict[str, int] = {}
        if (node.findtext("difficult") or "").strip().lower() in ("1", "true"):
            self.report.add("difficult", where, name)
            extra = {"difficult": 1, "iscrowd": int(self.ignore_difficult)}
        return Instance(name, fitted, extra)

    def _corners(self, node: Element, where: str) -> Box | None:
        """x1, y1, x2, y2, counted from 0, of <bndbox>, or around <robndbox> or <polygon>."""
        found = box_corners(node)
        if found is not None:
            x1, y1, x2, y2 = (value - self.offset for value in found)
            return x1, y1, x2, y2
        points = rotated_corners(node) or polygon_points(node)
        if not points:
            return None
        self.report.add("polygon", where)
        xs, ys = points[0::2], points[1::2]
        return min(xs), min(ys), max(xs), max(ys)


def _shared_folders(first: Path, second: Path) -> int:
    """Returns the number of folders that two paths share, counted from the start and from the end:
    ``Annotations/cam1/0.xml`` belongs to ``JPEGImages/cam1/0.jpg``.
    """
    ends = (first.parent.parts, second.parent.parts)
    count = 0
    for one, other in (ends, (ends[0][::-1], ends[1][::-1])):
        pairs = zip(one, other, strict=False)
        count += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return count
