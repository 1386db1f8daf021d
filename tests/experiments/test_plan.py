"""What a study would compute and take, and what its tool says."""

from __future__ import annotations

import argparse
import json
import os
import signal

import pytest
from rich.console import Console

from mmsdpt.experiments import worker
from mmsdpt.experiments.images import DatasetCache
from mmsdpt.experiments.jobs import Prepared, prepare
from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.measure import _Stopwatch
from mmsdpt.experiments.plan import (
    MEASURED_FILE,
    measure_all,
    measure_key,
    read_measured,
    rows,
    tell_problems,
    training_seconds,
)
from mmsdpt.experiments.running import run
from mmsdpt.utils.errors import InputError


def test_the_plan_knows_what_is_open_and_what_it_takes(write_study, tmp_path):
    study = load_study(write_study(names=["linear_probe", "coop", "vpt"], shots=[1, 2]))
    root = tmp_path / "work"
    root.mkdir()
    cache = DatasetCache()
    prepared = prepare(study, root, cache)
    assert {row.state for row in rows(study, prepared, root)} == {"open"}
    assert all(row.seconds is None for row in rows(study, prepared, root))
    assert measure_all(prepared, root, cache) == []
    planned = rows(study, prepared, root)
    assert all(row.seconds > 0 and row.memory > 1e7 for row in planned)
    run(study, root, threads=1, only=["coop"])
    states = {row.cell: row.state for row in rows(study, prepared, root)}
    assert {s for name, s in states.items() if "coop" in name} == {"finished"}
    assert {s for name, s in states.items() if "coop" not in name} == {"open"}


@pytest.mark.parametrize(
    "feature_cache, computed",
    [(None, 0), ({}, 1), (dict(views=3), 3), (dict(views=9), 4), (dict(views="drawn"), 2)],
)
def test_the_plan_counts_how_often_features_are_computed(
    feature_cache, computed, write_study, tmp_path
):
    cell = dict(feature_cache=feature_cache)
    study = load_study(write_study(names=["coop"], cell=cell, shots=[2], epochs=4))
    (job,) = (each for each in prepare(study, tmp_path, DatasetCache()).jobs if each.images)
    cost = dict(load=1.0, step=10.0, keep=100.0, test=0.0, features=0.0)
    assert training_seconds(job, cost, study) == 8 * 1 + job.steps * 10 + 8 * computed * 100
    del cost["keep"]  # measured by version 0.2
    assert training_seconds(job, cost, study) == 8 * 1 + job.steps * 10


def test_a_training_without_steps_takes_the_features_of_its_own_images(write_study, tmp_path):
    study = load_study(write_study(names=["linear_probe"], shots=[1, 2]))
    jobs = [each for each in prepare(study, tmp_path, DatasetCache()).jobs if each.images]
    cost = dict(load=0.0, step=0.0, keep=0.0, test=1.0, features=10.0)
    assert [training_seconds(job, cost, study) for job in jobs] == [40.0, 80.0]


def test_a_measurement_is_of_what_decides_the_cost(write_study, tmp_path):
    def keys(options):
        study = load_study(write_study(seeds=[1, 2], shots=[1, 2]), options)
        jobs = prepare(study, tmp_path, DatasetCache()).jobs
        return {measure_key(job) for job in jobs if job.images}

    (plain,) = keys({})
    assert keys({"study.epochs": 7, "cell.optim_wrapper.optimizer.lr": 0.5}) == {plain}
    for options in (
        {"cell.feature_cache.views": 8},
        {"cell.optim_wrapper.type": "CPUAmpOptimWrapper"},
        {"cell.train_dataloader.batch_size": 3},
        {"study.image_size": 48},
    ):
        (key,) = keys(options)
        assert key != plain, options


def test_steps_with_kept_features_are_measured_apart_from_the_first_ones():
    clock = _Stopwatch(keeps=True)
    clock.seconds = [9.0, 8.0, 4.0, 3.0, 3.0, 1.0, 2.0, 9.0]
    assert clock.seconds_per_step() == (2.0, 4.0)
    clock = _Stopwatch(keeps=False)
    clock.seconds = [9.0, 8.0, 4.0, 3.0, 2.0]
    assert clock.seconds_per_step()[0] == 3.0
    clock.seconds = [9.0]  # the whole training
    assert clock.seconds_per_step() == (9.0, 9.0)


def test_the_plan_measures_a_training_that_keeps_features(write_study, tmp_path):
    cell = dict(feature_cache=dict(views=4))
    study = load_study(write_study(names=["coop"], cell=cell, shots=[2], epochs=4))
    cache = DatasetCache()
    prepared = prepare(study, tmp_path, cache)
    assert measure_all(prepared, tmp_path, cache) == []
    job = next(each for each in prepared.jobs if each.images)
    assert job.config["feature_cache"]["views"] == 4  # the study's own stays what it is
    assert all(row.seconds > 0 for row in rows(study, prepared, tmp_path))


