"""Promises of a study's page in all its formats, and of its plots."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from mmsdpt.experiments.frame import Score
from mmsdpt.experiments.page import introduction, latex, write_plots, write_tables
from mmsdpt.experiments.plots import Curve, Plot, study_plots
from mmsdpt.experiments.records import append_record
from mmsdpt.experiments.study import Data
from mmsdpt.experiments.view import Table
from mmsdpt.utils.errors import InputError

from .by_hand import CONFIG, make_frame, make_records, make_study


class Nesting(HTMLParser):
    """Checks that every tag is closed in order; keeps the texts of cells."""

    VOID = {"meta", "br", "link", "img"}

    def __init__(self):
        super().__init__()
        self.open, self.cells = [], []

    def handle_starttag(self, tag, attrs):
        assert not {name for name, _ in attrs} & {"src"}, "a page needs no other file"
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


STUDY = make_study("few_shot", shots=(1, 4), title="Cats & dogs")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page with what can go wrong in its cells, by format."""

    def metrics(cell):
        if cell.training.method == "coop" and cell.training.shots == 4:
            return "CUDA <error> 100% of a_b & c|d"
        if cell.training.method == "coop" and cell.training.seed == 3:
            return None
        return dict(accuracy=100 / 3 + 10 * (cell.training.seed or 0), margin=0.25)

    folder = tmp_path_factory.mktemp("page")
    for record in make_records(STUDY, metrics):
        append_record(folder / "study.jsonl", record)
    return {path.suffix: path.read_text() for path in write_tables(STUDY, folder)}


def test_no_format_shows_a_nan(written):
    for suffix, text in written.items():
        assert not re.search(r"\bNaN\b|\bnan\b|<NA>|\bNone\b", text), suffix


def test_markdown_says_what_is_missing_and_keeps_its_columns(written):
    text = written[".md"]
    assert text.startswith("# Cats & dogs\n")
    assert "Of 26 cells: 2 not computed yet, 6 failed." in text
    assert "over the seeds 1, 2, 3" in text
    assert "mmsdpt 0.2.0; torch 2.14" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_who_ends_below_zero_shot_is_named():
    scores = dict(zero_shot=50.0, coop=49.5, mudpt=50.0)
    frame = make_frame(STUDY, lambda cell: dict(accuracy=scores[cell.training.method]))
    (found,) = (each for each in introduction(STUDY, frame) if "below zero-shot" in each)
    assert "on the test sets: CoOp (12). " in found


def test_a_training_below_zero_shot_counts_once_however_often_it_is_tested():
    study = make_study("base_to_new", ("cats",), ("coop",), shots=(4,))
    frame = make_frame(study, lambda cell: dict(accuracy=40.0 if cell.training.data else 50.0))
    assert any(
        "below zero-shot on the test sets: CoOp (3)." in x for x in introduction(study, frame)
    )


def test_a_page_says_that_its_numbers_are_of_validation_images():
    frame = make_frame(study := replace(STUDY, split="val"), lambda cell: dict(accuracy=50.0))
    assert "in percent on the validation images, of" in introduction(study, frame)[1]


def test_csv_has_every_cell_at_full_precision(written, tmp_path):
    (tmp_path / "again.csv").write_text(written[".csv"])
    frame = pd.read_csv(tmp_path / "again.csv")
    assert len(frame) == 24
    assert frame["metric.accuracy"].max() == 100 / 3 + 30


def test_html_is_one_well_formed_file_that_needs_no_other(written):
    page = Nesting()
    page.feed(written[".html"])
    assert page.open == []
    assert "CUDA <error> 100% of a_b & c|d" in page.cells
    links = re.findall(r'(?:href="|url\()([^"\s)]+)', written[".html"])
    assert all(link.startswith("#") for link in links)
    ids = re.findall(r'\bid="([^"]+)"', written[".html"])
    assert len(set(re.findall(r'clipPath id="([^"]+)"', written[".html"]))) >= 2
    assert {link[1:] for link in links} <= set(ids)


def test_plots_of_the_page_have_the_color_of_its_text_and_are_told_in_words(written):
    assert written[".html"].count("<figure") == written[".html"].count("<svg") > 0
    assert "currentColor" in written[".html"]
    assert "#0a0b0c" not in written[".html"]
    assert re.search(r'<figure role="img" aria-label="[^"]*MuDPT: 53.33 ± 10.00', written[".html"])


def test_latex_escapes_what_it_would_take_for_commands(tmp_path):
    table = Table("50% of A&B_c", [{"me#thod": "[x] \\y^2 ~{z}", "$": "1 ± 2", "a|b": None}])
    text = latex([table])
    assert "50\\% of A\\&B\\_c" in text
    assert "{[}x{]} \\textbackslash{}y\\textasciicircum{}2 \\textasciitilde{}\\{z\\}" in text
    assert "1 $\\pm$ 2 & -- \\\\" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(written, tmp_path):
    odd = latex([Table('Odd #$%&_{}~^\\ <>|"', [{"a[b]": "[1] − 2 · 3 – 4 ± 5"}])])
    document = (
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs}"
        f"\\begin{{document}}\n{written['.tex']}\n{odd}\n\\end{{document}}\n"
    )
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout[-2000:]


