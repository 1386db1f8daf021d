"""Pictures and statistics of the attention maps of several models, side by side."""

from __future__ import annotations

import itertools
import string
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from torch import Tensor

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError
from mmsdpt.visualization.boxes import Boxes
from mmsdpt.visualization.contact_sheet import Entry, contact_sheet
from mmsdpt.visualization.drawing import LOOKS, as_written, draw_boxes, save_figure
from mmsdpt.visualization.single import read_upright

from .attention import (
    PROTOTYPES,
    Look,
    cover,
    look_of_classifier,
    look_of_detector,
    share_inside,
)
from .models import BEFORE, Picture, Pictures, each_model

_MOST = 3  # number of classes shown per image
_INCHES = 2.7
_TALLEST = 8  # maximum height of a panel, in widths; a taller image is drawn narrower
_DPI = 110
_COLOURS = "inferno"
_READ = (
    ", mean of all layers and heads. Grad-CAM: where the features of the backbone raise the score"
    " of the class. Colours show multiples of a map's mean, with one scale for each row. Yellow"
    " boxes are the ground truth, and the numbers are the share of the map inside of them: without"
    " any preference it would be the share of the picture that the boxes cover."
)
_ABOUT_DETECTOR = dict(
    text_to_image=[
        "Attention: where the words of a class, and the prototype tokens, look in the image"
        " (X-MHA, text to image)" + _READ
    ],
    image_to_text=[
        "Attention: how much each place looks at the words of a class, and at the prototype tokens"
        " (X-MHA, image to text)" + _READ
    ],
)
_ABOUT_CLASSIFIER = [
    "Attention: where the class token looks, mean of all layers and heads, in multiples of the"
    " map's mean. Similarity: the cosine of each patch and the text of a class. Each row has one"
    " scale of colours. The image is the crop that the model sees."
]


class _Scene(NamedTuple):
    """An image with its ground truth, both as the model's input and as the original.

    The maps' grid covers ``extent``: (left, right, bottom, top) in pixels of ``image``.
    """

    picture: Picture
    image: np.ndarray
    extent: tuple[float, float, float, float]
    size: tuple[int, int]  # of the model's input, with padding
    truth: Boxes | None
    scale: tuple[float, float]  # from the model's pixels to the image's

    def classes(self, words: Sequence[str]) -> list[str]:
        """The true classes, the most frequent ones first; empty without ground truth."""
        if self.truth is None:
            label = self.picture.item["data_samples"].get("gt_label", None)
            return [] if label is None else [words[int(label)]]
        labels, counts = np.unique(self.truth.labels, return_counts=True)
        return [words[labels[i]] for i in np.argsort(-counts, kind="stable")[:_MOST]]

    def boxes_of(self, name: str, words: Sequence[str]) -> Tensor:
        """True boxes of a class, or of all classes for prototype tokens, in the model's pixels."""
        assert self.truth is not None
        truth = self.truth
        if name != PROTOTYPES:
            truth = truth.take(truth.labels == words.index(name))
        return torch.from_numpy(truth.boxes) * torch.tensor(self.scale * 2)


