"""Accuracy against shots, with error bars."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmsdpt.utils.atomic import write_atomically

from .scores import Score

_MARKERS = "osD^vP*X<>hp"
_SPREAD = 0.3  # of the distance between positions, by all the error bars of one together


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
        label: Of the method.
        points: Scores by position on the x axis; a single one under None is a level line, of what
            does not depend on x.
    """

    label: str
    points: Mapping[float | None, Score]


def draw(
    axes: Axes,
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    log: bool = True,
    names: Mapping[float, str] | None = None,
) -> None:
    """Draw curves; error bars are one standard deviation over seeds, beside each other.

    Args:
        axes: Where.
        curves: What.
        title: Above the axes.
        x_label: Below.
        log: Whether positions grow by factors of two.
        names: What positions are called, where it is not their number.
    """
    ticks = sorted({x for curve in curves for x in curve.points if x is not None})
    log = log and len(ticks) > 1 and ticks[0] > 0
    lines = [number for number, curve in enumerate(curves) if set(curve.points) != {None}]
    shifts = dict(zip(lines, _shifts(len(lines)), strict=True))
    step = min((right - left for left, right in pairwise(ticks)), default=1.0)
    for number, curve in enumerate(curves):
        color = f"C{number % 10}"
        if number not in shifts:
            axes.axhline(curve.points[None].mean, color=color, linestyle="--", label=curve.label)
            continue
        points = sorted(
            ((x, score) for x, score in curve.points.items() if x is not None),
            key=lambda point: point[0],
        )
        axes.errorbar(
            [x * 2 ** shifts[number] if log else x + step * shifts[number] for x, _ in points],
            [score.mean for _, score in points],
            yerr=[score.std or 0.0 for _, score in points],
            color=color,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1.2,
            capsize=3,
            label=curve.label,
        )
    if log:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [(names or {}).get(x, f"{x:g}") for x in ticks])
    axes.minorticks_off()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)


def _shifts(count: int) -> list[float]:
    """Where each of ``count`` error bars stands, around 0, so that none hides another."""
    return [_SPREAD * ((i + 0.5) / count - 0.5) for i in range(count)]


def save_plot(path: Path, curves: Sequence[Curve], title: str, x_label: str, **kwargs: Any) -> None:
    """Write a plot as PNG; arguments as of :func:`draw`."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    draw(axes, curves, title, x_label, **kwargs)
    if curves:
        figure.legend(loc="outside right upper", fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_atomically(path, content.getvalue())
