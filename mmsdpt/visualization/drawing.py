"""Draw correct, wrong and missed boxes on an image, with names and scores."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError

from .boxes import Boxes, match_boxes


class Style(NamedTuple):
    """Style of a kind of box. The kinds differ in colour, line style and sign."""

    colour: str
    contrast: str  # colour of the text and of the outline under the line
    line: str
    sign: str
    meaning: str


# Three colours of Okabe and Ito's palette, which colour-blind people can also tell apart.
LOOKS = {
    "truth": Style("#F0E442", "black", "-", "", "ground truth"),
    "correct": Style("#0072B2", "white", "-", "\N{CHECK MARK} ", "right"),
    "wrong": Style("#D55E00", "white", "--", "\N{BALLOT X} ", "wrong name or place"),
    "missed": Style("#F0E442", "black", ":", "? ", "not found"),
}
_FONT = 8.5


Groups = Sequence[tuple[Style, Boxes]]


def matched_groups(shown: Boxes, truth: Boxes) -> Groups:
    """Correct and wrong detections, and missed true boxes."""
    matches = match_boxes(shown, truth)
    return [
        (LOOKS["missed"], truth.take(matches.missed)),
        (LOOKS["wrong"], shown.take(~matches.correct)),
        (LOOKS["correct"], shown.take(matches.correct)),
    ]


def count_in_words(groups: Groups, truth: Boxes) -> str:
    """The counts of :func:`matched_groups` as text."""
    (_, _), (_, wrong), (_, right) = groups
    return f"{len(right)} of {len(truth)} right, {len(wrong)} wrong"


def draw_boxes(panel: Axes, groups: Groups, classes: Sequence[str], inches: float) -> int:
    """Draw boxes with names and scores on a panel that shows an image over its whole area.

    The first box of each class in each group gets its name first, so that many boxes of one class
    do not hide the names of others.

    Args:
        groups: Boxes and their styles; later ones are drawn over earlier ones.

    Returns:
        Number of names left out because they would cover another name.
    """
    height, width = panel.images[0].get_array().shape[:2]
    points = 72 * inches / width  # per pixel of the image
    # Draw names after all frames, so that no frame crosses a name.
    for look, shown in groups:
        for x1, y1, x2, y2 in shown.boxes:
            frame = dict(xy=(x1, y1), width=x2 - x1, height=y2 - y1, fill=False)
            panel.add_patch(Rectangle(**frame, edgecolor=look.contrast, linewidth=3, alpha=0.45))
            panel.add_patch(
                Rectangle(**frame, edgecolor=look.colour, linewidth=1.9, linestyle=look.line)
            )
    taken: list[_Place] = []
    left_out = 0
    for look, shown, i in _in_order_of_names(groups):
        text = look.sign + as_written(classes[shown.labels[i]])
        if shown.scores is not None:
            text += f" {shown.scores[i]:.2f}"
        place = _place(shown.boxes[i], _size(text, points), width, height, taken)
        if place is None:
            left_out += 1
            continue
        taken.append(place)
        panel.text(
            *place[:2],
            text,
            fontsize=_FONT,
            color=look.contrast,
            va="top",
            ha="left",
            bbox=dict(facecolor=look.colour, edgecolor="none", pad=1.0, alpha=0.9),
        )
    return left_out


def _in_order_of_names(groups: Groups) -> list[tuple[Style, Boxes, int]]:
    """Every box with its style: the first of each class in each group, then the others."""
    first: list[tuple[Style, Boxes, int]] = []
    others: list[tuple[Style, Boxes, int]] = []
    for look, shown in groups:
        begins = set(np.unique(shown.labels, return_index=True)[1])
        for i in range(len(shown)):
            (first if i in begins else others).append((look, shown, i))
    return first + others


def as_written(text: str) -> str:
    """A text escaped for matplotlib, which would read text between dollar signs as TeX."""
    return text.replace("$", r"\$")


_Place = tuple[float, float, float, float]


@cache
def _extent(text: str) -> tuple[float, float]:
    """Width and height of a text in points."""
    extent = TextPath((0, 0), text, size=_FONT).get_extents()
    return extent.width, _FONT * 1.2


def _size(text: str, points: float) -> tuple[float, float]:
    """Width and height of a label in pixels of the image, with its margin."""
    width, height = _extent(text)
    return (width + 3) / points, (height + 3) / points


def _place(
    box: np.ndarray, size: tuple[float, float], width: int, height: int, taken: Sequence[_Place]
) -> _Place | None:
    """Position of a label, xyxy in pixels of the image: above, below or in its box, inside the
    image and not on another label; None if there is no such position.
    """
    label_width, label_height = size
    x1, y1, x2, y2 = box
    for x, y in (
        (x1, y1 - label_height),
        (x1, y2),
        (x2 - label_width, y1 - label_height),
        (x2 - label_width, y2),
        (x1, y1),
        (x1, y2 - label_height),
        (x1, y1 - 2 * label_height),
        (x1, y2 + label_height),
        (x1, y1 + label_height),
        ((x1 + x2 - label_width) / 2, (y1 + y2 - label_height) / 2),
    ):
        x = float(np.clip(x, 0, max(0.0, width - label_width)))
        y = float(np.clip(y, 0, max(0.0, height - label_height)))
        place = (x, y, x + label_width, y + label_height)
        if not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(a: _Place, b: _Place) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def picture_path(path: str | Path) -> Path:
    """The path, with ``.png`` added if its extension is not a supported format."""
    path = Path(path)
    known = path.suffix[1:].lower() in FigureCanvasBase.filetypes
    return path if known else path.with_name(f"{path.name}.png")


def save_figure(figure: Figure, path: str | Path, dpi: float) -> Path:
    """Write a figure, creating its folder; the extension selects the format.

    Raises:
        InputError: if there is no such format.
    """
    path = Path(path)
    # On a full disk, Pillow writes an incomplete file without an error.
    content, kind = io.BytesIO(), path.suffix[1:].lower() or "png"
    if kind not in FigureCanvasBase.filetypes:
        raise InputError(f"pictures cannot be written as .{kind}, got {path}: use .png or .jpg")
    fast = dict(pil_kwargs=dict(compress_level=1)) if kind == "png" else {}
    figure.savefig(content, format=kind, dpi=dpi, **fast)
    write_atomically(path, content.getvalue())
    return path
