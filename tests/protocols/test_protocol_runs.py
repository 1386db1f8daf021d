"""Promises of tools/clip_protocol.py: each protocol runs end to end, goes on where it was broken
off, and survives cells that fail.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import multiprocessing
import os
import select
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from mmsdpt.engine import build_runner
from mmsdpt.protocols import execute, workshop
from mmsdpt.protocols.plan import Cell, Training
from mmsdpt.protocols.results import training_folder


def load_tool(repository: Path, name: str):
    spec = importlib.util.spec_from_file_location(Path(name).stem, repository / "tools" / name)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture
def run(repository, tiny_model, miniatures, tmp_path):
    """Runs a protocol on the miniatures; gives the exit status, the rows and the folder."""
    tool = load_tool(repository, "clip_protocol.py")

    def run(*arguments: str):
        status = tool.main(
            [
                *arguments,
                *("--model", str(tiny_model), "--load-from", "none", "--epochs", "1"),
                *("--data-root", str(miniatures), "--work-dir", str(tmp_path)),
            ]
        )
        folder = tmp_path / "tiny_clip"
        with open(folder / f"{arguments[0]}.csv", newline="") as file:
            return status, list(csv.DictReader(file)), folder

    return run


def test_few_shot_trains_and_tests_every_method(run):
    status, rows, folder = run(
        *("few_shot", "--datasets", "clothing", "--shots", "2", "1", "--seeds", "2")
    )
    assert status == 0
    methods = {row["method"] for row in rows}
    assert len(methods) == 11
    assert len(rows) == 2 + 9 * 2  # two need no training
    for row in rows:
        assert float(row["accuracy"]) == 100 * int(row["correct"]) / int(row["total"])
        assert row["total"] == "8"  # the whole test set
        assert row["margin_before"] and row["margin_after"]
    page = (folder / "few_shot.md").read_text()
    assert "MuDPT, one-way transformer" in page and "Failed" not in page
    assert (folder / "few_shot_clothing.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "few_shot_average.png").exists()  # of one dataset


def test_alignment_before_is_that_of_the_model_without_tuners(run):
    _, rows, _ = run(
        *("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1"),
        *("--methods", "vpt", "linear_probe"),
    )
    zero_shot, vpt, probe = (
        next(row for row in rows if row["method"] == name)
        for name in ("zero_shot", "vpt", "linear_probe")
    )
    assert vpt["gap_before"] == zero_shot["gap_after"] == zero_shot["gap_before"]
    assert vpt["gap_after"] != vpt["gap_before"]
    assert probe["margin_after"] == probe["margin_before"]  # it leaves the features alone


def test_base_to_new_tests_both_halves_and_leaves_out_what_cannot_name_classes(run):
    status, rows, folder = run(
        *("base_to_new", "--datasets", "clothing", "eurosat", "--shots", "2", "--seeds", "1"),
        *("--methods", "zero_shot", "linear_probe", "mudpt"),
    )
    assert status == 0
    assert {row["method"] for row in rows} == {"zero_shot", "mudpt"}
    assert {(row["dataset"], row["classes"]) for row in rows} == {
        (dataset, half) for dataset in ("clothing", "eurosat") for half in ("base", "new")
    }
    assert all(row["num_classes"] == "2" for row in rows)
    assert {row["trained_classes"] for row in rows} == {"", "base"}
    page = (folder / "base_to_new.md").read_text()
    assert "Left out: Linear probe" in page
    assert "78.55" in page  # the published H of MaPLe
    trained = [path for path in folder.rglob("tuner.safetensors")]
    assert len(trained) == 2  # one for both halves of a dataset


def test_domain_generalisation_trains_once_and_tests_all_variants(run):
    status, rows, folder = run("domain_generalisation", "--seeds", "1", "--methods", "coop")
    assert status == 0
    tested = [row["dataset"] for row in rows if row["method"] == "coop"]
    assert tested == [
        "imagenet",
        "imagenetv2",
        "imagenet-sketch",
        "imagenet-adversarial",
        "imagenet-rendition",
    ]
    assert len(list(folder.rglob("tuner.safetensors"))) == 1


def test_protocols_share_trainings(run, monkeypatch):
    arguments = ("--seeds", "1", "--shots", "2", "--methods", "vpt")
    run("few_shot", "--datasets", "imagenet", *arguments)
    monkeypatch.setattr(workshop, "train", lambda *_: pytest.fail("it was trained again"))
    status, rows, _ = run("cross_dataset", "--datasets", "eurosat", *arguments)
    assert status == 0
    assert [row["dataset"] for row in rows] == ["imagenet", "eurosat"] * 2


def test_a_finished_cell_is_never_run_again(run, monkeypatch):
    arguments = ("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1", "2")
    _, first, folder = run(*arguments, "--methods", "mudpt")
    with monkeypatch.context() as patch:
        for name in ("train", "fit", "evaluate_host", "build_host"):
            patch.setattr(workshop, name, lambda *_: pytest.fail("it was computed again"))
        status, again, _ = run(*arguments, "--methods", "mudpt")
    assert status == 0
    assert again == first
    calls = []
    train = workshop.train
    monkeypatch.setattr(workshop, "train", lambda *args: calls.append(1) or train(*args))
    run(*arguments, "--methods", "mudpt", "--redo")
    assert len(calls) == 2


def test_other_settings_are_other_results(run, monkeypatch):
    arguments = ("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1")
    run(*arguments, "--methods", "vpt")
    calls = []
    train = workshop.train
    monkeypatch.setattr(workshop, "train", lambda *args: calls.append(1) or train(*args))
    run(*arguments, "--methods", "vpt", "--cfg-options", "optim_wrapper.optimizer.lr=0.5")
    assert len(calls) == 1


def test_an_interrupted_run_goes_on_where_it_was(run, monkeypatch):
    arguments = ("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1", "2", "3")
    train = workshop.train
    trained = []

    def interrupted(cfg, folder, shelf):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(folder.name)
        return train(cfg, folder, shelf)

    monkeypatch.setattr(workshop, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*arguments, "--methods", "vpt")
    monkeypatch.setattr(
        workshop, "train", lambda *args: trained.append(args[1].name) or train(*args)
    )
    status, rows, _ = run(*arguments, "--methods", "vpt")
    assert status == 0
    assert trained == [f"1_shots_seed_{seed}" for seed in (1, 2, 3)]
    assert all(row["accuracy"] for row in rows)


def test_a_loaded_tuner_scores_as_the_one_that_was_just_trained(run):
    arguments = ("few_shot", "--datasets", "clothing", "--shots", "2", "--seeds", "1")
    _, first, folder = run(*arguments, "--methods", "mudpt")
    (result,) = folder.glob("mudpt/clothing/2_shots_seed_1/on_*.json")
    result.unlink()
    _, again, _ = run(*arguments, "--methods", "mudpt")
    assert again[-1]["gap_after"] == first[-1]["gap_after"]
    assert again[-1]["train_seconds"] == first[-1]["train_seconds"]


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(run, tmp_path, repository):
    method = tmp_path / "broken.py"
    method.write_text(
        f"_base_ = {str(repository / 'configs/clip_baselines/vpt_vit_b16.py')!r}\n"
        "model = dict(tuner=dict(num_tokens=-1))\n"
    )
    arguments = ("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1", "--methods")
    status, rows, folder = run(*arguments, str(method), "vpt")
    assert status == 1
    errors = {row["method"]: row["error"] for row in rows}
    assert "num_image_tokens" in errors["broken"] or "num_tokens" in errors["broken"]
    assert "\n" not in errors["broken"]
    assert errors["vpt"] == errors["zero_shot"] == ""
    failed = training_folder(folder, Training("broken", "clothing", "all", 1, 1))
    assert "Traceback" in (failed / "error.txt").read_text()
    page = (folder / "few_shot.md").read_text()
    assert errors["broken"] in page
    # Mended, it is computed, and the traceback is gone.
    method.write_text(method.read_text().replace("-1", "1"))
    status, rows, _ = run(*arguments, str(method), "vpt")
    assert status == 0
    assert not (failed / "error.txt").exists()


def test_data_that_is_missing_is_one_sentence_in_the_row(run):
    status, rows, _ = run(
        *("few_shot", "--datasets", "dtd", "clothing", "--shots", "1", "--seeds", "1"),
        *("--methods", "zero_shot"),
    )
    assert status == 1
    missing, found = rows
    assert "dtd" in missing["error"] and "split_zhou_DescribableTextures.json" in missing["error"]
    assert found["accuracy"]


def test_the_linear_probe_is_fitted_to_features_of_all_its_classes(run):
    _, rows, folder = run(
        *("few_shot", "--datasets", "clothing", "--shots", "3", "--seeds", "1"),
        *("--methods", "linear_probe"),
    )
    config = json.loads(next(folder.glob("linear_probe/**/config.json")).read_text())
    assert config["model"]["tuners"]["default"]["num_classes"] == 4
    # The miniatures' classes have colours of their own, so even random features tell them apart.
    assert float(rows[-1]["accuracy"]) > 60
    assert rows[-1]["epochs"] == ""


def test_a_cell_learns_what_its_config_learns_by_itself(run):
    _, _, folder = run(
        *("few_shot", "--datasets", "clothing", "--shots", "2", "--seeds", "3"),
        *("--methods", "coop"),
    )
    cfg = Config.fromfile(folder / "coop" / "clothing" / "2_shots_seed_3" / "config.json")
    assert cfg.runner_type == "mmsdpt.TunerRunner"
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.train_dataloader.dataset.shots == 2
    assert cfg.train_dataloader.dataset.image_size == cfg.model.vision_backbone.img_size
    assert cfg.randomness.seed == cfg.train_dataloader.dataset.seed == 3
    cfg.work_dir = str(folder / "again")
    build_runner(cfg).train()
    cell, again = (
        load_file(path / "tuner.safetensors")
        for path in (folder / "coop" / "clothing" / "2_shots_seed_3", folder / "again")
    )
    assert cell.keys() == again.keys()
    assert all(torch.equal(cell[name], again[name]) for name in cell)


@pytest.mark.slow
def test_two_processes_give_the_same_results_as_one(run, tmp_path):
    arguments = (
        *("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1", "2"),
        *("--methods", "vpt", "coop"),
    )
    _, one, _ = run(*arguments)
    status, two, _ = run(*arguments, "--redo", "--jobs", "2", "--threads", "1")
    assert status == 0
    names = ("method", "seed", "accuracy", "margin_after", "gap_after")
    assert [[row[n] for n in names] for row in two] == [[row[n] for n in names] for row in one]


class _Dying(workshop.Workshop):
    def compute(self, training, cells):
        if training.method == "coop":
            os._exit(9)
        yield from super().compute(training, cells)


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_cells_only(run, monkeypatch):
    monkeypatch.setattr(execute, "Workshop", _Dying)
    context = execute.multiprocessing.get_context("fork")
    monkeypatch.setattr(execute.multiprocessing, "get_context", lambda kind: context)
    status, rows, _ = run(
        *("few_shot", "--datasets", "clothing", "--shots", "1", "--seeds", "1"),
        *("--methods", "coop", "vpt", "--jobs", "2", "--threads", "1"),
    )
    errors = {row["method"]: row["error"] for row in rows}
    assert status == 1
    assert "exit status 9" in errors["coop"]
    assert errors["vpt"] == errors["zero_shot"] == ""


class _Slow:
    def __init__(self, setup, file: int, redo: bool) -> None:
        self.file = file

    def compute(self, training, cells):
        os.write(self.file, b"w")
        time.sleep(120)


def test_processes_end_when_the_one_that_started_them_is_killed(monkeypatch):
    monkeypatch.setattr(execute, "Workshop", _Slow)
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(execute.multiprocessing, "get_context", lambda kind: context)
    read, write = os.pipe()  # at its end when no process can write to it any more
    cell = Cell(Training("coop", "clothing", "all", 1, 1), "clothing")
    starter = context.Process(
        target=execute.run_cells, args=([cell], None, write), kwargs=dict(jobs=2, threads=1)
    )
    starter.start()
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        assert select.select([pipe], [], [], 60)[0] and pipe.read(1) == b"w", "none began"
        starter.kill()
        starter.join()
        assert select.select([pipe], [], [], 30)[0], "a process went on for 30 seconds"
        assert pipe.read(1) == b""
