"""The plots of a study: scores against shots, trainable parameters and varied settings."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pandas as pd
from adjustText import adjust_text
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmsdpt.visualization.drawing import as_written

from .frame import Score
from .study import Study
from .view import Line, View, most_shots, shots_in_words

_MARKERS = "osD^vP*X<>hp"
# matplotlib's colors, with two replaced so that all are readable on white and black.
_COLORS = (
    *("#3b82c4", "#e07b1a", "#2f9e44", "#d9484a", "#9467bd"),
    *("#a9745f", "#d764b4", "#1aa3b0", "#8c8f00", "#7d838c"),
)
_STYLES = ("-", "-.", ":")  # of the first ten curves, the next ten, and so on
_NAME = dict(fontsize="x-small")
_SPREAD = 0.3  # width of all error bars at one position, relative to the distance of positions
_INK = "#0a0b0c"  # placeholder for the text color of the page


@dataclass(frozen=True)
class Curve:
    """A line of a plot."""

    label: str  # in the legend
    # By position on the x axis; a single value under None is a horizontal line.
    points: Mapping[float | None, Score]


@dataclass(frozen=True)
class Plot:
    """The content of a figure."""

    name: str  # of its file
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log: int = 0  # base of a logarithmic x axis; 0: a linear one
    ticks: Mapping[float, str] | None = field(default_factory=dict)  # names; None: the usual ticks

    @property
    def alt(self) -> str:
        """Alternative text of the plot."""
        names = self.ticks or {}
        parts = []
        for curve in self.curves:
            points = [
                f"{score}" if x is None else f"{score} at {names.get(x, f'{x:,g}')}"
                for x, score in curve.points.items()
            ]
            parts.append(f"{curve.label}: {', '.join(points)}")
        return f"{self.title}. {self.y_label} against {self.x_label}. {'; '.join(parts)}."

    def figure(self) -> Figure:
        """As a figure of matplotlib."""
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        names = self._draw(axes)
        if self.is_scatter:
            figure.draw_without_rendering()  # after this only names are moved
            adjust_text(names, ax=axes, arrowprops=dict(arrowstyle="-", color="0.6", linewidth=0.5))
        else:
            figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
        return figure

    @property
    def is_scatter(self) -> bool:
        """Whether every curve is one labelled point or a horizontal line."""
        return self.ticks is None and all(len(curve.points) == 1 for curve in self.curves)

    def save(self, format: str = "png") -> bytes:
        """The content of a ``png``, ``pdf`` or ``svg`` file."""
        content = io.BytesIO()
        self.figure().savefig(content, format=format, dpi=150)
        return content.getvalue()

    def svg(self) -> str:
        """SVG for a page: text and axes have the color of the page's text."""
        style: dict[str, Any] = dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
        )
        style |= {"svg.fonttype": "none", "svg.hashsalt": self.name, "axes.facecolor": "none"}
        content = io.StringIO()
        with rc_context(style):
            self.figure().savefig(content, format="svg", transparent=True, metadata={"Date": None})
        text = content.getvalue()
        text = text[text.index("<svg") :].replace(_INK, "currentColor")
        return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)

    def _draw(self, axes: Axes) -> list[Text]:
        """Draws all but the legend; returns the names of points, each on its point."""
        names = []
        positions = sorted({x for c in self.curves for x in c.points if x is not None})
        lines = [number for number, c in enumerate(self.curves) if set(c.points) != {None}]
        # Error bars are placed side by side so that none hides another.
        spread = _SPREAD if self.ticks is not None else 0.0
        shifts = {n: spread * ((i + 0.5) / len(lines) - 0.5) for i, n in enumerate(lines)}
        step = min((right - left for left, right in pairwise(positions)), default=1.0)
        for number, curve in enumerate(self.curves):
            again, place = divmod(number, len(_COLORS))
            color, label = _COLORS[place], as_written(curve.label)
            if number not in shifts:
                level = curve.points[None].mean
                axes.axhline(level, color=color, linestyle="--", label=label)
                if self.is_scatter:
                    where = (1.0, level)
                    axes.annotate(
                        label,
                        where,
                        xycoords=("axes fraction", "data"),
                        xytext=(-2, 2),
                        textcoords="offset points",
                        ha="right",
                        **_NAME,
                    )
                continue
            shift = shifts[number]
            points = sorted((x, score) for x, score in curve.points.items() if x is not None)
            axes.errorbar(
                [x * self.log**shift if self.log else x + step * shift for x, _ in points],
                [score.mean for _, score in points],
                yerr=[score.std or 0.0 for _, score in points],
                color=color,
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                linestyle=_STYLES[again % len(_STYLES)],
                linewidth=1.3,
                capsize=3,
                label=label,
            )
            if self.is_scatter:
                (x, score), *_ = points
                names.append(axes.text(x, score.mean, label, **_NAME))
        if self.log:
            axes.set_xscale("log", base=self.log)
        if self.ticks is not None:
            axes.set_xticks(positions, [as_written(self.ticks.get(x, f"{x:g}")) for x in positions])
            axes.minorticks_off()
        axes.set_title(as_written(self.title))
        axes.set_xlabel(as_written(self.x_label))
        axes.set_ylabel(as_written(self.y_label))
        axes.grid(alpha=0.3)
        return names


