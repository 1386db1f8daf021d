"""Promises of the configs for ODinW and data of one's own: GLIP's schedule, as it is written and in
real runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import HOOKS, METRICS, MODELS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from safetensors.torch import load_file, save_file

from mmsdpt.datasets import ODINW_SCHEDULE
from mmsdpt.engine import build_runner
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.cli import replace_data_root
from tests.config_files import FOLDER, config, innermost, loaded
from tests.datasets.converter_sources import coco, picture

ODINW = ("glip_l_own_data", "glip_l_odinw_raccoon", "glip_l_odinw_packages", "glip_l_aquarium")


@pytest.mark.parametrize("few_shot", [False, True], ids=["full", "few_shot"])
@pytest.mark.parametrize("dataset", ODINW)
def test_odinw_configs_keep_glips_schedule(dataset, few_shot):
    cfg = config(f"sdpt/{dataset}_k10{'_few_shot' if few_shot else ''}.py")
    data = cfg.train_dataloader.dataset
    assert data.type == "mmsdpt.FewShotDataset"
    assert (data.shots, data.seed) == ((10 if few_shot else 0), 3)
    assert (cfg.train_cfg.max_epochs, data.copies) == ODINW_SCHEDULE[data.shots]
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.train_cfg.val_interval == 1

    (plateau,), (stop,) = cfg.param_scheduler, cfg.custom_hooks
    best = cfg.default_hooks.checkpoint.save_best
    assert plateau.type == "ReduceOnPlateauLR" and stop.type == "mmsdpt.EarlyStoppingHook"
    assert plateau.monitor == stop.monitor == best == "coco/bbox_mAP"
    assert plateau.rule == cfg.default_hooks.checkpoint.rule == "greater"
    assert stop.get("rule", "greater") == "greater"
    assert plateau.factor == 0.1
    assert (plateau.patience, stop.patience) == ((3, 8) if few_shot else (2, 4))


def test_another_number_of_shots_is_three_options():
    """Those that the comment in the config spells out."""
    name = "sdpt/glip_l_own_data_k10_few_shot.py"
    words = (FOLDER / name).read_text().split("--cfg-options", 1)[1].split()
    options = dict(word.split("=") for word in words if word.startswith("train_dataloader."))
    assert len(options) == 3
    cfg = loaded(name, **{key: int(value) for key, value in options.items()})
    data = cfg.train_dataloader.dataset
    assert (data.shots, data.seed) == (3, 30)
    assert (cfg.train_cfg.max_epochs, data.copies) == ODINW_SCHEDULE[3]


@pytest.mark.parametrize(
    "name",
    [
        "mini/sdpt_mini_packages.py",
        "mini/sdpt_mini_new_names.py",
        "sdpt/glip_l_odinw_packages_k10.py",
        "sdpt/glip_l_aquarium_k10.py",
    ],
)
def test_one_dataset_more_is_at_most_twelve_lines(name):
    lines = (FOLDER / name).read_text().splitlines()
    assert sum(1 for line in lines if line.strip() and not line.startswith("#")) <= 12


# ------------------------------------------------------------------ the schedule in real runs


@METRICS.register_module()
class ScriptedAP(BaseMetric):
    """An AP that is known beforehand: that of the epoch in the script."""

    default_prefix = "coco"

    def __init__(self, script: list[float]) -> None:
        super().__init__()
        self.script = script

    def process(self, data_batch, data_samples) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results) -> dict[str, float]:
        return dict(bbox_mAP=self.script[MessageHub.get_current_instance().get_info("epoch")])


@HOOKS.register_module()
class RatesHook(Hook):
    """Keeps the learning rate of every epoch, and breaks the run off in epoch ``dies_in``."""

    priority = "LOWEST"

    def __init__(self, dies_in: int | None = None) -> None:
        self.dies_in, self.rates = dies_in, {}

    def before_train_epoch(self, runner) -> None:
        self.rates[runner.epoch + 1] = runner.optim_wrapper.param_groups[0]["lr"]
        if runner.epoch + 1 == self.dies_in:
            raise KeyboardInterrupt


# The best is in epoch 2. What follows only equals it, at times.
SCRIPT = [0.1, 0.2, 0.2, 0.19, 0.2, 0.15, 0.2, 0.1, 0.2, 0.18, 0.2, 0.2]


@pytest.fixture(scope="module")
def two_images(tmp_path_factory) -> Path:
    root, size = tmp_path_factory.mktemp("two_images"), (64, 64)
    content = coco(["1.png", "2.png"], size, area=100, iscrowd=0)
    content["categories"][0]["name"] = "raccoon"
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        for image in content["images"]:
            picture(root / "images" / split / image["file_name"], size)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def base_weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base") / "mini.safetensors"
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(dict(config("mini/sdpt_mini_raccoon.py").model, tuner=None))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def scheduled_run(
    data: Path, weights: Path, work_dir: Path, resume: bool = False, dies_in: int | None = None
) -> Runner:
    """A run of mini GLIP with the schedule for all images, and the scripted AP."""
    cfg, other = config("mini/sdpt_mini_raccoon.py"), config("sdpt/glip_l_own_data_k10.py")
    cfg.param_scheduler = other.param_scheduler
    cfg.train_cfg = other.train_cfg
    cfg.custom_hooks = [*other.custom_hooks, dict(type="RatesHook", dies_in=dies_in)]
    cfg.default_hooks.checkpoint = other.default_hooks.checkpoint
    cfg.load_from = str(weights)
    cfg.val_evaluator = dict(type="ScriptedAP", script=SCRIPT)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.visualizer.vis_backends = []
    for role in ("train", "val"):
        for transform in innermost(cfg[f"{role}_dataloader"].dataset)["pipeline"]:
            if transform["type"] == "FixScaleResize":
                transform["scale"] = (64, 64)
    cfg.optim_wrapper.optimizer.lr = 0.1
    cfg.work_dir = str(work_dir)
    cfg.resume = resume
    replace_data_root(cfg, str(data))
    return build_runner(cfg)


def rates_of(runner: Runner) -> dict[int, float]:
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, RatesHook))
    return {epoch: round(rate, 8) for epoch, rate in hook.rates.items()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory, two_images, base_weights, short_beginnings) -> tuple[Path, Runner]:
    """A run to its end, and its folder."""
    folder = tmp_path_factory.mktemp("straight")
    runner = scheduled_run(two_images, base_weights, folder)
    runner.train()
    return folder, runner


def test_the_run_slows_down_and_stops_when_the_ap_stalls(straight):
    folder, runner = straight
    # The third stall is in epoch 5, the fourth ends the run.
    assert rates_of(runner) == {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1, 5: 0.1, 6: 0.01}
    best = read_tuner_header(folder / "best_tuner.safetensors")
    assert (best["extra"]["epoch"], best["extra"]["scores"]["coco/bbox_mAP"]) == (2, 0.2)


def test_a_killed_run_slows_down_and_stops_where_the_straight_one_does(
    straight, two_images, base_weights, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        scheduled_run(two_images, base_weights, tmp_path, dies_in=5).train()
    resumed = scheduled_run(two_images, base_weights, tmp_path, resume=True)
    resumed.train()
    assert rates_of(resumed) == {5: 0.1, 6: 0.01}
    for name in ("tuner.safetensors", "best_tuner.safetensors"):
        wanted, found = (load_file(folder / name) for folder in (straight[0], tmp_path))
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
