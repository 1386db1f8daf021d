"""Promises of pictures and contact sheets."""

from __future__ import annotations

import struct
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from matplotlib import text as matplotlib_text
from matplotlib.figure import Figure
from PIL import Image

from mmsdpt.analysis.attention import PROTOTYPES, Look
from mmsdpt.analysis.attention_page import _overview, _Scene
from mmsdpt.experiments.frame import Score
from mmsdpt.experiments.plots import Curve, Plot
from mmsdpt.utils.errors import InputError
from mmsdpt.visualization import (
    Boxes,
    Entry,
    contact_sheet,
    draw_detections,
    draw_scores,
    single,
)
from mmsdpt.visualization.curves import draw_curves
from mmsdpt.visualization.drawing import LOOKS, draw_boxes, save_figure
from mmsdpt.visualization.single import read_upright
from tests.test_curves import entries, write_session

IMAGE = np.full((60, 100, 3), 200, np.uint8)
YELLOW, BLUE, ORANGE = (0xF0, 0xE4, 0x42), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def share(path, colour) -> float:
    """Of the pixels of a picture that have about this colour."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return float((np.abs(pixels - colour) < 12).all(-1).mean())


def test_a_picture_tells_right_wrong_and_missed_by_colour_where_the_truth_is_known(tmp_path):
    truth = Boxes([[5, 20, 35, 50], [60, 20, 90, 50]], [0, 1])
    found = {
        "right": Boxes(truth.boxes, [0, 1], [0.9, 0.8]),
        "wrong": Boxes(truth.boxes, [1, 0], [0.9, 0.8]),
        "missed": Boxes(truth.boxes, [0, 1], [0.2, 0.1]),
    }
    seen = {}
    for name, boxes in found.items():
        path = draw_detections(
            IMAGE, boxes, ("cat", "dog"), tmp_path / f"{name}.png", truth, score_thr=0.3
        )
        seen[name] = [share(path, colour) > 0.001 for colour in (BLUE, ORANGE, YELLOW)]
    assert seen == dict(
        right=[True, False, False], wrong=[False, True, False], missed=[False, False, True]
    )


def test_no_name_lies_on_another_one():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = Boxes(np.concatenate([corners, corners + 15], 1), np.zeros(40), rng.random(40))
    figure = Figure(figsize=(4, 4))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.imshow(np.zeros((80, 80, 3), np.uint8))
    left_out = draw_boxes(panel, [(LOOKS["correct"], boxes)], ("a rather long name",), 4.0)
    assert 0 < left_out < 40 and len(panel.texts) == 40 - left_out
    extents = [text.get_window_extent() for text in panel.texts]
    for i, a in enumerate(extents):
        for b in extents[:i]:
            assert min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)


def test_a_crowd_of_one_class_hides_no_name_of_another():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + 15], 1)
    crowd = Boxes(boxes[:-1], np.zeros(39), np.full(39, 0.9))
    last = Boxes(boxes[-1:], [1], [0.3])
    figure = Figure(figsize=(4, 4))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.imshow(np.zeros((80, 80, 3), np.uint8))
    names = ("a rather long name", "another")
    assert draw_boxes(panel, [(LOOKS["correct"], crowd), (LOOKS["wrong"], last)], names, 4.0) > 0
    assert any("another" in text.get_text() for text in panel.texts)


def test_the_line_under_a_picture_is_no_wider_than_the_picture(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 42, (90, 2))
    found = Boxes(np.concatenate([corners, corners + 8], 1), np.arange(90) % 30, rng.random(90))
    seen = {}
    monkeypatch.setattr(single, "save_figure", lambda figure, path, dpi: seen.update({dpi: figure}))
    names = [f"class {i}" for i in range(30)]
    draw_detections(IMAGE, found, names, tmp_path / "a.png", found.take([0, 1]))
    ((dpi, figure),) = seen.items()
    figure.set_dpi(dpi)
    (line,) = figure.texts
    assert "names left out" in line.get_text()
    assert line.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((100, 10), (720, 7200)), ((1000, 10), (72, 7200)), ((9000, 90), (90, 9000))],
)
def test_a_narrow_image_is_not_drawn_without_measure(tmp_path, size, drawn):
    image, nothing = np.zeros((*size, 3), np.uint8), Boxes([], [], [])
    path = draw_detections(image, nothing, ("cat",), tmp_path / "a.png")
    with Image.open(path) as picture:
        assert picture.size == drawn


@pytest.mark.parametrize("kind", ["pdf", "svg", "jpg"])
def test_pictures_are_written_in_other_formats(tmp_path, kind):
    found = Boxes([[5, 20, 35, 50]], [0], [0.9])
    assert draw_detections(IMAGE, found, ["hat"], tmp_path / f"a.{kind}").stat().st_size > 1000


def test_a_photograph_with_a_damaged_tag_is_drawn_and_a_missing_one_is_named(tmp_path):
    """An orientation, and a maker's name that is a number, which Pillow cannot write again."""
    maker = struct.pack("<HHIf", 0x010F, 11, 1, 0.5)
    tags = struct.pack("<IHHHIHH", 8, 2, 0x0112, 3, 1, 6, 0) + maker + bytes(4)
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0" + tags)
    assert read_upright(tmp_path / "a.jpg").shape == (100, 60, 3)
    with pytest.raises(InputError, match="none.jpg cannot be drawn .there is no such file."):
        read_upright(tmp_path / "none.jpg")


