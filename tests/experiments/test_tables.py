"""Promises of the tables: every number is compared with one computed by hand."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pandas as pd
import pytest

from mmsdpt.experiments.frame import Score, harmonic_mean, mean_score, scores_of, to_frame
from mmsdpt.experiments.study import Data
from mmsdpt.experiments.tables import study_tables
from mmsdpt.utils.errors import InputError

from .by_hand import CONFIG, make_frame, make_records, make_study


def texts(tables, title):
    """A table's rows as texts, by the texts of the first column."""
    (table,) = [table for table in tables if table.title == title]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.texts()}


def seeded(values):
    """Accuracies by method, then by data and seed."""

    def metrics(cell):
        value = values[cell.training.method]
        if isinstance(value, dict):
            value = value[cell.data]
        if isinstance(value, list):
            value = value[(cell.training.seed or 1) - 1]
        return value if value is None or isinstance(value, str) else dict(accuracy=value)

    return metrics


def test_records_become_one_tidy_row_each():
    study = make_study("few_shot", ("cats",), ("coop",), shots=(4,), seeds=(1,))
    metrics = dict(accuracy=50.0, margin=0.25)
    plain, tuned = make_records(study, lambda cell: metrics)
    tuned["settings"] = {"num_tokens": 4, "optim_wrapper": {"lr": 0.1}}
    frame = to_frame([plain, tuned])
    row = frame.iloc[1]
    assert row["setting.num_tokens"] == 4
    assert row["setting.optim_wrapper.lr"] == 0.1
    assert row["metric.accuracy"] == 50.0
    assert row["before.margin"] == 0.25
    assert (row["score"], row["gain"], row["shots"]) == (50.0, 0.0, 4)
    assert frame.to_csv().count("4.0") == 0  # counts stay integers beside missing ones
    assert len(to_frame([])) == 0


@pytest.mark.parametrize(
    "metrics, expected",
    [
        ({"accuracy": 45.25, "correct": 3, "margin": 0.1}, {"accuracy": 45.25}),
        ({"coco/bbox_mAP_50": 0.5, "coco/bbox_mAP": 0.25}, {"AP": 25.0, "AP50": 50.0}),
        ({"lvis_fixed_ap/AP": 0.25, "lvis_fixed_ap/APr": 0.5}, {"AP": 25.0, "APr": 50.0}),
        ({"mine/score": 3.0, "mine/other": 4.0}, {"mine/score": 3.0}),
        ({}, {}),
        (None, {}),
    ],
)
def test_scores_have_the_names_and_units_of_the_field(metrics, expected):
    assert scores_of(metrics) == expected
    assert list(scores_of(metrics)) == list(expected)


def test_plus_minus_is_over_seeds_of_means_over_data():
    study = make_study("few_shot", shots=(1,))
    frame = make_frame(
        study,
        seeded(
            dict(
                zero_shot=dict(cats=40.0, dogs=50.0),
                coop=dict(cats=[10.0, 20.0, 30.0], dogs=[30.0, 20.0, 10.0]),
                mudpt=dict(cats=[10.0, 20.0, 30.0], dogs=[20.0, 30.0, 70.0]),
            )
        ),
    )
    average = texts(study_tables(study, frame), "Average over 2 data sets")
    assert average["CoOp"]["1 shot"] == "20.00 ± 0.00"
    # Per seed 15, 25, 50: mean 30, squares 225 + 25 + 400 = 650, over n - 1 = 2.
    assert average["MuDPT"]["1 shot"] == f"30.00 ± {325**0.5:.2f}"
    assert average["Zero-shot"] == {"method": "Zero-shot", "no training": "45.00", "1 shot": ""}
    cats = texts(study_tables(study, frame), "cats")
    assert cats["CoOp"]["1 shot"] == "20.00 ± 10.00"


def test_a_missing_seed_is_said_and_no_average_is_over_different_seeds():
    study = make_study("few_shot", shots=(1,))
    frame = make_frame(
        study,
        seeded(
            dict(
                zero_shot=dict(cats=40.0, dogs="out of memory"),
                coop=dict(cats=[10.0, 20.0, None], dogs=[30.0, 40.0, 50.0]),
                mudpt=dict(cats=[10.0, "no disk", "no disk"], dogs=[30.0, None, None]),
            )
        ),
    )
    tables = study_tables(study, frame)
    average = texts(tables, "Average over 2 data sets")
    assert average["CoOp"]["1 shot"] == "–"
    assert average["MuDPT"]["1 shot"] == "20.00 (1 of 3 seeds)"
    assert average["Zero-shot"]["no training"] == "–"
    assert texts(tables, "cats")["CoOp"]["1 shot"] == f"15.00 ± {50**0.5:.2f} (2 of 3 seeds)"
    failed = texts(tables, "Failed")
    assert {row["cause"] for row in failed.values()} == {"out of memory", "no disk"}
    assert len(failed) == 3