def show_attention(
    cfg: Config,
    tuners: Mapping[str, str],
    paths: Sequence[str],
    out: Path,
    *,
    words: Sequence[str] = (),
    count: int = 4,
    direction: str = "text_to_image",
    layers: bool = False,
) -> tuple[Path, pd.DataFrame]:
    """Draw where the base model and each tuned model attend in images.

    Args:
        cfg: Host and data.
        tuners: Tuner files by column name.
        paths: Images; empty: evenly spaced images of the test data.
        out: Folder of the page.
        words: Classes to show and to detect. Default: those in the image, or those with the highest
            scores if there is no ground truth.
        count: Number of test images if no paths are given.
        direction: Direction of X-MHA, see :func:`mmsdpt.analysis.attention.look_of_detector`.
        layers: Also draw each layer and head.

    Returns:
        The page, and the share of attention inside the true boxes, also in ``shares.csv``:
        ``image``, ``model``, ``view``, ``what``, ``layer`` and ``head`` (a number or ``mean``),
        ``share``, and ``boxes`` (the share of the picture that the boxes cover).
    """
    pictures = Pictures(cfg, words)
    chosen = pictures.choose(paths, count)
    look_of = partial(look_of_detector, direction=direction)
    if not pictures.detects:
        look_of = look_of_classifier
    scenes: dict[int, _Scene] = {}
    classes: dict[int, Sequence[str]] = {}
    looks: dict[str, list[Look]] = {}
    for name, host in each_model(cfg, tuners, pictures.words):
        looks[name] = []
        for i, picture in enumerate(chosen):
            images, sample = picture.batch(host)
            scene = scenes.setdefault(i, _scene(picture, images, sample, pictures.detects))

            def choose(scores: Mapping[str, float], i: int = i, scene: _Scene = scene):
                # Without ground truth, the last tuner selects the classes, because it is drawn
                # first.
                return classes.setdefault(
                    i, words or scene.classes(pictures.words) or _best(scores)
                )

            if pictures.detects:
                _shorten_caption(host, sample, words or scene.classes(pictures.words))
            looks[name].append(look_of(host, images, sample, choose))
    columns = [BEFORE, *tuners]
    shares: list[dict[str, Any]] = []
    entries = []
    for i, scene in scenes.items():
        views = {name: looks[name][i] for name in columns}
        own = list(_shares(scene, views, pictures.words)) if pictures.detects else []
        shares += own
        files = {"attention": out / f"{scene.picture.name}.png"}
        overview = _overview(scene, views, own, pictures.words, pictures.detects)
        save_figure(overview, files["attention"], _DPI)
        if layers:
            for name, view in views.items():
                for row in view.shown_rows():
                    label = f"{name}: {row}"
                    files[label] = out / f"{scene.picture.name}.{len(files)}.png"
                    save_figure(_grid(scene, view, row, label), files[label], _DPI)
        entries.append(Entry(scene.picture.name, files))
    table = pd.DataFrame(shares)
    if shares:
        write_atomically(out / "shares.csv", table.to_csv(index=False).encode())
    title = f"Attention: {', '.join(columns)}"
    about = _ABOUT_DETECTOR[direction] if pictures.detects else _ABOUT_CLASSIFIER
    return contact_sheet(entries, out, title, about, wide=True), table


def draw_attention(
    host: Any, picture: Picture, words: Sequence[str], detects: bool, path: str | Path
) -> Path:
    """Draw the attention maps of one image without the tuners and, if any is enabled, also with
    them.

    Args:
        host: A model with its classes set, in eval mode.
        picture: The image, prepared for it.
        words: All classes; maps are drawn for the three with the highest scores.
        detects: Whether the host finds boxes.
        path: Where to write.
    """
    images, sample = picture.batch(host)
    look = look_of_detector if detects else look_of_classifier
    views: dict[str, Look] = {}
    if any(tuner.enabled for tuner in host.tuners.values()):
        views["after"] = look(host, images, sample, _best)
    chosen = (lambda _: views["after"].classes) if views else _best
    with host.tuners_off() if host.tuners else nullcontext():
        views = {BEFORE: look(host, images, sample, chosen), **views}
    scene = _scene(picture, images, sample, detects)
    return save_figure(_overview(scene, views, [], words, detects), path, dpi=_DPI)


def _shorten_caption(host: Any, sample: Any, names: Sequence[str]) -> None:
    """Restrict the caption to these classes if the data has too many for one caption."""
    try:
        host.class_prompt(sample.text, sample.get("caption_prompt", None))
    except ValueError as error:
        if not names:
            raise InputError(f"set the classes to detect with --classes: {error}") from None
        sample.set_metainfo(dict(text=tuple(names)))


def _best(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda name: -scores[name])[:_MOST]


def _scene(picture: Picture, images: Tensor, sample: Any, detects: bool) -> _Scene:
    size = tuple(images.shape[-2:])
    if detects:
        image = read_upright(picture.path)
        height, width = image.shape[:2]
        scale = (sample.img_shape[1] / width, sample.img_shape[0] / height)
        truth = Boxes.of(sample.gt_instances) if picture.has_truth else None
    else:  # its input is a crop: show the crop
        image = picture.item["inputs"].permute(1, 2, 0).numpy()[..., ::-1]
        scale, truth = (1.0, 1.0), None
    extent = (0.0, size[1] / scale[0], size[0] / scale[1], 0.0)
    return _Scene(picture, image, extent, size, truth, scale)