def test_without_results_one_sentence_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run the study first"):
        write_tables(STUDY, tmp_path)


def test_error_bars_stand_beside_each_other_and_zero_shot_is_a_level_line():
    frame = make_frame(STUDY, lambda cell: dict(accuracy=10.0 + (cell.training.seed or 0)))
    plots = {plot.name: plot for plot in study_plots(STUDY, frame)}
    plot = plots["shots_average_over_2_data_sets"]
    axes = plot.figure().axes[0]
    (level,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(level.get_ydata()) == [10.0, 10.0]
    first, second = (bars.lines[0] for bars in axes.containers)
    assert list(first.get_ydata()) == list(second.get_ydata()) == [12.0, 12.0]
    assert all(x < y for x, y in zip(first.get_xdata(), second.get_xdata(), strict=True))
    assert max(second.get_xdata()) < 5
    (bar,) = axes.containers[0].lines[2]
    assert [y for _, y in bar.get_segments()[0]] == [11.0, 13.0]
    parameters = plots["parameters_cats_4_shots"]
    assert [list(curve.points) for curve in parameters.curves] == [[None], [2048.0], [78080.0]]


def test_all_images_stand_right_of_the_most_shots():
    study = make_study("few_shot", ("cats",), ("coop",), shots=(4, 1, 0))
    frame = make_frame(study, lambda cell: dict(accuracy=10.0 + (cell.training.shots or 90)))
    (plot,) = (each for each in study_plots(study, frame) if each.name.startswith("shots_"))
    (curve,) = (each for each in plot.curves if each.label == "CoOp")
    means = {x: score.mean for x, score in curve.points.items()}
    assert means == {1.0: 11.0, 4.0: 14.0, 8.0: 100.0}
    assert plot.ticks == {1.0: "1", 4.0: "4", 8.0: "all"}
    assert "100.00" in plot.alt and "at all" in plot.alt
    labels = [label.get_text() for label in plot.figure().axes[0].get_xticklabels()]
    assert labels == ["1", "4", "all"]


def test_no_two_curves_look_alike():
    curves = [Curve(str(n), {1.0: Score(float(n))}) for n in range(30)]
    axes = Plot("many", "Many", "x", "y", curves).figure().axes[0]
    lines = [bars.lines[0] for bars in axes.containers]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(curves)


@pytest.mark.parametrize("protocol", ["comparison", "few_shot"])
def test_a_comparison_is_drawn_against_its_costs_and_against_what_it_forgets(protocol):
    known = {"old": Data("old", CONFIG)}
    study = make_study(protocol, ("cats",), ("coop",), shots=(4,), forgetting=known)

    def metrics(cell):
        if cell.data == "old":
            return {"coco/bbox_mAP": 0.7 if cell.training.data is None else 0.5}
        return {"coco/bbox_mAP": 0.2 if cell.training.data is None else 0.6}

    plots = {plot.name: plot for plot in study_plots(study, make_frame(study, metrics))}
    curves = {c.label: c.points for c in plots["forgetting_cats_4_shots"].curves}
    assert [(x, score.mean) for x, score in curves["CoOp"].items()] == [(50.0, 60.0)]
    assert [(x, score.mean) for x, score in curves["Zero-shot"].items()] == [(70.0, 20.0)]
    if protocol == "comparison":
        assert list(plots["memory_cats_4_shots"].curves[1].points) == [1228.0]


def test_the_setting_named_last_is_the_x_axis():
    vary = dict(
        length=dict(injection=["linear", "none"], num_tokens=[1, 8]),
        direction=[dict(injection="none"), dict(injection="linear", direction="both")],
    )
    study = make_study("few_shot", ("cats",), ("mudpt",), shots=(4,), vary=vary)
    frame = make_frame(study, lambda cell: dict(accuracy=10.0))
    length, direction = study_plots(study, frame)
    assert length.x_label == "num_tokens"
    assert [(curve.label, list(curve.points)) for curve in length.curves] == [
        ("Zero-shot", [None]),
        ("MuDPT, injection linear", [1.0, 8.0]),
        ("MuDPT, injection none", [1.0, 8.0]),
    ]
    assert direction.ticks == {0.0: "both"}
    assert [list(curve.points) for curve in direction.curves] == [[None], [None], [0.0]]


def test_each_plot_becomes_a_file(tmp_path):
    for record in make_records(STUDY, lambda cell: dict(accuracy=50.0)):
        append_record(tmp_path / "study.jsonl", record)
    paths = write_plots(STUDY, tmp_path)
    assert len(paths) == 6  # shots and parameters, of the average and two data sets
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
