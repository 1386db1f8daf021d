"""Promises of configs/mudpt and configs/clip_baselines: every file builds, trains what its first
lines say, by its paper's recipe, on the dataset that it is named after.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import (
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
)
from torch import nn

import mmsdpt.engine
import mmsdpt.tuners  # noqa: F401
from mmsdpt.tuners import Tuner

FOLDER = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(
    path.relative_to(FOLDER).as_posix()
    for folder in ("mudpt", "clip_baselines")
    for path in (FOLDER / folder).rglob("*.py")
)
DATASETS = {
    "imagenet": 1000,
    "caltech_101": 100,
    "oxford_pets": 37,
    "stanford_cars": 196,
    "oxford_flowers": 102,
    "food_101": 101,
    "fgvc_aircraft": 100,
    "sun397": 397,
    "dtd": 47,
    "eurosat": 10,
    "ucf101": 101,
}
# Rate, epochs and batch size at 16 images per class. Those of the linear probe are ours.
RECIPES = {
    "mudpt": (0.0025, 10, 4),
    "maple": (0.0035, 5, 4),
    "independent_vl": (0.0025, 5, 4),
    "vpt": (0.0025, 5, 4),
    "coop": (0.002, 200, 32),
    "cocoop": (0.002, 10, 1),
    "linear_probe": (0.01, 50, 32),
    "kgcoop": (0.002, 100, 32),
    "clip_adapter": (0.002, 200, 32),
    "promptsrc": (0.0025, 50, 4),
    "mma": (0.0015, 5, 16),
    "tcp": (0.002, 50, 32),
    "mmrl": (0.001, 50, 32),
    "tip_adapter_f": (0.001, 20, 256),
    "clip_lora": (2e-4, None, 32),  # 8,000 iterations, whatever the number of classes
}
OPTIMIZERS = {
    "tcp": dict(type="Adam", weight_decay=5e-4, eps=1e-3),
    "mmrl": dict(type="AdamW", weight_decay=5e-4),
    "tip_adapter_f": dict(type="AdamW", eps=1e-4, weight_decay=0.01),
    "clip_lora": dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.01),
}
SGD = dict(type="SGD", momentum=0.9, weight_decay=5e-4)
# Of single data sets.
BATCHES = {"clip_baselines/mma_vit_b16_imagenet.py": 128}
EPOCHS = {
    "clip_baselines/mmrl_vit_b16_imagenet.py": 5,
    "clip_baselines/tip_adapter_f_vit_b16_eurosat.py": 100,
    "clip_baselines/promptsrc_vit_b16.py": 20,  # as from base to new classes
}
COUNTS = {
    "mudpt/mudpt_vit_b16_eurosat.py": 1_204_736,
    "mudpt/ablations/mudpt_vit_b16_eurosat_length_4.py": 1_227_776,
    "mudpt/mudpt_transformer_vit_b16.py": 11_056_128,
    "mudpt/mudpt_one_way_vit_b16.py": 3_557_632,
    "clip_baselines/maple_vit_b16_eurosat.py": 3_555_072,
    "clip_baselines/independent_vl_vit_b16_eurosat.py": 30_720,
    "clip_baselines/vpt_vit_b16_eurosat.py": 73_728,
    "clip_baselines/coop_vit_b16_eurosat.py": 8_192,
    "clip_baselines/cocoop_vit_b16_eurosat.py": 35_360,
    "clip_baselines/kgcoop_vit_b16_dtd.py": 2_048,
    "clip_baselines/clip_adapter_vit_b16_eurosat.py": 131_072,
    "clip_baselines/promptsrc_vit_b16_eurosat.py": 46_080,
    "clip_baselines/clip_lora_vit_b16_eurosat.py": 184_320,
    "clip_baselines/mma_vit_b16_eurosat.py": 674_560,
    "clip_baselines/tcp_vit_b16_eurosat.py": 331_904,
    "clip_baselines/mmrl_vit_b16_dtd.py": 4_992_256,
    "clip_baselines/tip_adapter_f_vit_b16_imagenet.py": 8_192_000,
    "clip_baselines/mmrl_vit_b16_eurosat.py": 18_762_496,
}
TRAINED = [name for name in FILES if "zero_shot" not in name]


@functools.cache
def config(name: str) -> Config:
    return Config.fromfile(FOLDER / name)


def method_of(name: str) -> str:
    stem = Path(name).stem.split("_vit_b16")[0]
    return "mudpt" if stem.startswith("mudpt") else stem


def dataset_of(name: str) -> str:
    """A config without a dataset in its name is for images of one's own."""
    parts = Path(name).stem.split("_vit_b16_")
    return "eurosat" if "ablations" in name else parts[1] if len(parts) > 1 else "clothing"


