"""Data structures of all converters, and checks of images and boxes."""

from dataclasses import dataclass, field
from pathlib import Path

from mmsdpt.datasets.image_files import ImageFacts, UnreadableImage, inspect_image
from mmsdpt.utils.errors import InputError

from .report import ConversionReport

Box = tuple[float, float, float, float]

_OVERSHOOT = 0.01
"""Pixels a box may leave the image by without being counted as clipped: the rounding of six
decimals.
"""


class ProblemsFound(InputError):
    """A strict conversion met problems and wrote nothing.

    Args:
        report: The report with the problems.
    """

    def __init__(self, report: ConversionReport) -> None:
        super().__init__(
            f"{report.problems} problems were found, so nothing was written (--strict)."
        )
        self.report = report


@dataclass
class Instance:
    """A box with its class.

    Args:
        box: x, y, width, height in pixels of the displayed image, inside it.
        extra: Further keys of the COCO annotation.
    """

    category: str
    box: Box
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Sample:
    """An image with its boxes.

    Args:
        width, height: Of the displayed image, in pixels.
        key: Path without its suffix by which split lists know it.
    """

    image: Path
    width: int
    height: int
    instances: list[Instance]
    key: str = ""


def read_image_size(path: Path, report: ConversionReport) -> ImageFacts | None:
    """Decodes an image once, so that a truncated one is detected here and not during training.

    MMCV's ``imfrombytes(flag='color', backend='pillow')``, which
    ``LoadImageFromFile(imdecode_backend='pillow')`` calls, turns the image by its EXIF orientation.
    Sizes and boxes therefore refer to the turned image.

    Returns:
        Its size, or None where it is skipped, which is counted.
    """
    try:
        facts = inspect_image(path)
    except UnreadableImage as reason:
        kind = "image_too_large" if "limit of pixels" in str(reason) else "image_unreadable"
        report.drop_image(kind, path, str(reason))
        return None
    if facts.frames > 1:
        report.add("doubtful", path, f"{facts.frames} frames or pages, only the first is used")
    if facts.orientation != 1:
        report.add("exif_orientation", path, f"orientation {facts.orientation}")
    return facts


def turn_box(box: Box, size: ImageFacts) -> Box:
    """Carries corners (x1, y1, x2, y2) from the stored to the displayed image, for orientations 5
    to 8.
    """
    width, height = size.size
    x1, y1, x2, y2 = box
    if size.orientation == 5:  # transpose
        return y1, x1, y2, x2
    if size.orientation == 6:  # a quarter turn clockwise
        return height - y2, x1, height - y1, x2
    if size.orientation == 7:  # transverse
        return height - y2, width - x2, height - y1, width - x1
    if size.orientation == 8:  # a quarter turn counter-clockwise
        return y1, width - x2, y2, width - x1
    return box


def fit_box(
    corners: Box, size: tuple[int, int], report: ConversionReport, where: str
) -> Box | None:
    """Puts a box in order and inside its image.

    Args:
        corners: x1, y1, x2, y2 in pixels.

    Returns:
        x, y, width, height, or None where the box is left out. A box of less than one pixel in
        width or height is left out because MMDetection's ``CocoDataset`` would skip it without a
        word.
    """
    x1, y1, x2, y2 = corners
    width, height = size
    told = f"box {x1:g}, {y1:g}, {x2:g}, {y2:g} in {width}x{height}"
    swapped = x1 > x2 or y1 > y2
    x1, x2 = min(x1, x2), max(x1, x2)
    y1, y2 = min(y1, y2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        report.drop_box("box_empty", where, told)
        return None
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        report.drop_box("box_outside", where, told)
        return None
    left, top, right, bottom = (
        max(x1, 0.0),
        max(y1, 0.0),
        min(x2, float(width)),
        min(y2, float(height)),
    )
    box = (round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4))
    if box[2] < 1 or box[3] < 1:
        report.drop_box("box_empty", where, told)
        return None
    if swapped:
        report.add("box_swapped", where, told)
    if max(left - x1, top - y1, x2 - right, y2 - bottom) > _OVERSHOOT:
        report.add("box_clipped", where, told)
    return box