def test_means_of_means_agree_with_plain_arithmetic():
    generator = random.Random(0)
    for _ in range(10):
        names = [f"d{i}" for i in range(generator.randint(1, 4))]
        seeds = tuple(range(1, generator.randint(2, 5)))
        study = make_study("few_shot", names, ("coop",), shots=(1,), seeds=seeds)
        values = {name: [generator.uniform(0, 100) for _ in seeds] for name in names}
        frame = make_frame(study, seeded(dict(zero_shot=0.0, coop=values)))
        rows = frame[frame["method"] == "coop"].sample(frac=1, random_state=1)
        score = mean_score(rows, "score", names, len(seeds))
        per_seed = [statistics.fmean(each) for each in zip(*values.values(), strict=True)]
        assert score.mean == pytest.approx(statistics.fmean(per_seed))
        if len(seeds) == 1:
            assert score.std is None
        else:
            assert score.std == pytest.approx(statistics.stdev(per_seed))
        each = [mean_score(rows, "score", [name]).mean for name in names]
        assert score.mean == pytest.approx(statistics.fmean(each))


def test_two_results_of_one_seed_are_not_averaged():
    rows = pd.DataFrame(dict(seed=[1, 1], place=["cats", "cats"], score=[70.0, 80.0]))
    with pytest.raises(ValueError, match="two results of seed 1 on cats"):
        mean_score(rows, "score", ["cats"])


def test_h_is_that_of_the_averages():
    study = make_study("base_to_new", methods=("coop",), shots=(16,))
    values = dict(cats=dict(base=80.0, new=40.0), dogs=dict(base=60.0, new=20.0))
    frame = make_frame(study, lambda cell: dict(accuracy=values[cell.data][cell.classes]))
    tables = study_tables(study, frame)
    average = texts(tables, "Average over 2 data sets, 16 shots")["CoOp"]
    assert (average["base"], average["new"]) == ("70.00 ± 0.00", "30.00 ± 0.00")
    assert average["H"] == "42.00"  # 2 * 70 * 30 / 100; the average of both H is 41.67
    assert texts(tables, "cats, 16 shots")["Zero-shot"]["H"] == "53.33"
    assert harmonic_mean(Score(0.0), Score(0.0)).mean == 0.0
    assert harmonic_mean(Score(1.0), None) is None
    some = harmonic_mean(Score(70.0, 1.0, 3, 3), Score(30.0, 1.0, 2, 3))
    assert str(some) == "42.00 (2 of 3 seeds)"


def test_transfer_leaves_the_source_out_of_the_average():
    study = make_study(
        "transfer", ("cats", "dogs", "owls"), ("coop",), source="cats", shots=(16,), seeds=(1,)
    )
    values = dict(cats=90.0, dogs=50.0, owls=60.0)
    frame = make_frame(study, lambda cell: dict(accuracy=values[cell.data]))
    row = texts(study_tables(study, frame), "16 shots")["CoOp"]
    assert list(row.values()) == ["CoOp", "90.00", "50.00", "60.00", "55.00"]


def test_a_comparison_has_scores_gain_and_cost():
    study = make_study("comparison", methods=("adapter",), seeds=(1, 2))

    def metrics(cell):
        trained = cell.training.data is not None
        return {
            "coco/bbox_mAP": 0.6 if trained else 0.444,
            "coco/bbox_mAP_50": 0.7 if trained else 0.574,
        }

    tables = study_tables(study, make_frame(study, metrics))
    assert texts(tables, "AP on all data")["Adapter"]["average"] == "60.0 ± 0.0"
    cats = texts(tables, "cats")
    assert list(cats["Adapter"].items())[1:] == [
        ("trainable parameters", "134,656"),
        ("of the base", "13.47%"),
        ("AP", "60.0 ± 0.0"),
        ("AP50", "70.0 ± 0.0"),
        ("gain", "+15.6 ± 0.0"),
        ("training, s", "51.5"),
        ("training, CPU s", "40.0"),
        ("peak memory, MB", "1,228"),
        ("tuner file, kB", "37"),
    ]
    assert list(cats["Zero-shot"].values()) == ["Zero-shot", "", "", "44.4", "57.4", *[""] * 5]


