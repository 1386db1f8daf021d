"""What a run says and keeps when it diverges, has no score, resumes otherwise, or is not alone."""

import copy
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.hooks import Hook

from mmsdpt.engine import build_runner
from mmsdpt.engine.optim import CPUAmpOptimWrapper
from mmsdpt.engine.state import trained_state
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.atomic import lock_folder
from mmsdpt.utils.errors import DivergedError, InputError


class Poison(Hook):
    """Makes the tokens NaN, before or after an iteration."""

    priority = "VERY_HIGH"

    def __init__(self, before=None, after=None):
        self.before, self.after = before, after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.before:
            self.poison(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.after:
            self.poison(runner)

    def poison(self, runner):
        with torch.no_grad():
            runner.host.tuners.default.tokens.weight[0, 0, 0] = float("nan")


def log_of(runner):
    return Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


@pytest.mark.parametrize("when", [dict(before=3), dict(after=3)], ids=["loss", "tokens"])
def test_a_diverged_run_stops_with_one_sentence_and_keeps_its_good_files(tiny_cfg, when):
    """Two steps an epoch: after step 3 the second epoch's files are due."""
    tiny_cfg.val_cfg = tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = None
    runner = build_runner(tiny_cfg)
    runner.register_hook(Poison(**when))
    with pytest.raises(DivergedError) as caught:
        runner.train()
    message = str(caught.value)
    assert "\n" not in message and "iteration 4 (epoch 2)" in message
    assert f"last good checkpoint is {tiny_cfg.work_dir}/epoch_1.pth" in message
    assert not Path(tiny_cfg.work_dir, "epoch_2.pth").exists()
    assert read_tuner_header(f"{tiny_cfg.work_dir}/tuner.safetensors")["extra"]["epoch"] == 1


def test_a_run_that_diverges_at_once_does_not_call_an_earlier_ones_checkpoint_its_own(tiny_cfg):
    tiny_cfg.val_cfg = tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = None
    tiny_cfg.train_cfg.max_epochs = 1
    build_runner(tiny_cfg).train()
    runner = build_runner(tiny_cfg)
    runner.register_hook(Poison(before=0))
    with pytest.raises(DivergedError, match="no checkpoint was written yet"):
        runner.train()


def with_scores(monkeypatch, *scores):
    values = iter(scores)
    monkeypatch.setattr(CocoMetric, "compute_metrics", lambda self, results: next(values))


@pytest.mark.parametrize("nothing", [{"AP": -1.0}, {"AP": np.float32("nan")}, {}])
def test_what_is_no_score_chooses_nothing_and_says_so(tiny_cfg, monkeypatch, nothing):
    with_scores(monkeypatch, nothing, {"AP": 0.1}, nothing)
    tiny_cfg.log_level = "WARNING"
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/AP", rule="greater")
    tiny_cfg.param_scheduler = [
        dict(type="ReduceOnPlateauLR", monitor="coco/AP", rule="greater", patience=0)
    ]
    runner = build_runner(tiny_cfg)
    runner.train()
    assert runner.optim_wrapper.get_lr()["lr"] == [tiny_cfg.optim_wrapper.optimizer.lr]
    assert read_tuner_header(f"{tiny_cfg.work_dir}/best_tuner.safetensors")["extra"]["epoch"] == 2
    # MMEngine says each warning once, and that of empty metrics itself.
    said = "No best model is saved: coco/AP is" if nothing else "`metrics` is an empty dict"
    assert log_of(runner).count(said) == 1


def test_a_best_tuner_of_an_earlier_run_is_not_taken_for_one_of_this_run(tiny_cfg, monkeypatch):
    with_scores(monkeypatch, {"AP": 0.1}, {"AP": -1.0})
    tiny_cfg.train_cfg.max_epochs = 1
    tiny_cfg.log_level = "WARNING"
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/AP", rule="greater")
    said = f"{tiny_cfg.work_dir}/best_tuner.safetensors is of an earlier run"
    for times in (0, 1):
        runner = build_runner(tiny_cfg)
        runner.train()
        assert log_of(runner).count(said) == times


def test_each_of_several_scores_has_its_best_tuner(tiny_cfg, monkeypatch):
    with_scores(monkeypatch, *({"AP": a, "AR": b} for a, b in ((0.1, 0.3), (0.2, 0.2), (0.1, 0.4))))
    tiny_cfg.log_level = "INFO"
    tiny_cfg.default_hooks.checkpoint.update(save_best=["coco/AP", "coco/AR"], rule="greater")
    runner = build_runner(tiny_cfg)
    runner.train()
    assert re.search("coco/AP: 0.1.*coco/AR: 0.4.{0,30}time:", log_of(runner)), "and nothing else"
    best = {
        path.name: read_tuner_header(path)["extra"]["epoch"]
        for path in Path(tiny_cfg.work_dir).glob("best*.safetensors")
    }
    assert best == {"best_coco_AP_tuner.safetensors": 2, "best_coco_AR_tuner.safetensors": 3}


def test_a_score_that_is_not_measured_is_named(tiny_cfg, monkeypatch):
    with_scores(monkeypatch, {"AP": 0.1})
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/bbox_AP", rule="greater")
    with pytest.raises(InputError, match="coco/bbox_AP.*scores are: coco/AP"):
        build_runner(tiny_cfg).train()


def test_validation_images_without_boxes_are_said_at_the_start(tiny_cfg, tiny_folder):
    content = json.loads((tiny_folder / "squares/annotations.json").read_text())
    content["annotations"] = []
    empty = tiny_folder / "squares/empty.json"
    empty.write_text(json.dumps(content))
    tiny_cfg.log_level = "WARNING"
    tiny_cfg.train_cfg.update(max_epochs=1, val_interval=10)
    tiny_cfg.val_dataloader.dataset.ann_file = empty.name
    tiny_cfg.val_evaluator.ann_file = str(empty)
    tiny_cfg.default_hooks.checkpoint.update(save_best="coco/bbox_mAP", rule="greater")
    runner = build_runner(tiny_cfg)
    runner.train()
    assert re.search(r"validation images have no boxes \(.*empty.json\)", log_of(runner))


@pytest.mark.parametrize("by_iteration", [False, True])
def test_a_schedule_that_began_after_the_end_is_there_when_the_run_is_made_longer(
    tiny_cfg, make_tiny_cfg, tmp_path, by_iteration
):
    later = dict(type="LinearLR", start_factor=0.5, begin=1, convert_to_iter_based=by_iteration)
    schedules = [dict(type="ConstantLR", factor=0.1, end=2), later]

    def run(cfg, epochs, resume=False):
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.merge_from_dict(dict(train_cfg=dict(max_epochs=epochs), resume=resume))
        cfg.param_scheduler = copy.deepcopy(schedules)
        runner = build_runner(cfg)
        runner.train()
        return [s.state_dict() for s in runner.param_schedulers], trained_state(runner.host)

    run(tiny_cfg, 1)
    states, weights = run(tiny_cfg, 3, resume=True)
    expected_states, expected = run(make_tiny_cfg(tmp_path / "straight"), 3)
    assert states == expected_states and len(states) == 2
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_settings_that_a_resumed_run_ignores_are_named(tiny_cfg):
    tiny_cfg.val_cfg = tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = None
    tiny_cfg.log_level = "INFO"
    tiny_cfg.train_cfg.max_epochs = 1
    tiny_cfg.param_scheduler = [dict(type="CosineAnnealingLR", T_max="max_epochs")]
    build_runner(tiny_cfg).train()
    tiny_cfg.resume = True
    tiny_cfg.merge_from_dict(
        {
            "train_cfg.max_epochs": 2,
            "train_dataloader.batch_size": 4,
            "optim_wrapper.optimizer.lr": 5.0,
        }
    )
    runner = build_runner(tiny_cfg)
    runner.train()
    assert runner.epoch == 2 and runner.iter == 3  # two of two images, one of four
    lines = [line for line in log_of(runner).splitlines() if "optimizer.lr=5.0" in line]
    assert len(lines) == 1 and "the run has 0.01" in lines[0] and "max_epochs" not in lines[0]
    assert "param_scheduler.0.T_max=2 (the run has 1)" in lines[0]
    assert (
        f"--work-dir ANOTHER_FOLDER --cfg-options tuner_files.default={runner.work_dir}/tuner.saf"
        in lines[0]
    )
    assert "train_cfg.max_epochs=2 (the run has 1)" in log_of(runner)
    # Two iterations were done, as many as two epochs of four images have, and one of the epochs.
    assert "already finished" not in log_of(runner)
    assert max(group["initial_lr"] for group in runner.optim_wrapper.param_groups) == 0.01
    again = build_runner(tiny_cfg)
    again.train()
    assert "optimizer.lr=5.0 (the run has 0.01)" in log_of(again)  # not what was ignored before
    assert "already finished" in log_of(again)
    assert "has files of an earlier run" not in log_of(again)
    tiny_cfg.optim_wrapper.optimizer = dict(type="SGD", lr=0.1)
    with pytest.raises(
        InputError, match="epoch_2.pth has the state of AdamW, .* is SGD: .*start a"
    ):
        build_runner(tiny_cfg).train()


def test_settings_that_a_resumed_run_takes_from_the_config_are_not_called_ignored(tiny_cfg):
    tiny_cfg.val_cfg = tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = None
    tiny_cfg.log_level = "INFO"
    tiny_cfg.param_scheduler = []
    tiny_cfg.train_cfg.max_epochs = 1
    build_runner(tiny_cfg).train()
    tiny_cfg.resume, tiny_cfg.train_cfg.max_epochs = True, 2
    tiny_cfg.optim_wrapper.update(
        type="CPUAmpOptimWrapper", accumulative_counts=2, clip_grad=dict(max_norm=0.5)
    )
    runner = build_runner(tiny_cfg)
    runner.train()
    wrapper = runner.optim_wrapper
    assert isinstance(wrapper, CPUAmpOptimWrapper) and wrapper._accumulative_counts == 2
    assert wrapper.clip_grad_kwargs == dict(max_norm=0.5)
    log = log_of(runner)
    assert "changed settings: optim_wrapper.accumulative_counts=2 (the run has None)" in log
    assert "optim_wrapper.clip_grad.max_norm=0.5 (the run has 1.0)" in log
    assert "optim_wrapper.type='CPUAmpOptimWrapper' (the run has 'OptimWrapper')" in log
    assert "ignored" not in log


def test_a_rate_that_a_resumed_run_does_not_scale_is_named(tiny_cfg):
    tiny_cfg.log_level = "WARNING"
    tiny_cfg.auto_scale_lr = dict(enable=True, base_batch_size=2)
    tiny_cfg.param_scheduler = [dict(type="ConstantLR", factor=0.5, begin=0, end=9)]
    tiny_cfg.train_cfg.max_epochs = 1
    build_runner(tiny_cfg).train()
    tiny_cfg.resume, tiny_cfg.train_cfg.max_epochs = True, 2
    tiny_cfg.train_dataloader.batch_size = 4
    runner = build_runner(tiny_cfg)
    runner.train()
    assert "ignored: lr by auto_scale_lr=0.02 (the run has 0.01)" in log_of(runner)
    assert runner.optim_wrapper.param_groups[0]["initial_lr"] == 0.01


def test_a_run_over_an_earlier_one_and_a_copied_folder_say_so_and_stay_apart(
    tiny_cfg, make_tiny_cfg, tmp_path
):
    tiny_cfg.val_cfg = tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = None
    tiny_cfg.train_cfg.max_epochs = 1
    tiny_cfg.log_level = "WARNING"
    build_runner(tiny_cfg).train()
    copied = make_tiny_cfg(tmp_path / "copy")
    shutil.copytree(tiny_cfg.work_dir, copied.work_dir)
    own = build_runner(copied)._latest_checkpoint()
    assert own == f"{copied.work_dir}/epoch_1.pth", "the pointer still names the first folder"
    runner = build_runner(tiny_cfg)
    runner.train()
    assert "has files of an earlier run, which this run replaces" in log_of(runner)


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    """The lock of a killed process locks nothing, though a worker of it lives on."""
    ready, worker = tmp_path / "ready", tmp_path / "worker"
    child = os.fork()
    if child == 0:
        with lock_folder(tmp_path):
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(20)
                os._exit(0)
            worker.write_text(str(grandchild))
            ready.touch()
            time.sleep(20)
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    try:
        with pytest.raises(InputError, match=rf"process {child}.*--work-dir"):
            with lock_folder(tmp_path):
                pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        with lock_folder(tmp_path):
            assert (tmp_path / "run.lock").read_text() == str(os.getpid())
    finally:
        os.kill(int(worker.read_text()), signal.SIGKILL)
