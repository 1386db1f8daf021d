"""Tuner files as a training leaves them: of the tiny GLIP, and of mini CLIP on drawn squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmsdpt.engine import build_runner
from mmsdpt.engine.state import model_facts
from mmsdpt.tuners.files import save_tuner
from tests.engine.conftest import (  # noqa: F401
    CLASSES,
    _short_beginnings,
    make_tiny_cfg,
    tiny_folder,
)

COLOURS = dict(red=(220, 30, 30), blue=(30, 30, 220), green=(30, 200, 30))


class Predictions(Hook):
    """Keeps what a test predicts, by image."""

    def __init__(self) -> None:
        self.found = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.found.update({Path(sample.img_path).name: sample for sample in outputs})


def run_test_tool(cfg: Config) -> dict:
    """What ``tools/test.py`` computes with this config: samples by the images' names."""
    runner = build_runner(cfg)
    hook = Predictions()
    runner.register_hook(hook)
    runner.test()
    return hook.found


@torch.no_grad()
def save_with_noise(runner: Runner, path: Path, classes: tuple[str, ...]) -> Path:
    """A file of the runner's tuner, as its hook writes it, with values that matter."""
    runner.load_or_resume()
    (tuner,) = runner.host.tuners.values()
    tuner.prepare()
    generator = torch.Generator().manual_seed(0)
    for parameter in (each for each in runner.host.parameters() if each.requires_grad):
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    facts = model_facts(runner.cfg, runner.host, None)
    extra = dict(classes=list(classes), epoch=1, scores={"coco/bbox_mAP": 0.5})
    return save_tuner(runner.host, path, extra=extra, facts=facts)


@pytest.fixture(scope="session")
def squares(tiny_folder) -> list[str]:  # noqa: F811
    """The images."""
    return [str(path) for path in sorted((tiny_folder / "squares/images").iterdir())]


@pytest.fixture(scope="session")
def tuned(make_tiny_cfg, tmp_path_factory) -> Path:  # noqa: F811
    """A tuner file of the tiny GLIP."""
    folder = tmp_path_factory.mktemp("tuned")
    runner = build_runner(make_tiny_cfg(folder / "run"))
    return save_with_noise(runner, folder / "tuner.safetensors", CLASSES)


@pytest.fixture(scope="session")
def clip_cfg(repository, tmp_path_factory) -> Config:
    """MuDPT on mini CLIP and a folder of coloured squares."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(90, 160, (80, 100, 3), dtype=np.uint8)
                pixels[20:60, 20:60] = colour
                Image.fromarray(pixels).save(root / split / name / f"{name}{i}.png")
    cfg = Config.fromfile(repository / "configs/mini/mudpt_mini_clothing.py")
    for role in ("train", "val", "test"):
        loader = cfg[f"{role}_dataloader"]
        loader.dataset.data_root = str(root)
        loader.num_workers = 0
        loader.pop("persistent_workers")
    cfg.work_dir, cfg.log_level = str(root / "run"), "ERROR"
    return cfg


@pytest.fixture(scope="session")
def tuned_clip(clip_cfg, tmp_path_factory) -> Path:
    """A tuner file of mini CLIP."""
    runner = build_runner(clip_cfg.copy())
    runner.host.set_classes(sorted(COLOURS), "a photo of a {}.")
    path = tmp_path_factory.mktemp("tuned") / "tuner.safetensors"
    return save_with_noise(runner, path, tuple(sorted(COLOURS)))
