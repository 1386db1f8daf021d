"""Pictures of one image with its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmsdpt.datasets.image_files import (
    UnreadableImage,
    exif_orientation,
    open_image,
    read_bytes,
    rotated,
    to_rgb,
)
from mmsdpt.utils.errors import InputError

from .boxes import Boxes
from .drawing import (
    LOOKS,
    Groups,
    Style,
    as_written,
    count_in_words,
    draw_boxes,
    matched_groups,
    save_figure,
)

_INCHES = 5.0
_NARROWEST = 720  # minimum width in pixels for readable names
_TALLEST = 7200  # maximum height in pixels of a picture that is enlarged for them
_LINE = 0.24  # height in inches of a line under the image
# Okabe and Ito's palette, for boxes without ground truth.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_OTHER = Style("0.6", "black", "-", "", "")
_DARK = ("#0072B2", "#009E73", "#D55E00")


def draw_detections(
    image: np.ndarray,
    found: Boxes,
    classes: Sequence[str],
    path: str | Path,
    truth: Boxes | None = None,
    *,
    score_thr: float = 0.0,
    top_k: int | None = None,
) -> Path:
    """Draw boxes with names and scores on an image.

    If the ground truth is given, every box is marked as correct or wrong, and missed objects are
    also marked. A line under the image explains the marks. Otherwise each class has a colour.

    Args:
        image: (H, W, 3) RGB, uint8.
        found: Detections, or true boxes if they have no scores.
        classes: Names by label.
        path: Where to write; the extension selects the format.
        truth: True boxes.
        score_thr: Minimum score.
        top_k: Maximum number of boxes, best first.

    Returns:
        The path.
    """
    shown = found.shown(score_thr, top_k)
    line, meanings, groups = "", [], _by_class(shown)
    if found.scores is None:
        groups = [(LOOKS["truth"], found)]
    elif truth is not None:
        groups = matched_groups(shown, truth)
        meanings = [f"{look.sign}{look.meaning}" for look, _ in reversed(groups)]
        line = count_in_words(groups, truth)
    height, width = image.shape[:2]
    tall = _INCHES * height / width
    dpi = max(width, min(_NARROWEST, _TALLEST * width // height)) / _INCHES
    figure = Figure(figsize=(_INCHES, tall + (_LINE if line else 0)))
    total = figure.get_size_inches()[1]
    panel = figure.add_axes((0, 1 - tall / total, 1, tall / total))
    panel.imshow(image)
    panel.set_axis_off()
    left_out = draw_boxes(panel, groups, classes, _INCHES)
    if line:
        line += f", {left_out} names left out" if left_out else ""
        line += f"     ({',  '.join(meanings)})"
        text = figure.text(0.01, 0.06 / total, line, fontsize=7.5, va="bottom", color="0.2")
        figure.set_dpi(dpi)  # the width of the text depends on it
        taken = text.get_window_extent().width / figure.bbox.width
        text.set_fontsize(min(7.5, 7.5 * 0.97 / taken))
    return save_figure(figure, path, dpi)


def draw_scores(
    image: np.ndarray,
    scores: Sequence[tuple[str, float]],
    path: str | Path,
    truth: str | None = None,
) -> Path:
    """Draw an image and, below it, the scores of its classes as bars, best first.

    Args:
        image: (H, W, 3) RGB, uint8.
        scores: Names and probabilities.
        path: Where to write; the extension selects the format.
        truth: The true class. The first bar is then marked as correct or wrong, and the true class
            is named if it has no bar.

    Returns:
        The path.
    """
    height, width = image.shape[:2]
    tall = _INCHES * 0.75
    names, values = zip(*scores, strict=True)
    rows = len(names) * _LINE + 0.1
    title = 0.0 if truth is None else 1.2 * _LINE
    figure = Figure(figsize=(_INCHES, tall + rows + title))
    total = tall + rows + title
    picture = figure.add_axes((0, (rows + title) / total, 1, tall / total))
    picture.imshow(image)
    picture.set_axis_off()
    looks = [Style(_COLOURS[0], "white", "-", "", "")] * len(names)
    if truth is not None:
        looks = [LOOKS["correct"] if name == truth else _OTHER for name in names]
        if names[0] != truth:
            looks[0] = LOOKS["wrong"]
        matches = names[0] if names[0] == truth else f"{names[0]}; it is {truth}"
        figure.text(
            0.5,
            (rows + 0.06) / total,
            looks[0].sign + as_written(matches),
            fontsize=10,
            ha="center",
            color=looks[0].colour,
        )
    bars = figure.add_axes((0.36, 0.05 / total, 0.62, (rows - 0.1) / total))
    bars.barh(range(len(names)), values, color=[look.colour for look in looks], height=0.7)
    bars.set(xlim=(0, 1.18), ylim=(len(names) - 0.5, -0.5), xticks=[], yticks=range(len(names)))
    bars.set_yticklabels([as_written(_shortened(name)) for name in names], fontsize=8.5)
    bars.tick_params(length=0)
    bars.spines[:].set_visible(False)
    for i, value in enumerate(values):
        bars.text(value + 0.01, i, f"{value:.2f}", va="center", fontsize=8.5)
    return save_figure(figure, path, dpi=_NARROWEST / _INCHES)


def read_upright(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) RGB, rotated by its EXIF orientation.

    Raises:
        InputError: if it is missing or cannot be decoded.
    """
    try:
        with open_image(read_bytes(path)) as image:
            pixels = np.asarray(to_rgb(image))  # first: rotates a TIFF file and says so
            return np.ascontiguousarray(rotated(pixels, exif_orientation(image)))
    except UnreadableImage as error:
        raise InputError(f"the image {path} cannot be drawn ({error})") from error


def _shortened(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _by_class(shown: Boxes) -> Groups:
    """The boxes of each class with the colour of the class."""
    groups = []
    for label in np.unique(shown.labels):
        colour = _COLOURS[label % len(_COLOURS)]
        look = Style(colour, "white" if colour in _DARK else "black", "-", "", "")
        groups.append((look, shown.take(shown.labels == label)))
    return groups
