"""Promises of the plots: every score is a point, with an error bar of its standard deviation."""

from __future__ import annotations

import importlib.util

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from mmsdpt.protocols.curves import few_shot_curves
from mmsdpt.protocols.methods import choose_methods, presets
from mmsdpt.protocols.plan import Cell, Training
from mmsdpt.protocols.plot import Curve, draw, save_plot
from mmsdpt.protocols.report import Facts
from mmsdpt.protocols.rows import to_rows
from mmsdpt.protocols.scores import Score


@pytest.fixture
def curves(repository):
    """Few-shot curves of two datasets, three shots and two seeds; one cell has failed."""
    methods = choose_methods(["zero_shot", "mudpt", "coop"], presets(repository / "configs"))
    results = {}
    for dataset in ("dtd", "eurosat"):
        results[Cell(Training("zero_shot"), dataset)] = dict(accuracy=40.0)
        for name in ("mudpt", "coop"):
            for shots in (1, 2, 4):
                for seed in (1, 2):
                    cell = Cell(Training(name, dataset, "all", shots, seed), dataset)
                    results[cell] = dict(accuracy=50.0 + shots + seed)
    lost = [cell for cell in results if cell.target == "dtd" and cell.training.method == "coop"][:2]
    results.update(dict.fromkeys(lost, dict(error="it broke")))
    facts = Facts("few_shot", "tiny", methods, ["dtd", "eurosat"], [1, 2, 4], [1, 2])
    return few_shot_curves(to_rows("few_shot", "tiny", results), facts)


def test_there_is_a_plot_for_each_dataset_and_one_of_the_average(curves):
    assert list(curves) == ["dtd", "eurosat", "average"]
    zero_shot, mudpt, coop = curves["eurosat"]
    assert zero_shot.points == {None: Score((40.0,))}
    assert mudpt.points == {k: Score((51.0 + k, 52.0 + k)) for k in (1, 2, 4)}


def test_what_failed_is_no_point(curves):
    coop = curves["dtd"][-1]
    assert coop.label == "CoOp" and set(coop.points) == {2, 4}
    assert set(curves["average"][-1].points) == {2, 4}


def test_every_point_has_the_error_bar_of_its_deviation(curves):
    axes = Figure().subplots()
    draw(axes, curves["eurosat"], "eurosat", "shots")
    bars = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["MuDPT", "CoOp"]
    for bar, shift in zip(bars, (-1, 1), strict=True):
        line, _, (segments,) = bar.lines
        x = line.get_xdata()
        assert list(x) == pytest.approx([1, 2, 4], rel=0.1)
        assert all((here - tick) * shift > 0 for here, tick in zip(x, (1, 2, 4), strict=True))
        assert list(line.get_ydata()) == pytest.approx([52.5, 53.5, 55.5])
        heights = [(low[1], high[1]) for low, high in segments.get_segments()]
        half = 0.5**0.5
        expected = [(y - half, y + half) for y in (52.5, 53.5, 55.5)]
        assert heights == [pytest.approx(pair) for pair in expected]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]


def test_a_plot_is_written_even_of_nothing(tmp_path, curves):
    save_plot(tmp_path / "some.png", curves["average"], "average", "shots")
    save_plot(tmp_path / "none.png", [], "nothing", "shots")
    save_plot(
        tmp_path / "words.png",
        [Curve("linear", {0: Score((1.0,)), 1: Score((2.0, 4.0))})],
        "direction",
        "direction",
        log=False,
        names={0: "none", 1: "both"},
    )
    for name in ("some", "none", "words"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_study_answers_each_question_with_a_table_and_a_plot(
    repository, tiny_model, miniatures, tmp_path
):
    spec = importlib.util.spec_from_file_location(
        "prompt_study", repository / "tools" / "analysis_tools" / "prompt_study.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    status = tool.main(
        [
            *("--datasets", "clothing", "--shots", "1", "--seeds", "1", "--epochs", "1"),
            *("--lengths", "1", "3", "--depths", "1", "2", "--layers", "1", "2"),
            *("--model", str(tiny_model), "--load-from", "none"),
            *("--data-root", str(miniatures), "--work-dir", str(tmp_path)),
        ]
    )
    assert status == 0
    text = (tmp_path / "tiny_clip" / "prompt_study.md").read_text()
    for question in ("length", "depth", "layers", "direction"):
        assert f"## {question.capitalize()}" in text
        plot = tmp_path / "tiny_clip" / f"prompt_study_{question}.png"
        assert plot.read_bytes().startswith(b"\x89PNG")
    assert "–" not in text.split("## Length")[1]
