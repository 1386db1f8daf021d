"""The benchmark's table: rows, kept measurements, ratios and targets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmsdpt.utils.errors import InputError
from projects.benchmark import measurements, table
from projects.benchmark.rows import Row, Run, all_rows, growth, methods, ratio, select

MINI = Run("configs/mini/sdpt_mini_thermal.py", size=64, classes=3)


def result(seconds, macs=None):
    return dict(train_cpu_s=seconds, train_bytes=2e9, train_macs=macs)


@pytest.mark.parametrize("small", [False, True])
def test_rows_have_names_of_their_own_and_configs_that_exist(repository, small):
    rows = all_rows(small)
    assert len({row.name for row in rows}) == len(rows)
    for run in {run for row in rows for run in row.runs.values()}:
        assert (repository / run.config).is_file()
        assert callable(getattr(measurements, run.measure))
        assert run.form != "plain" or not run.amp


def test_every_method_of_the_poster_has_a_row(repository):
    found = {path.name for path in (repository / "configs/baselines").glob("*_glip_l_coco.py")}
    assert {f"{name}_glip_l_coco.py" for name in methods()} == found


def test_rows_are_chosen_by_pattern():
    rows = all_rows()
    assert [row.name for row in select(rows, ["^batch_"])] == ["batch_2", "batch_4", "batch_8"]
    assert select(rows, None) == rows
    with pytest.raises(InputError, match="'nothing' matches no row"):
        select(rows, ["batch", "nothing"])


def test_the_table_shows_ratio_target_limit_and_share(tmp_path):
    kept = table.Measurements(tmp_path)
    row = Row("a", "b", dict(ours=MINI, plain=MINI.plain()), ratio("train_cpu_s"), target=4.0)
    for run, seconds in ((MINI, 2.0), (MINI.plain(), 10.0)):
        content = dict(run=run.settings(), result=result(seconds, macs=10**9))
        Path(kept._path(run)).write_text(json.dumps(content))
    rates = {False: 1e9, True: 2e9}
    shown = table._shown(row, {name: kept.get(run) for name, run in row.runs.items()}, rates)
    assert shown == ["a", "5", "≥ 4", "yes", "2.00", "1.00", "50 %", "2.00", "b"]
    half = replace(row, runs=dict(ours=replace(MINI, amp=True), plain=MINI.plain()))
    found = dict(ours=result(2.0, macs=10**9), plain=result(10.0))
    assert table._shown(half, found, rates)[5:7] == ["0.50", "25 %"], "at bfloat16's rate"
    without = Row("c", "d", dict(ours=Run("other.py")), ratio("train_cpu_s"))
    assert table.make_table([row, without], kept, rates).row_count == 1


def test_a_measurement_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    kept = table.Measurements(tmp_path)
    calls = []
    monkeypatch.setattr(table, "_child", lambda run, bert, path: Path(path).write_text("[1]"))
    kept.add(MINI, "")
    assert kept.get(MINI) == [1]
    monkeypatch.setattr(table, "_child", lambda *args: calls.append(args))
    kept.add(MINI, "")
    assert not calls
    monkeypatch.setattr(table, "_child", lambda *args: 1 / 0)
    with pytest.raises(RuntimeError, match="exit code 1"):
        kept.add(MINI.plain(), "")


def test_a_step_is_measured_and_its_multiply_adds_are_counted(repository, monkeypatch):
    monkeypatch.chdir(repository)
    ours, plain = (measurements.step(run, "") for run in (MINI, MINI.plain()))
    assert ours["losses"][0] == pytest.approx(plain["losses"][0], rel=1e-4)
    assert len(ours["losses"]) == 2 and len(plain["losses"]) == 1
    assert ours["train_macs"] > 10**6 and "train_macs" not in plain
    assert table.matrix_rate(size=64) > 0


def test_what_is_computed_once_and_what_a_tuner_costs_are_measured(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert measurements.inverse_projections(MINI, "")["seconds"] > 0
    found = measurements.tuned_and_untuned(MINI, "")
    assert 0.2 < found["ratio"] < 5 and found["test_cpu_s"] > 0


def test_growth_is_drawn_from_what_is_there(tmp_path):
    kept = table.Measurements(tmp_path / "results")
    with pytest.raises(InputError, match="--rows batch_ size_"):
        table.plot_growth(kept, tmp_path / "growth.png")
    for runs in growth().values():
        for x, run in runs.items():
            content = dict(run=run.settings(), result=result(0.1 * x**0.5))
            kept._path(run).write_text(json.dumps(content))
    table.plot_growth(kept, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