@functools.cache
def built_model(structure: str) -> nn.Module:
    """The model of a config in JSON, on the meta device; the host itself is built once."""
    init_default_scope("mmpretrain")
    model_cfg = json.loads(structure)
    tuner = model_cfg.pop("tuner", None)
    with torch.device("meta"):
        if tuner is None:
            return MODELS.build(model_cfg)
        model = copy.deepcopy(built_model(json.dumps(model_cfg)))
        model._attach_tuners(tuner, None, None)
    return model


def test_every_method_has_a_config_for_every_dataset_and_one_for_images_of_ones_own():
    for method in (*RECIPES, "zero_shot"):
        folder = "mudpt" if method == "mudpt" else "clip_baselines"
        for suffix in ("", *(f"_{name}" for name in DATASETS)):
            assert f"{folder}/{method}_vit_b16{suffix}.py" in FILES
    assert len([name for name in FILES if "ablations" in name]) > 15


@pytest.mark.parametrize("name", FILES)
def test_exactly_the_tuner_trains_and_its_first_lines_say_how_much(name):
    model = built_model(json.dumps(config(name).model))
    comment = (FOLDER / name).read_text().split("_base_")[0]
    if "zero_shot" in name:
        assert not len(model.tuners) and "nothing trains" in comment
        return
    (tuner,) = model.tuners.values()
    assert isinstance(tuner, Tuner)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == tuner.num_trainable() == sum(p.numel() for p in tuner.parameters())
    (said,) = re.findall(r"([\d,]+) parameters", comment.replace("\n# ", " "))
    assert int(said.replace(",", "")) == trainable
    assert COUNTS.get(name, trainable) == trainable
    if method_of(name) in ("linear_probe", "tip_adapter_f"):
        assert tuner.num_classes == DATASETS.get(dataset_of(name), 10)


@pytest.mark.parametrize("name", FILES)
def test_the_data_are_those_of_the_dataset_in_its_name(name):
    cfg = config(name)
    base = config(f"_base_/datasets/clip_{dataset_of(name)}.py")
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if "zero_shot" in name and key == "train_dataloader":
            assert cfg[key] is None
        else:
            wanted = copy.deepcopy(base[key].dataset)
            if method_of(name) in ("mmrl", "tip_adapter_f") and key == "train_dataloader":
                wanted.pipeline[1].crop_ratio_range = (0.5, 1.0)
            assert cfg[key].dataset == wanted
    for key in ("val_evaluator", "test_evaluator"):
        assert METRICS.get(cfg[key].type) and cfg[key] == base[key]


@pytest.mark.parametrize("name", FILES)
def test_the_run_is_that_of_clip(name):
    init_default_scope("mmpretrain")
    cfg = config(name)
    assert cfg.default_scope == "mmpretrain" and cfg.runner_type == "mmsdpt.TunerRunner"
    assert cfg.load_from == "checkpoints/clip_vit_b16.safetensors"
    assert cfg.default_hooks.classes.type == "mmsdpt.SetClassesHook"
    for hook in cfg.default_hooks.values():
        assert HOOKS.get(hook.type)
    for loop in ("val_cfg", "test_cfg"):
        assert LOOPS.get(cfg[loop].type)
    assert ("optim_wrapper" in cfg) == ("train_cfg" in cfg) == ("zero_shot" not in name)


@pytest.mark.parametrize("name", TRAINED)
def test_the_recipe_is_the_papers(name):
    cfg = config(name)
    lr, epochs, batch = RECIPES[method_of(name)]
    optimizer = OPTIMIZERS.get(method_of(name), SGD)
    assert cfg.optim_wrapper.optimizer == dict(optimizer, lr=lr)
    assert cfg.optim_wrapper.type == "OptimWrapper"  # float32
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor)
    assert cfg.optim_wrapper.constructor == "mmsdpt.TrainableOptimWrapperConstructor"
    steps = -(-16 * DATASETS.get(dataset_of(name), 10) // batch)
    epochs = EPOCHS.get(name, epochs or round(8000 / steps))
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (epochs, epochs)
    assert cfg.train_dataloader.batch_size == BATCHES.get(name, batch)
    assert cfg.train_dataloader.dataset.shots == 16
    if method_of(name) in ("mma", "clip_lora", "tip_adapter_f"):  # without warm-up
        (cosine,) = cfg.param_scheduler
        assert (cosine.type, cosine.T_max) == ("CosineAnnealingLR", "max_epochs")
        assert cosine.get("begin", 0) == 0
        return
    # In the first epoch 1e-5; tests/engine/test_schedules.py has the rate of every epoch.
    constant, cosine = cfg.param_scheduler
    assert constant.factor * lr == pytest.approx(1e-5, rel=1e-12)
    assert cosine == dict(type="CosineAnnealingLR", T_max="max_epochs", begin=1)
