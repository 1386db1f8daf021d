"""Promises of configs/ablations/: every file is a short diff that trains what its first line says,
and the same ablation runs on mini GLIP.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.utils.cli import load_config
from tests.hosts.disconnect import disconnect_all
from tests.hosts.full_size import bert_folder, on_meta

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "ablations"
GLIP_L = sorted(path.stem for path in FOLDER.glob("*.py"))
MINI = sorted(path.stem for path in (FOLDER / "mini").glob("*.py"))
TOKENS = (1, 5, 10, 50, 100, 120, 200, 300)
VARIANTS = (
    *("unshared", "asynchronous", "mask_text_tokens"),
    *("inverse_image", "inverse_text", "learnable_image", "learnable_text", "learnable_dual"),
    *("layers_first", "layers_middle", "layers_last", "layers_alternate"),
    *("init_uniform", "init_normal", "init_zeros"),
)
# "#Par" of the poster, in millions, where ours agrees.
POSTER = {
    "k10": 0.16,
    "k120": 1.97,
    "k200": 3.28,
    "k200_asynchronous": 3.28,
    "k200_inverse_image": 3.28,
    "k200_inverse_text": 3.28,
    "k200_unshared": 6.56,
}
SIZE = (64, 64)


def stated_count(path: Path) -> int:
    """The number of parameters that the comment at the top of a file gives."""
    lines = path.read_text().split("_base_", 1)[0].splitlines()
    comment = " ".join(line.removeprefix("# ") for line in lines)
    (count,) = re.findall(r"([\d,]+) parameters", comment)
    return int(count.replace(",", ""))


def statements(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_ablation_of_the_poster_is_there_at_both_sizes():
    names = [f"k{k}" for k in TOKENS] + [f"k200_{variant}" for variant in VARIANTS]
    assert sorted(f"glip_l_aquarium_{name}" for name in names) == GLIP_L
    assert sorted(f"mini_thermal_{name}" for name in names) == MINI


def test_an_ablation_is_a_short_diff_that_touches_the_tuner_and_hooks_alone():
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("mini/*.py")]:
        names = re.findall(r"^(\w+) = ", path.read_text(), flags=re.MULTILINE)
        assert set(names) <= {"_base_", "model", "custom_hooks"}, path.name
        assert len(statements(path)) <= 6, path.name


# ------------------------------------------------------------------ the size of GLIP-L


@pytest.fixture(scope="module")
def glip_l(tmp_path_factory) -> nn.Module:
    """GLIP-L without a tuner on the meta device."""
    folder = bert_folder(tmp_path_factory.mktemp("bert-base"))
    arguments = argparse.Namespace(
        config=str(FOLDER / "glip_l_aquarium_k200.py"),
        cfg_options=dict(lang_model_name=str(folder)),
    )
    model = load_config(arguments).model
    model.tuner = None
    init_default_scope("mmdet")
    with on_meta():
        return MODELS.build(model)


@pytest.mark.parametrize("name", GLIP_L)
def test_a_file_trains_as_many_parameters_on_glip_l_as_its_comment_says(name, glip_l):
    path = FOLDER / f"{name}.py"
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        tuner = MODELS.build(cfg.model.tuner, default_args=dict(seams=glip_l.seams()))
    disconnect_all(glip_l.seams())
    assert parameters_of(tuner) == tuner.num_trainable() == stated_count(path)
    poster = POSTER.get(name.removeprefix("glip_l_aquarium_"))
    assert poster is None or round(tuner.num_trainable() / 1e6, 2) in (
        poster,
        round(poster - 0.01, 2),  # the poster rounds up
    )
    assert [hook.type for hook in cfg.custom_hooks] == [
        "mmsdpt.EarlyStoppingHook",
        *(["mmsdpt.AlternatingPhasesHook"] if name.endswith("asynchronous") else []),
    ]


# ------------------------------------------------------------------ runs on mini GLIP


def batch() -> dict[str, list]:
    """One image with two boxes, as a data loader gives it."""
    generator = torch.Generator().manual_seed(0)
    sample = DetDataSample(
        metainfo=dict(
            img_id=0,
            img_shape=SIZE,
            ori_shape=SIZE,
            scale_factor=(1.0, 1.0),
            text=("dog", "person"),
            custom_entities=True,
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[4.0, 4.0, 40.0, 44.0], [20.0, 8.0, 60.0, 60.0]]),
        labels=torch.tensor([0, 1]),
    )
    image = torch.randint(256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[sample])


def tokens_of(tuner: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().clone()
        for name, value in tuner.named_parameters()
        if name.startswith("tokens")
    }


@pytest.mark.parametrize("name", MINI)
def test_two_steps_on_mini_glip_change_every_token(name):
    path = FOLDER / "mini" / f"{name}.py"
    cfg = Config.fromfile(path)
    model = MODELS.build(cfg.model).train()
    tuner = model.tuners["default"]
    assert parameters_of(tuner) == tuner.num_trainable() == stated_count(path)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    hooks = [HOOKS.build(hook) for hook in cfg.get("custom_hooks") or ()]
    runner = SimpleNamespace(model=model, optim_wrapper=optimizer, epoch=0, iter=0)
    sides = []
    for hook in hooks:
        hook.before_train(runner)
    before = tokens_of(tuner)
    for step in range(2):
        runner.epoch = runner.iter = step
        for hook in hooks:
            hook.before_train_iter(runner, step)
        sides.append(tuner.synchronous_sides)
        model.train_step(batch(), optimizer)
    for hook in hooks:
        hook.after_train(runner)
    both = ("image", "text")
    turns = name.endswith("asynchronous")
    assert sides == ([("image",), ("text",)] if turns else [both, both])
    assert tuner.synchronous_sides == both
    for key, value in tokens_of(tuner).items():
        assert (value - before[key]).abs().amax(dim=-1).min() > 0, key
        assert torch.isfinite(value).all()