def study_plots(study: Study, frame: pd.DataFrame) -> list[Plot]:
    """All plots of a study: those that have a curve."""
    found: list[Plot] = []
    for host in study.hosts if study.protocol != "stacking" else ():
        for question in study.questions() or [None]:
            view = View(study, frame, host, question)
            kinds: list[Callable[..., Plot]] = [_against_setting]
            if not question:
                kinds = [_against_shots, _against_parameters]
                if study.protocol == "comparison":
                    kinds += [_against_memory, _against_time]
                if study.forgetting:
                    kinds.append(_against_known)
            found += [kind(view, *panel) for panel in _panels(view) for kind in kinds]
    return [plot for plot in found if any(set(curve.points) - {None} for curve in plot.curves)]


def _panels(view: View) -> Iterator[tuple[str, list[str], str]]:
    """Title, data and classes of each plot of a kind."""
    study, panels = view.study, view.panels()
    if study.protocol == "transfer":
        targets = [name for name in study.data if name != study.source]
        panels = {f"{study.source} (source)": [str(study.source)], "Average of targets": targets}
    for name, data in panels.items():
        for classes in ("base", "new") if study.protocol == "base_to_new" else ("all",):
            yield (name if classes == "all" else f"{name}, {classes} classes"), data, classes


Point = tuple[Line, int | None, str, float | None]
"""A plotted point: a line with a number of shots, at a position of a curve."""


def _plot(
    view: View,
    kind: str,
    title: str,
    data: Sequence[str],
    classes: str,
    points: Iterable[Point],
    **kwargs: Any,
) -> Plot:
    curves: dict[str, dict[float | None, Score]] = {}
    for line, k, label, position in points:
        if score := view.score(line, k, data, classes):
            curves.setdefault(label, {})[position] = score
    name = re.sub(r"\W+", "_", "_".join((*view.parts, kind, title))).strip("_").lower()
    unit = "" if "score" in view.score_name else ", %"
    y_label = view.score_name[:1].upper() + view.score_name[1:] + unit
    lines = [Curve(label, found) for label, found in curves.items()]
    return Plot(name, view.title(title), y_label=y_label, curves=lines, **kwargs)


def _against_shots(view: View, title: str, data: Sequence[str], classes: str) -> Plot:
    shots = sorted((k for k in view.study.shots if k is not None), key=lambda k: k or float("inf"))
    # All images are one step to the right of the most shots, as their number depends on the data.
    places = {k: float(k or 2 * max(shots)) for k in shots}
    points: list[Point] = []
    for line in view.lines:
        if not line.trains:
            points.append((line, None, line.label, None))
        elif len(shots) > 1:
            points += [(line, k, line.label, place) for k, place in places.items()]
    ticks = {place: str(k or "all") for k, place in places.items()}
    labels = dict(x_label="images of each class", log=2, ticks=ticks)
    return _plot(view, "shots", title, data, classes, points, **labels)


def _against_cost(
    view: View,
    title: str,
    data: Sequence[str],
    classes: str,
    *,
    kind: str,
    column: str,
    x_label: str,
    scale: float = 1.0,
    log: int = 0,
) -> Plot:
    """Scores with the most shots against a mean cost over the trainings on these data."""
    most = most_shots(view.study)
    points: list[Point] = []
    for line in view.lines:
        rows = view.rows(line, most)
        values = rows[rows["trained_on"].isin(list(data))][column].dropna()
        if not line.trains:
            points.append((line, None, line.label, None))
        elif len(values):
            points.append((line, most, line.label, float(values.mean()) * scale))
    title = f"{title}, {shots_in_words(most)}"
    labels = dict(x_label=x_label, log=log, ticks=None)
    return _plot(view, kind, title, data, classes, points, **labels)


_against_parameters = partial(
    _against_cost, kind="parameters", column="trainable", x_label="trainable parameters", log=10
)
_against_memory = partial(
    _against_cost, kind="memory", column="peak_memory_bytes", x_label="peak memory, MB", scale=1e-6
)
_against_time = partial(
    _against_cost, kind="time", column="step_seconds", x_label="a training step, s"
)


def _against_known(view: View, title: str, data: Sequence[str], classes: str) -> Plot:
    """Score on the new data against score on previously known data, with the most shots, including
    the untuned model.
    """
    most = most_shots(view.study)
    points: list[Point] = []
    for line in view.lines:
        known = view.known(line, most, data)
        if isinstance(known, Score):
            points.append((line, most if line.trains else None, line.label, known.mean))
    x_label = f"{view.score_name} of what it knew ({', '.join(view.study.forgetting)})"
    title = f"{title}, {shots_in_words(most)}"
    labels = dict(x_label=x_label, ticks=None)
    return _plot(view, "forgetting", title, data, classes, points, **labels)


def _against_setting(view: View, title: str, data: Sequence[str], classes: str) -> Plot:
    """The last setting is the x axis, the others define the curves; methods without it are
    horizontal lines.
    """
    most, x = most_shots(view.study), view.settings[-1]
    values = list(dict.fromkeys(line.settings[x] for line in view.lines if x in line.settings))
    numeric = all(isinstance(each, (int, float)) for each in values)
    places = {each: float(each) if numeric else float(n) for n, each in enumerate(values)}
    points: list[Point] = []
    for line in view.lines:
        rest = {name: value for name, value in line.settings.items() if name != x}
        position = places[line.settings[x]] if x in line.settings else None
        k = most if line.trains else None
        points.append((line, k, Line(line.method, rest).label, position))
    doubling = numeric and min(values) > 0 and max(values) >= 8 * min(values)
    ticks = {position: str(value) for value, position in places.items()}
    title = f"{title}, {shots_in_words(most)}"
    labels = dict(x_label=x, log=2 if doubling else 0, ticks=ticks)
    return _plot(view, "setting", title, data, classes, points, **labels)