def test_a_measurement_that_is_ended_leaves_nothing_behind(write_study, tmp_path, monkeypatch):
    from mmsdpt.experiments import commands, measure

    monkeypatch.setattr(measure, "_measure", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("it is not handled"))
    common = dict(study=str(write_study()), work_dir=str(tmp_path / "work"), cfg_options=None)
    try:
        with pytest.raises(SystemExit):
            commands.plan(argparse.Namespace(**common, only=[], threads=1, measure=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list((tmp_path / "work").iterdir()) == []


def test_tests_on_other_data_are_measured_by_themselves(write_study, tmp_path):
    study = load_study(write_study(protocol="transfer", source="clip_eurosat", names=["coop"]))
    cache = DatasetCache()
    prepared = prepare(study, tmp_path, cache)
    assert measure_all(prepared, tmp_path, cache) == []
    costs = read_measured(tmp_path).values()
    (cost,) = (each for each in costs if each["step"])
    assert cost["test on clothing"] > 0 and "test on eurosat" not in cost
    for key in ("test on clothing", "test"):  # a file in which one counts that cannot be missed
        changed = {name: value | {key: 1e6} for name, value in read_measured(tmp_path).items()}
        (tmp_path / MEASURED_FILE).write_text(json.dumps(changed))
    found = {row.cell: row.seconds for row in rows(study, prepared, tmp_path)}
    assert all(each > 1e6 for name, each in found.items() if "coop" in name)


def test_a_broken_file_of_measurements_is_named(tmp_path):
    (tmp_path / MEASURED_FILE).write_text('{"a": ')
    with pytest.raises(InputError, match=rf"{MEASURED_FILE}: this is not a JSON file"):
        read_measured(tmp_path)


def test_brackets_in_what_is_missing_are_shown(capsys):
    prepared = Prepared(missing={"data not found: data [v2] :cat:": ["one", "two"]})
    assert tell_problems(prepared, Console(width=20))
    expected = "missing, for 2 cells: data not found: data [v2] :cat:\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_cannot_be_are_refused(write_study, tmp_path, command, threads):
    from mmsdpt.experiments import commands

    args = argparse.Namespace(study=str(write_study()), work_dir=str(tmp_path), cfg_options=None)
    args.__dict__.update(only=[], threads=threads, measure=False, jobs=1)
    with pytest.raises(InputError, match=f"--threads must be a positive integer, got {threads}"):
        getattr(commands, command)(args)


def test_the_tool_says_what_failed_and_what_is_missing(write_study, tmp_path, capsys):
    from mmsdpt.experiments import commands

    def call(command: str, path, **more) -> tuple[int, str]:
        common = dict(study=str(path), work_dir=str(tmp_path / "work [v2]"), only=[], threads=1)
        settings = dict(jobs=1, gpus=None, address=None, redo=False, measure=False, format=["md"])
        args = argparse.Namespace(**common, **settings, cfg_options={"study.seeds": [2]})
        status = getattr(commands, command)(args)
        return status, " ".join(capsys.readouterr().out.split())

    path = write_study(names=["vpt"], data=["clip_clothing", "clip_dtd"])
    status, text = call("plan", path)
    assert status == 1 and "4 cells: 2 open, 2 missing" in text
    assert "missing, for 2 cells: data not found:" in text and "dtd" in text
    status, text = call("run", path)
    assert status == 1 and "work [v2]/tiny.jsonl" in text
    assert "Wrote" in (text := call("table", path)[1]) and "work [v2]/tiny.md" in text
    status, text = call("plan", path)
    assert "2 finished, 2 missing" in text
    assert "tiny_clip/vpt/clothing/1_shots_seed_2/on_clothing" in text
    assert call("run", write_study(names=["vpt"]))[0] == 0


def test_the_tool_goes_on_after_a_test_without_a_score(write_study, tmp_path, monkeypatch):
    from mmsdpt.experiments import commands

    monkeypatch.setattr(worker, "evaluate", lambda *_: {})
    common = dict(study=str(write_study(names=["vpt"])), work_dir=str(tmp_path), cfg_options=None)
    alone = dict(jobs=1, threads=1, gpus=None, address=None, only=[], redo=False)
    assert commands.run(argparse.Namespace(**common, **alone)) == 0
    assert commands.table(argparse.Namespace(**common, format=["md"])) == 0
    assert "Of 2 cells: 2 without a score" in (tmp_path / "tiny.md").read_text()
