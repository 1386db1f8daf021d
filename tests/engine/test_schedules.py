"""Promises of schedules: they follow the number of epochs of the run, wherever it is set."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop
from torch import nn

from mmsdpt.engine import TunerRunner
from mmsdpt.engine.schedules import follow_max_epochs
from mmsdpt.utils.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STEPS = 4  # of an epoch


class Loop(BaseLoop):
    """The length of a run, without one."""

    def __init__(self, max_epochs: int) -> None:
        super().__init__(None, [None] * STEPS)
        self.max_epochs, self.max_iters = max_epochs, max_epochs * STEPS

    def run(self) -> None: ...


def rates(name: str, epochs: int) -> list[float]:
    """The rate of every step, when ``train_cfg.max_epochs`` is set after the config was read."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict({"train_cfg.max_epochs": epochs})
    lr = cfg.optim_wrapper.optimizer.lr
    runner = object.__new__(TunerRunner)
    runner._train_loop = Loop(cfg.train_cfg.max_epochs)
    runner.logger = logging.getLogger("schedules")
    runner.optim_wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr))
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    found = []
    for _ in range(epochs):
        for _ in range(STEPS):
            found.append(runner.optim_wrapper.param_groups[0]["lr"])
            runner.optim_wrapper.step()
            for scheduler in schedulers:  # as MMEngine's ParamSchedulerHook
                scheduler.by_epoch or scheduler.step()
        for scheduler in schedulers:
            scheduler.by_epoch and scheduler.step()
    return found


@pytest.mark.parametrize("epochs", [1, 2, 30])
@pytest.mark.parametrize("name", ["mini/sdpt_mini_thermal.py", "mini/sdpt_mini_new_names.py"])
def test_the_cosine_of_mini_glip_ends_with_the_run(name, epochs):
    steps = epochs * STEPS
    wanted = [0.3 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert rates(name, epochs) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "lr", "epochs"),
    [
        *(("mudpt/mudpt_vit_b16.py", 0.0025, epochs) for epochs in (1, 2, 10, 30)),
        *(("clip_baselines/coop_vit_b16.py", 0.002, epochs) for epochs in (1, 200)),
    ],
)
def test_the_cosine_of_clip_ends_with_the_run(name, lr, epochs):
    """Epoch 0 at 1e-5, then lr (1 + cos(pi (e - 1) / E)) / 2."""
    wanted = [1e-5]
    wanted += [lr * (1 + math.cos(math.pi * (e - 1) / epochs)) / 2 for e in range(1, epochs)]
    assert rates(name, epochs)[::STEPS] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("epochs", "tenth", "hundredth"), [(1, 1, 1), (2, 1, 2), (12, 8, 11), (30, 20, 28)]
)
def test_the_steps_of_glip_keep_their_share_of_the_run(epochs, tenth, hundredth):
    cfg = Config.fromfile(CONFIGS / "sdpt/glip_l_coco_k10.py")
    _, steps = cfg.param_scheduler
    assert follow_max_epochs(steps, epochs)["milestones"] == [tenth, hundredth]


def test_numbers_and_other_settings_stay():
    scheduler = dict(type="MultiStepLR", milestones=[3, "1/2 max_epochs"], gamma=0.1, by_epoch=True)
    assert follow_max_epochs(scheduler, 10) == dict(scheduler, milestones=[3, 5])
    assert scheduler["milestones"] == [3, "1/2 max_epochs"]
    assert follow_max_epochs(dict(end="1/10 max_epochs"), 1) == dict(end=1)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (dict(T_max="max_epochs / 2"), 'must be "max_epochs" or a fraction, as "2/3 max_epochs"'),
        (dict(end="1/0 max_epochs"), "must be"),
        (dict(type="LinearLR", by_epoch=False, end="max_epochs"), "LinearLR that counts iteration"),
    ],
)
def test_a_word_that_means_nothing_is_refused(scheduler, message):
    with pytest.raises(InputError, match=message):
        follow_max_epochs(scheduler, 10)
