"""Ground truth and detections side by side, one row per image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from mmsdpt.utils.atomic import write_atomically

from .boxes import Boxes, match_boxes


class Look(NamedTuple):
    """How a kind of box is drawn. Colour never stands alone: line and sign say the same."""

    colour: str
    contrast: str  # of the text, and of the line's underlay on grounds of the same colour
    line: str
    sign: str
    meaning: str


# Three colours of Okabe and Ito's palette, which people with any colour vision tell apart.
LOOKS = {
    "truth": Look("#F0E442", "black", "-", "", "ground truth"),
    "correct": Look("#0072B2", "white", "-", "\N{CHECK MARK} ", "right"),
    "wrong": Look("#D55E00", "white", "--", "\N{BALLOT X} ", "wrong name or place"),
    "missed": Look("#F0E442", "black", ":", "? ", "not found"),
}
INCHES = 3.6
_DPI = 140
_FONT = 8.5


class ComparisonPicture:
    """A grid of panels: an image per row; the truth in the first column, a detector in each other.

    Every detection is marked as right or wrong (see :func:`~mmsdpt.visualization.match_boxes`), and
    objects that nothing was found for are marked as well, so that the picture can be read without
    knowing the classes. Detections below ``score_thr`` are left out, and where several names were
    given to one place, only the best-scored is shown.

    Args:
        columns: Title of each column, the truth's first. A title may have several lines.
        score_thr: Smallest score that is shown.
        iou_thr: Smallest IoU at which a place counts as right.
    """

    def __init__(
        self,
        classes: Sequence[str],
        columns: Sequence[str],
        score_thr: float = 0.3,
        iou_thr: float = 0.5,
    ) -> None:
        self.classes = tuple(classes)
        self.columns = tuple(columns)
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self._rows: list[tuple[np.ndarray, str, Boxes, tuple[Boxes, ...]]] = []

    def add(self, image: np.ndarray, name: str, truth: Boxes, *detections: Boxes) -> None:
        """Add a row.

        Args:
            image: (H, W, 3) RGB, 0 to 255.
            name: What to call the image, at the left of the row.
            detections: One for each column after the first.
        """
        if len(detections) + 1 != len(self.columns):
            raise ValueError(
                f"{len(self.columns)} columns need {len(self.columns) - 1} sets of detections, got"
                f" {len(detections)}"
            )
        self._rows.append((image, name, truth, detections))

    def save(self, path: str | Path, title: str = "") -> Path:
        """Draw the picture and write it to ``path``; the ending names the format."""
        if not self._rows:
            raise ValueError("the picture has no rows: add images first")
        return save_figure(self._draw(title), path, _DPI)

    def _draw(self, title: str) -> Figure:
        rows, columns = len(self._rows), len(self.columns)
        tallest = max(image.shape[0] / image.shape[1] for image, *_ in self._rows)
        # A plain figure with its canvas: pyplot would keep state and ask for a display.
        figure = Figure(
            figsize=(columns * INCHES, rows * (INCHES * tallest + 0.15) + 1.4),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        for row, (image, name, truth, detections) in zip(axes, self._rows, strict=True):
            for panel in row:
                panel.imshow(image)
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
            row[0].set_ylabel(name, fontsize=9, color="0.35")
            draw_boxes(row[0], [(LOOKS["truth"], truth)], self.classes, INCHES * 0.97)
            row[0].set_xlabel(f"objects: {len(truth)}", fontsize=9)
            for panel, found in zip(row[1:], detections, strict=True):
                shown = found.shown(self.score_thr, self.iou_thr)
                groups = matched_groups(shown, truth, self.iou_thr)
                draw_boxes(panel, groups, self.classes, INCHES * 0.97)
                panel.set_xlabel(count_in_words(groups, truth), fontsize=9)
        for panel, text in zip(axes[0], self.columns, strict=True):
            panel.set_title(text, fontsize=12, fontweight="bold")
        if title:
            figure.suptitle(title + "\n", fontsize=13)
        self._legend(figure)
        return figure

    def _legend(self, figure: Figure) -> None:
        handles = [
            Line2D([], [], color=look.colour, linestyle=look.line, linewidth=3)
            for look in LOOKS.values()
        ]
        names = [f"{look.sign}{look.meaning}" for look in LOOKS.values()]
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=len(names),
            fontsize=10,
            facecolor="0.8",
            handlelength=3,
            title=f"Shown: the best name for each place, from a score of {self.score_thr:g}."
            f"  Right: an object of that name is there, IoU at least {self.iou_thr:g}.",
        )


Groups = Sequence[tuple[Look, Boxes]]


def matched_groups(shown: Boxes, truth: Boxes, iou_thr: float = 0.5) -> Groups:
    """Detections as right or wrong, and true boxes where nothing was found."""
    matches = match_boxes(shown, truth, iou_thr)
    return [
        (LOOKS["missed"], truth.take(matches.missed)),
        (LOOKS["wrong"], shown.take(~matches.correct)),
        (LOOKS["correct"], shown.take(matches.correct)),
    ]


def count_in_words(groups: Groups, truth: Boxes) -> str:
    """What :func:`matched_groups` found, in numbers."""
    (_, _), (_, wrong), (_, right) = groups
    return f"{len(right)} of {len(truth)} right, {len(wrong)} wrong"


def draw_boxes(panel: Axes, groups: Groups, classes: Sequence[str], inches: float) -> int:
    """Draw boxes with names and scores on a panel that shows an image over its whole area.

    The first box of each class in each group gets its name before all others, so that a crowd of
    one class hides no other.

    Args:
        groups: Boxes and their looks; later ones are drawn over earlier ones.

    Returns:
        Number of names that are left out, because they would cover another name.
    """
    height, width = panel.images[0].get_array().shape[:2]
    points = 72 * inches / width  # per pixel of the image
    # Names after all frames, so that none is crossed out.
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
        text = look.sign + classes[shown.labels[i]]
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


def _in_order_of_names(groups: Groups) -> list[tuple[Look, Boxes, int]]:
    """Every box with its look: the first of each class in each group, then the others."""
    first: list[tuple[Look, Boxes, int]] = []
    others: list[tuple[Look, Boxes, int]] = []
    for look, shown in groups:
        begins = set(np.unique(shown.labels, return_index=True)[1])
        for i in range(len(shown)):
            (first if i in begins else others).append((look, shown, i))
    return first + others


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
    """Place of a label, xyxy in pixels of the image: above, below or in its box, inside the image
    and on no other label; None if there is no such place.
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


def save_figure(figure: Figure, path: str | Path, dpi: float) -> Path:
    """Write a figure, and the folder that it lies in; the ending names the format."""
    path = Path(path)
    # Pillow itself leaves half a picture on a full disk, and says nothing.
    content, kind = io.BytesIO(), path.suffix[1:].lower() or "png"
    fast = dict(compress_level=1) if kind == "png" else {}
    figure.savefig(content, format=kind, dpi=dpi, pil_kwargs=fast)
    write_atomically(path, content.getvalue())
    return path
