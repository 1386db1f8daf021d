"""Promises of the protocols' tables: means over seeds, averages over datasets, H as the H of the
averages, full precision.
"""

from __future__ import annotations

import statistics

import pytest
from mmengine.config import Config

from mmsdpt.analysis.report import to_csv
from mmsdpt.protocols.methods import Method
from mmsdpt.protocols.plan import Cell, Training
from mmsdpt.protocols.published import BASE_TO_NEW
from mmsdpt.protocols.report import Facts, page
from mmsdpt.protocols.rows import to_rows
from mmsdpt.protocols.scores import Score, average, harmonic_mean


@pytest.fixture
def methods(tmp_path):
    path = tmp_path / "method.py"
    Config(
        dict(
            model=dict(tuner=dict(type="mmsdpt.MuDPT")),
            optim_wrapper=dict(),
            train_cfg=dict(max_epochs=3),
            train_dataloader=dict(batch_size=4),
        )
    ).dump(path)
    return {
        "zero_shot": Method("zero_shot", "Zero-shot CLIP"),
        "mudpt": Method("mudpt", "MuDPT", path),
    }


def results_of(accuracies: dict) -> dict:
    """Results by (method, dataset, classes, shots, seed)."""
    found = {}
    for (method, dataset, classes, shots, seed), accuracy in accuracies.items():
        trained = "all" if classes == "all" else "base"
        training = (
            Training(method) if shots is None else Training(method, dataset, trained, shots, seed)
        )
        result = dict(accuracy=accuracy, correct=1, total=2, margin=0.5, gap=1.0)
        found[Cell(training, dataset, classes)] = (
            dict(error="InputError: it broke") if accuracy is None else result
        )
    return found


def make_page(protocol, accuracies, methods, **facts):
    rows = to_rows(protocol, "tiny", results_of(accuracies))
    settings = dict(
        protocol=protocol,
        model="tiny",
        methods=methods,
        datasets=list(dict.fromkeys(key[1] for key in accuracies)),
        shots=sorted({key[3] for key in accuracies if key[3]}),
        seeds=sorted({key[4] for key in accuracies if key[4]}),
    )
    return page(rows, Facts(**{**settings, **facts}))


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    lines = text.split(f"## {heading}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_h_of_a_table_is_the_h_of_the_averages(methods):
    accuracies = {
        ("mudpt", "pets", "base", 16, 1): 90.0,
        ("mudpt", "pets", "new", 16, 1): 10.0,
        ("mudpt", "cars", "base", 16, 1): 50.0,
        ("mudpt", "cars", "new", 16, 1): 70.0,
    }
    text = make_page("base_to_new", accuracies, methods)
    of_averages = 2 * 70 * 40 / (70 + 40)
    average_of = statistics.fmean([2 * 90 * 10 / 100, 2 * 50 * 70 / 120])
    assert abs(of_averages - average_of) > 10  # otherwise this would prove nothing
    row = table(text, "Average over 2 datasets, 16 shots")[1]
    assert row == ["MuDPT", "70.00", "40.00", f"{of_averages:.2f}"]
    assert table(text, "pets, 16 shots")[1][-1] == "18.00"


def test_h_of_a_dataset_is_the_h_of_the_means_over_seeds(methods):
    accuracies = {}
    for seed, base, new in ((1, 80.0, 20.0), (2, 60.0, 60.0)):
        accuracies["mudpt", "pets", "base", 16, seed] = base
        accuracies["mudpt", "pets", "new", 16, seed] = new
    row = table(make_page("base_to_new", accuracies, methods), "pets, 16 shots")[1]
    assert row[1:] == ["70.00 ± 14.14", "40.00 ± 28.28", f"{2 * 70 * 40 / 110:.2f}"]


def test_the_published_averages_have_the_h_that_follows_from_them():
    for published in BASE_TO_NEW.values():
        assert harmonic_mean(published.base, published.new) == pytest.approx(
            published.harmonic, abs=0.006
        )


def test_no_accuracy_has_no_h_and_no_error():
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_an_average_over_datasets_varies_over_seeds_only(methods):
    accuracies = {
        ("mudpt", "pets", "all", 1, 1): 90.0,
        ("mudpt", "pets", "all", 1, 2): 92.0,
        ("mudpt", "cars", "all", 1, 1): 12.0,
        ("mudpt", "cars", "all", 1, 2): 10.0,
        ("zero_shot", "pets", "all", None, None): 50.0,
        ("zero_shot", "cars", "all", None, None): 25.0,
    }
    text = make_page("few_shot", accuracies, methods)
    zero_shot, mudpt = table(text, "Average over 2 datasets")
    assert mudpt == ["MuDPT", "", "51.00 ± 0.00"]
    assert zero_shot == ["Zero-shot CLIP", "37.50", ""]
    assert table(text, "pets")[1][-1] == "91.00 ± 1.41"


def test_a_missing_result_leaves_no_average_of_something_else(methods):
    accuracies = {
        ("mudpt", "pets", "all", 1, 1): 90.0,
        ("mudpt", "pets", "all", 1, 2): 92.0,
        ("mudpt", "cars", "all", 1, 1): 12.0,
        ("mudpt", "cars", "all", 1, 2): None,
    }
    text = make_page("few_shot", accuracies, methods)
    assert table(text, "Average over 2 datasets")[1][-1] == "–"
    assert table(text, "cars")[1][-1] == "12.00 (1 of 2 seeds)"
    assert "mudpt, cars (all classes), 1 shot, seed 2: InputError: it broke" in text


def test_transfer_averages_leave_out_the_source(methods):
    cells = {}
    for target, accuracy in (("imagenet", 70.0), ("pets", 80.0), ("cars", 60.0)):
        cell = Cell(Training("mudpt", "imagenet", "all", 16, 1), target)
        cells[cell] = dict(accuracy=accuracy)
    facts = Facts(
        protocol="cross_dataset",
        model="tiny",
        methods=methods,
        datasets=["imagenet", "pets", "cars"],
        shots=[16],
        seeds=[1],
        source="imagenet",
    )
    row = table(page(to_rows("cross_dataset", "tiny", cells), facts), "16 shots")[1]
    assert row == ["MuDPT", "70.00", "80.00", "60.00", "70.00"]


def test_csv_keeps_full_precision():
    third = 100 / 3
    cell = Cell(Training("mudpt", "pets", "all", 1, 1), "pets")
    rows = to_rows("few_shot", "tiny", {cell: dict(accuracy=third)})
    header, line = to_csv(rows).splitlines()
    assert float(dict(zip(header.split(","), line.split(","), strict=True))["accuracy"]) == third


def test_a_score_of_one_seed_has_no_deviation():
    assert Score((50.0,)).std is None
    assert f"{Score((50.0,)):.2f}" == "50.00"
    assert Score((1.0, 3.0)).std == pytest.approx(2**0.5)
    assert average([{}]) is None