def test_scores_of_lvis_are_shown_by_how_often_classes_occur():
    study = make_study("comparison", ("cats",), ("adapter",))
    lvis = {"AP": 0.5, "APr": -1.0, "APc": 0.4, "APf": 0.6}  # no rare class is annotated
    metrics = {f"{kind}/{x}": y for kind in ("lvis_fixed_ap", "lvis") for x, y in lvis.items()}
    row = texts(study_tables(study, make_frame(study, lambda _: metrics)), "cats")["Zero-shot"]
    shown = {name: x for name, x in row.items() if name.startswith("AP")}
    assert shown == dict(AP="50.0", APc="40.0", APf="60.0")


def test_a_comparison_says_what_was_forgotten_and_has_means_of_groups():
    known = {name: Data(name, CONFIG) for name in ("old", "older")}
    study = make_study("comparison", methods=("adapter",), seeds=(1, 2), forgetting=known)
    grouped = {name: replace(data, group="pets") for name, data in study.data.items()}
    study = replace(study, data=grouped)

    def metrics(cell):
        training, tested = cell.training, cell.data
        if training.data is None:
            return {"coco/bbox_mAP": dict(old=0.7, older=0.6).get(tested, 0.1)}
        if tested in known:  # 0.5 or 0.4 after cats, 0.3 or 0.2 after dogs; seed 2 is 0.1 worse
            after = 0.5 if training.data == "cats" else 0.3
            return {"coco/bbox_mAP": after - 0.1 * (tested == "older") - 0.1 * (training.seed == 2)}
        return {"coco/bbox_mAP": 0.9}

    tables = study_tables(study, make_frame(study, metrics))
    whole = texts(tables, "AP on all data")
    assert whole["Zero-shot"]["of what it knew"] == "65.0"
    # Seeds 1 and 2: means of 50, 40, 30, 20 and of ten less.
    assert whole["Adapter"]["of what it knew"] == f"30.0 ± {50**0.5:.1f}"
    assert whole["Adapter"]["mean: pets"] == whole["Adapter"]["average"] == "90.0 ± 0.0"
    assert whole["Adapter"]["trainable parameters"] == "134,656"
    assert texts(tables, "cats")["Adapter"]["of what it knew"] == f"40.0 ± {50**0.5:.1f}"


def test_few_shot_learning_says_what_was_forgotten_and_aligns_only_its_own_data():
    known = {"old": Data("old", CONFIG)}
    study = make_study("few_shot", methods=("coop",), seeds=(1, 2), shots=(4,), forgetting=known)

    def metrics(cell):
        if cell.data != "old":
            return dict(accuracy=90.0, margin=0.3, gap=0.5)
        after = dict(cats=50.0, dogs=30.0).get(cell.training.data, 70.0)
        return dict(accuracy=after, margin=0.1, gap=0.9)

    tables = study_tables(study, make_frame(study, metrics))
    whole = texts(tables, "Average over 2 data sets, of what it knew")
    assert whole["Zero-shot"]["no training"] == "70.00"
    assert whole["CoOp"]["4 shots"] == "40.00 ± 0.00"
    assert texts(tables, "dogs, of what it knew")["CoOp"]["4 shots"] == "30.00 ± 0.00"
    assert texts(tables, "dogs")["CoOp"]["4 shots"] == "90.00 ± 0.00"
    assert texts(tables, "Alignment")["CoOp"]["margin after"] == "0.3000 ± 0.0000"


def test_stacking_shows_both_data_with_each_combination_of_slots():
    pairs = [("adapter", "adapter"), ("adapter", "coop")]
    study = make_study(
        "stacking", methods=("adapter", "coop"), source="cats", pairs=pairs, seeds=(1,)
    )

    def metrics(cell):
        trained = dict(adapter=30.0, coop=40.0, zero_shot=10.0)[cell.training.method]
        return dict(accuracy=trained + len(cell.slots) + (0.5 if cell.data == "dogs" else 0.0))

    tables = study_tables(study, make_frame(study, metrics))
    first, second = tables[0].texts()
    assert tables[0].columns[2:6] == ["cats: none", "cats: old", "cats: new", "cats: both"]
    adapter = ["10.00", "31.00", "31.00", "32.00", "10.50", "31.50", "31.50", "32.50"]
    coop = ["10.00", "31.00", "41.00", "42.00", "10.50", "31.50", "41.50", "42.50"]
    assert first == ["Adapter", "Adapter", *adapter]
    assert second == ["Adapter", "CoOp", *coop]
    cost = texts([tables[1]], "cats, then dogs: cost of the second training")
    assert cost["Adapter"]["trainable parameters"] == "2,048"  # the last row's


