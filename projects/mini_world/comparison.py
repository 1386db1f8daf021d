"""Ground truth and detections side by side, one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmsdpt.visualization.boxes import SAME_PLACE, Boxes
from mmsdpt.visualization.drawing import (
    LOOKS,
    count_in_words,
    draw_boxes,
    matched_groups,
    save_figure,
)

INCHES = 3.6
_DPI = 140


class ComparisonPicture:
    """A grid of panels: an image per row; the truth in the first column, a detector in each other.

    Every detection is marked as right or wrong (see :func:`~mmsdpt.visualization.match_boxes`), and
    objects that nothing was found for are marked as well, so that the picture can be read without
    knowing the classes. Detections below ``score_thr`` are left out, and where several names were
    given to one place, only the best-scored is shown.

    Args:
        columns: Title of each column, the truth's first. A title may have several lines.
        score_thr: Smallest score that is shown.
    """

    def __init__(
        self,
        classes: Sequence[str],
        columns: Sequence[str],
        score_thr: float = 0.3,
    ) -> None:
        self.classes = tuple(classes)
        self.columns = tuple(columns)
        self.score_thr = score_thr
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
                shown = found.shown(self.score_thr)
                groups = matched_groups(shown, truth)
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
            f"  Right: an object of that name is there, IoU at least {SAME_PLACE:g}.",
        )