def _shares(
    scene: _Scene, views: Mapping[str, Look], words: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The shares of attention inside the true boxes, for everything that has boxes in the image."""
    if scene.truth is None:
        return
    for model, view in views.items():
        maps = [
            ("attention", name, _means_and_each(view.maps_of(name))) for name in view.shown_rows()
        ]
        for name, evidence in zip(view.classes, view.evidence, strict=True):
            maps.append(("Grad-CAM", name, iter([("mean", "mean", evidence)])))
        for where, name, each in maps:
            inside = cover(scene.boxes_of(name, words), scene.size, tuple(view.valid.shape))
            row = dict(image=scene.picture.name, model=model, view=where, what=name)
            covered = float(inside.sum() / view.valid.sum())
            if not covered:
                continue
            for layer, head, found in each:
                share = float(share_inside(found, inside, view.valid))
                yield dict(row, layer=layer, head=head, share=share, boxes=covered)


def _means_and_each(maps: Tensor) -> Iterator[tuple[int | str, int | str, Tensor]]:
    """Layer, head and map for each of (layers, H, h, w), and for their means (named ``mean``)."""
    layers: list[int | str] = ["mean", *range(maps.shape[0])]
    heads: list[int | str] = ["mean", *range(maps.shape[1])]
    for layer in layers:
        of_layer = maps.mean(0) if layer == "mean" else maps[layer]
        for head in heads:
            yield layer, head, of_layer.mean(0) if head == "mean" else of_layer[head]


# ---------------------------------------------------------------------- drawing


def _figure(rows: int, columns: int, scene: _Scene, title: str) -> tuple[Figure, np.ndarray]:
    tall = min(_TALLEST, scene.image.shape[0] / scene.image.shape[1])
    size = (columns * _INCHES + 1.4, rows * (_INCHES * tall + 0.3) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    figure.suptitle(as_written(title), fontsize=11)
    return figure, axes


def _relative(view: Look, maps: Tensor) -> np.ndarray:
    """A map (h, w) in multiples of its mean over the image."""
    mean = (maps * view.valid).sum() / view.valid.sum()
    return (maps / mean.clamp(min=1e-30)).numpy()


def _heat(panel: Axes, scene: _Scene, values: np.ndarray, norm: Normalize) -> None:
    """Draw a map over the image; at low values it is more transparent."""
    height, width = scene.image.shape[:2]
    panel.imshow(scene.image.mean(-1), cmap="gray", vmin=0, vmax=255)
    alpha = 0.35 + 0.5 * np.clip(norm(values), 0, 1)
    kwargs = dict(extent=scene.extent, interpolation="bilinear", cmap=_COLOURS, norm=norm)
    panel.imshow(values, alpha=np.asarray(alpha), **kwargs)
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _frames(panel: Axes, boxes: np.ndarray) -> None:
    for x1, y1, x2, y2 in boxes:
        frame = dict(xy=(x1, y1), width=x2 - x1, height=y2 - y1, fill=False)
        panel.add_patch(Rectangle(**frame, edgecolor="black", linewidth=2.4, alpha=0.5))
        panel.add_patch(Rectangle(**frame, edgecolor=LOOKS["truth"].colour, linewidth=1.2))


def _scale_of(values: Sequence[np.ndarray], from_zero: bool) -> Normalize:
    """One scale for all panels of a row, so that their colours can be compared."""
    low = 0.0 if from_zero else min(float(v.min()) for v in values)
    return Normalize(low, max(max(float(np.quantile(v, 0.995)) for v in values), low + 1e-6))


def _overview(
    scene: _Scene,
    views: Mapping[str, Look],
    shares: Sequence[Mapping],
    words: Sequence[str],
    detects: bool,
) -> Figure:
    """The poster's panels: the image with its true boxes, before, each method; a row per view."""
    every = list(views.values())
    evidence = "Grad-CAM" if detects else "similarity"
    names = dict.fromkeys(name for view in every for name in view.shown_rows())
    rows = [("attention", name) for name in names]
    rows += [(evidence, name) for name in every[0].classes]
    rows.sort(key=lambda row: list(names).index(row[1]) if row[1] in names else len(names))
    figure, axes = _figure(len(rows), 1 + len(views), scene, scene.picture.name)
    letters = itertools.cycle(string.ascii_lowercase)
    heads = ["original" + (" and ground truth" if scene.truth else ""), *views]
    for panel, head in zip(axes[0], heads, strict=True):
        title = textwrap.fill(f"({next(letters)}) {head}", 32)
        panel.set_title(as_written(title), fontsize=10)
    for panels, (where, name) in zip(axes, rows, strict=True):
        label = textwrap.fill(f"{where}: {name}", 24)
        panels[0].set_ylabel(as_written(label), fontsize=10)
        panels[0].imshow(scene.image)
        found: dict[str, np.ndarray] = {}
        for model, view in views.items():
            if where == "attention" and name in view.rows:
                maps = view.maps_of(name).mean((0, 1))
                found[model] = _relative(view, maps)
            elif where != "attention":
                maps = view.evidence[view.classes.index(name)]
                found[model] = _relative(view, maps) if detects else maps.numpy()
        norm = _scale_of(list(found.values()), from_zero=where != "similarity")
        mine = [s for s in shares if (s["view"], s["what"]) == (where, name)]
        mean = {s["model"]: s for s in mine if s["layer"] == s["head"] == "mean"}
        truth = scene.truth
        if truth is not None:
            if name == PROTOTYPES:
                draw_boxes(panels[0], [(LOOKS["truth"], truth)], words, _INCHES * 0.97)
            else:  # the row already shows the class's name
                truth = truth.take(truth.labels == words.index(name))
                _frames(panels[0], truth.boxes)
            covered = [f"boxes cover {share['boxes']:.0%}" for share in mean.values()]
            panels[0].set_xlabel((covered or ["not in the image"])[0], fontsize=9)
        for panel, (model, view) in zip(panels[1:], views.items(), strict=True):
            if model not in found:
                absent = as_written(f"no {name}")
                panel.text(0.5, 0.5, absent, ha="center", transform=panel.transAxes)
                continue
            _heat(panel, scene, found[model], norm)
            if truth is not None:
                _frames(panel, truth.boxes)
            if model in mean:
                panel.set_xlabel(f"{mean[model]['share']:.0%} inside", fontsize=9)
            elif name in view.scores:
                panel.set_xlabel(f"score {view.scores[name]:.2f}", fontsize=9)
        unit = "cosine" if where == "similarity" else "times the mean"
        bar = figure.colorbar(
            ScalarMappable(norm, _COLOURS), ax=panels.tolist(), shrink=0.8, pad=0.01
        )
        bar.set_label(unit, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    return figure


def _grid(scene: _Scene, view: Look, name: str, title: str) -> Figure:
    """Each layer (rows) and head (columns), and their means at the end."""
    maps = view.maps_of(name)
    maps = torch.cat([maps, maps.mean(1, keepdim=True)], dim=1)
    maps = torch.cat([maps, maps.mean(0, keepdim=True)])
    rows, columns = maps.shape[:2]
    figure, axes = _figure(rows, columns, scene, title)
    for r, panels in enumerate(axes):
        panels[0].set_ylabel("mean of layers" if r == rows - 1 else f"layer {r}", fontsize=10)
        values = [_relative(view, each) for each in maps[r]]
        norm = _scale_of(values, from_zero=True)
        for c, (panel, each) in enumerate(zip(panels, values, strict=True)):
            if r == 0:
                panel.set_title("mean of heads" if c == columns - 1 else f"head {c}", fontsize=10)
            _heat(panel, scene, each, norm)
        bar = figure.colorbar(
            ScalarMappable(norm, _COLOURS), ax=panels.tolist(), shrink=0.8, pad=0.01
        )
        bar.set_label("times the mean", fontsize=8)
    return figure


def summary(table: pd.DataFrame) -> str:
    """The shares inside the boxes in percent: means over all layers and heads, then over images."""
    mean = table[(table["layer"] == "mean") & (table["head"] == "mean")].copy()
    mean["view"] += ": " + mean["what"]
    columns = list(dict.fromkeys(mean["model"]))
    shares = mean.pivot_table("share", "view", "model", sort=False)[columns]
    shares = shares.rename_axis(index=None, columns=None)
    shares.insert(0, "boxes cover", mean.groupby("view")["boxes"].mean())
    heading = "Share of each map inside the true boxes, %, mean over images:"
    return f"{heading}\n{(100 * shares).round(1).to_string(na_rep='-')}"