def test_a_varied_setting_has_a_row_for_each_value():
    vary = dict(length=dict(injection=["linear", "none"], num_tokens=[1, 2]))
    study = make_study("few_shot", ("cats",), ("mudpt",), shots=(4,), vary=vary)

    def metrics(cell):
        settings = dict(cell.training.settings)
        return dict(accuracy=10.0 * settings.get("num_tokens", 0), margin=0.5)

    tables = study_tables(study, make_frame(study, metrics))
    (table,) = [table for table in tables if table.title == "length: cats"]
    assert table.columns == ["method", "injection", "num_tokens", "no training", "4 shots"]
    assert table.texts() == [
        ["Zero-shot", "", "", "0.00", ""],
        ["MuDPT", "linear", "1", "", "10.00 ± 0.00"],
        ["MuDPT", "linear", "2", "", "20.00 ± 0.00"],
        ["MuDPT", "none", "1", "", "10.00 ± 0.00"],
        ["MuDPT", "none", "2", "", "20.00 ± 0.00"],
    ]
    (alignment,) = [table for table in tables if table.title == "length: Alignment"]
    assert alignment.texts()[1][3:] == ["0.5000", "0.5000 ± 0.0000", "–", "–"]  # no gap


def test_published_numbers_stand_beside_ours_with_what_differs(tmp_path, monkeypatch):
    (tmp_path / "papers_of_this_test.py").write_text(
        "PUBLISHED = [dict(title='average', source='A paper, table 3', protocol='base_to_new',"
        " setting=dict(host='mini', data=['cats', 'dogs'], shots=16, seeds=3),"
        " values=dict(coop=dict(base=82.69, H=71.7), maple=dict(base=80.0)),"
        " labels=dict(maple='MaPLe'))]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def published(**kwargs):
        study = make_study("base_to_new", published="papers_of_this_test", **kwargs)
        tables = study_tables(study, make_frame(study, lambda cell: dict(accuracy=50.0)))
        return tables[-1]

    table = published(shots=(16,))
    assert table.columns == ["method", "base, published", "base, here", "H, published", "H, here"]
    assert table.texts() == [
        ["CoOp", "82.69", "50.00 ± 0.00", "71.70", "50.00"],
        ["MaPLe", "80.00", "", "", ""],
    ]
    assert table.notes[1] == "The same setting."
    differs = published(data=("cats",), shots=(4,), seeds=(1,)).notes[1]
    assert differs == (
        "What differs: data: cats, dogs there, cats here; shots: 16 there, 4 here; seeds: 3 there,"
        " 1 here."
    )
    varied = published(shots=(16,), vary=dict(length=dict(num_tokens=[2, 4])))
    assert varied.texts()[0] == ["CoOp", "82.69", "", "71.70", ""]  # which length would it be?
    study = make_study("few_shot", published="no.such.module")
    with pytest.raises(InputError, match="study.published must be a module"):
        study_tables(study, make_frame(study, lambda cell: dict(accuracy=50.0)))


def test_published_pairs_stand_beside_our_stacks(monkeypatch):
    study = make_study(
        "stacking",
        ("coco", "aquarium"),
        ("adapter",),
        source="coco",
        pairs=[("adapter", "adapter")],
        published="projects.sdpt_poster.published",
    )
    tables = study_tables(study, make_frame(study, lambda cell: {"coco/bbox_mAP": 0.3}))
    row = tables[-1].rows[0]
    assert (str(row["coco: old, published"]), str(row["coco: old, here"])) == ("56.8", "30.0 ± 0.0")
    assert tables[-1].texts()[1] == ["Adapter", "SDPT, k = 10", "56.8", "", "53.2"] + [
        "",
        "30.7",
    ] + ["", "58.7", ""]
    assert tables[-1].notes[1] == "What differs: host: glip_l there, mini here."