def test_only_the_best_boxes_are_shown_with_top_k(tmp_path):
    found = Boxes([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], [0, 0, 0], [0.2, 0.9, 0.5])
    assert found.shown(0.3).scores.tolist() == [0.9, 0.5]
    assert found.shown(0.0, top_k=1).scores.tolist() == [0.9]


def test_scores_are_marked_right_or_wrong(tmp_path):
    scores = [("hat", 0.7), ("skirt", 0.3)]
    right = draw_scores(IMAGE, scores, tmp_path / "right.png", truth="hat")
    wrong = draw_scores(IMAGE, scores, tmp_path / "wrong.png", truth="skirt")
    assert share(right, ORANGE) == 0 < share(wrong, ORANGE)


# What two dollars enclose is TeX to matplotlib: the first is a formula, the second is none.
ODD = ("$1 bill, $5 #2", "50% off $20_^ or $5")


def detections(folder) -> None:
    found = Boxes([[5, 20, 35, 50], [60, 20, 90, 50]], [0, 1], [0.9, 0.8])
    draw_detections(IMAGE, found, ODD, folder / "a.png")


def scores(folder) -> None:
    draw_scores(IMAGE, [(ODD[0], 0.7), (ODD[1], 0.3)], folder / "a.png", truth=ODD[1])


def attention(folder) -> None:
    maps, extent = torch.rand(1, 1, 2, 2, 2), (0.0, 100.0, 60.0, 0.0)
    truth = Boxes([[0, 0, 30, 30]], [0])
    scene = _Scene(SimpleNamespace(name="$1/$5.png"), IMAGE, extent, (60, 100), truth, (1.0, 1.0))
    look = Look(ODD, maps, ODD, maps[0, 0], dict.fromkeys(ODD, 0.5), torch.ones(2, 2))
    tokens = Look((PROTOTYPES,), maps[:, :, :1], ODD, maps[0, 0], look.scores, look.valid)
    views = {"$lr$_": look, "tokens": tokens}
    save_figure(_overview(scene, views, [], ODD, detects=True), folder / "a.png", dpi=50)


def curves(folder) -> None:
    write_session(folder / "run", "20260101", entries(1, 2, 2.0))
    draw_curves([f"{name}={folder / 'run'}" for name in ODD], folder / "a.png")


def plots_of_a_study(folder) -> None:
    lines = [Curve(name, {x: Score(50.0)}) for x, name in enumerate(ODD)]
    for ticks in (dict(enumerate(ODD)), None):
        Plot(
            "odd", ODD[0], ODD[1], "$y$_", [*lines, Curve("$1$_", {None: Score(9.0)})], 0, ticks
        ).save()


@pytest.mark.parametrize(
    "draw", [detections, scores, attention, curves, plots_of_a_study], ids=lambda f: f.__name__
)
def test_names_with_dollars_are_drawn_as_they_are_written(tmp_path, monkeypatch, draw):
    drawn = set()
    original = matplotlib_text.Text._preprocess_math

    def prepare(text, words):
        shown, is_math = original(text, words)
        if "$" in words:
            assert not is_math, words
            drawn.add(" ".join(shown.split()))
        return shown, is_math

    monkeypatch.setattr(matplotlib_text.Text, "_preprocess_math", prepare)
    draw(tmp_path)
    for name in ODD:
        assert any(name[:15] in text for text in drawn), drawn
    assert not any("\\" in text for text in drawn)


class _Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found, self.words, self.tags = [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data) -> None:
        self.words += [data.strip()] if data.strip() else []


def test_a_contact_sheet_shows_most_changed_first_links_what_exists_and_escapes_names(tmp_path):
    names = ["a/1.png", "b/1.png", "b/<script>#1?.png"]
    entries = []
    for weight, name in enumerate(names):
        for column in ("before", "after"):
            path = tmp_path / column / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (900, 600), "red").save(path)
        pictures = {column: tmp_path / column / name for column in ("before", "after")}
        entries.append(Entry(name, pictures, "note", weight))
    page = contact_sheet(entries, tmp_path, "Pictures & more")
    shown = _Links(page.read_text(encoding="utf-8"))
    assert [word for word in shown.words if word in names] == names[::-1]
    assert "script" not in shown.tags
    assert len(shown.found) == len(set(shown.found)) == 12
    for link in shown.found:
        assert "://" not in link and not link.startswith("/")
        with Image.open(tmp_path / unquote(link)) as picture:
            assert picture.size == ((480, 320) if link.startswith("thumb") else (900, 600))
