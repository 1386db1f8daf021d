"""A run that keeps frozen features equals the one that computes them each time."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image
from safetensors.torch import load_file, save_file

from mmsdpt.datasets.transforms import LoadImageFromFile
from mmsdpt.engine import build_runner
from mmsdpt.hosts.glip import SwinTransformer
from mmsdpt.utils.errors import InputError

from .conftest import META_KEYS


class Steps(Hook):
    """Samples and losses of every step."""

    def __init__(self):
        self.samples, self.losses = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.samples += [
            (sample.img_id, sample.get("flip"), sample.gt_instances.bboxes.tensor.tolist())
            for sample in data_batch["data_samples"]
        ]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})


def train(cfg, feature_cache=None, **changes):
    """Train; returns the runner, its steps and its trained tensors."""
    cfg = copy.deepcopy(cfg)
    if feature_cache is not None:
        cfg.feature_cache = feature_cache
    cfg.merge_from_dict(changes)
    runner, steps = build_runner(cfg), Steps()
    runner.register_hook(steps)
    runner.train()
    return runner, steps, {k: v.clone() for k, v in runner.host.tuners.state_dict().items()}


def assert_same_run(a, b):
    assert a[1].samples == b[1].samples
    assert a[1].losses == b[1].losses
    assert all(torch.equal(a[2][name], b[2][name]) for name in a[2])


@pytest.fixture
def cfg(tiny_cfg):
    """Four images in two steps, four epochs, no validation."""
    tiny_cfg.train_cfg.max_epochs = 4
    tiny_cfg.val_dataloader = tiny_cfg.val_evaluator = tiny_cfg.val_cfg = None
    return tiny_cfg


@pytest.fixture
def encoded(monkeypatch):
    """Sizes of the batches that the image encoder was run on."""
    sizes, forward = [], SwinTransformer.forward

    def counted(self, images, *args):
        sizes.append(len(images))
        return forward(self, images, *args)

    monkeypatch.setattr(SwinTransformer, "forward", counted)
    return sizes


@pytest.fixture
def read(monkeypatch):
    """Paths of the images that were read."""
    paths, transform = [], LoadImageFromFile.transform

    def counted(self, results):
        paths.append(results["img_path"])
        return transform(self, results)

    monkeypatch.setattr(LoadImageFromFile, "transform", counted)
    return paths


@pytest.fixture
def logged(monkeypatch):
    """What was logged, in one text."""
    lines = []
    monkeypatch.setattr("mmsdpt.hosts.stages.print_log", lambda text, *_, **__: lines.append(text))
    monkeypatch.setattr(
        "mmsdpt.engine.feature_cache.print_log", lambda text, *_, **__: lines.append(text)
    )
    return lines


def test_the_run_is_the_same_and_each_view_is_read_and_encoded_once(cfg, encoded, read, logged):
    plain = train(cfg, dict(views=2, keep=False))
    assert sum(encoded) == len(read) == 16
    views = {(path, sample[1]) for path, sample in zip(read, plain[1].samples, strict=True)}
    assert len(views) < 9
    encoded.clear(), read.clear()
    kept = train(cfg, dict(views=2))
    assert_same_run(kept, plain)
    assert len(views) <= len(read) <= 8  # two views of an image may be flipped alike
    assert len(encoded) < 8
    computed, found = len(views), 16 - len(views)
    assert (
        f"Feature cache: {computed} image features were computed, {found} were found in the cache"
    ) in logged


def test_other_runs_and_processes_find_them_in_the_folder(cfg, encoded, tmp_path):
    where = dict(views=2, folder=str(tmp_path / "features"), memory_gb=0)
    first = train(cfg, where)
    assert encoded
    encoded.clear()
    assert_same_run(train(cfg, where), first)
    assert not encoded
    half = train(cfg, dict(where, dtype="bfloat16"))
    assert encoded  # rounded features are others
    assert half[1].losses != first[1].losses
    torch.testing.assert_close(
        torch.tensor([x["loss"] for x in half[1].losses]),
        torch.tensor([x["loss"] for x in first[1].losses]),
        rtol=2e-2,
        atol=0,
    )


def test_they_belong_to_weights_transforms_and_images(cfg, tmp_path):
    where = dict(views=1, folder=str(tmp_path / "features"))
    cfg.train_cfg.max_epochs = 1
    train(cfg, where)
    resize = cfg.train_dataloader.dataset.pipeline[1]
    assert resize.type == "FixScaleResize"

    def computes(**changes):
        runner, _, _ = train(cfg, where, **changes)
        return runner.feature_cache.stages.computed["image"]

    assert computes() == 0
    base = load_file(cfg.load_from)
    name = next(name for name in base if name.startswith("backbone.") and base[name].dim() > 1)
    base[name].view(-1)[1] += 1  # a single value
    save_file(base, tmp_path / "other.safetensors")
    assert computes(load_from=str(tmp_path / "other.safetensors")) == 4
    resize.scale = (48, 48)
    assert computes() == 4
    resize.scale = (64, 64)
    assert computes(**{"model.data_preprocessor.mean": [1.0, 2.0, 3.0]}) == 4
    assert computes(**{"model.backbone.qk_scale": 0.5}) == 4  # the same weights
    assert computes(**{"model.bbox_head.num_dyhead_blocks": 1}) == 0  # nothing of the encoder
    path = next((Path(cfg.data_root) / "images").glob("*.png"))
    before = path.read_bytes()
    try:
        pixels = np.asarray(Image.open(path)).copy()
        pixels[30, 30] ^= 1
        Image.fromarray(pixels).save(path)
        assert computes() == 1
    finally:
        path.write_bytes(before)


def test_it_is_off_where_something_before_trains(cfg, encoded, logged):
    cfg.train_cfg.max_epochs = 2
    cfg.model.tuner = dict(type="mmsdpt.VPT", num_tokens=2)
    plain = train(cfg, dict(views=2, keep=False))
    assert_same_run(train(cfg, dict(views=2)), plain)
    assert sum(encoded) == 16
    said = [line for line in logged if "image features are computed each time" in line]
    assert len(said) == 1
    assert said[0].endswith("because VPT trains there")


def test_it_is_off_where_a_random_transform_is_not_among_the_views(cfg, encoded, read, logged):
    plain = train(cfg)
    assert sum(encoded) == 16 and len(read) == 17, "the first image is tried before the first step"
    assert_same_run(train(cfg, dict()), plain)
    assert sum(encoded) == 32 and len(read) == 33
    (said,) = [line for line in logged if "image features are computed each time" in line]
    assert "training pipeline is random: set feature_cache.views" in said


def test_without_random_transforms_no_number_of_views_is_needed(cfg, encoded, read):
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline = [step for step in pipeline if "Flip" not in step.type]
    pipeline[-1] = dict(pipeline[-1], meta_keys=META_KEYS)
    cfg.train_dataloader.dataset.pipeline = pipeline
    plain = train(cfg)
    encoded.clear(), read.clear()
    assert_same_run(train(cfg, dict()), plain)
    assert sum(encoded) == len(read) == 4


def test_what_is_drawn_anew_is_found_by_its_pixels(cfg, encoded):
    plain = train(cfg)
    encoded.clear()
    kept = train(cfg, dict(views="drawn"))
    assert_same_run(kept, plain)
    assert kept[0].feature_cache.stages.computed["image"] <= 8  # four images, flipped or not
    assert len(encoded) < 8


def test_workers_load_only_what_is_not_known(cfg, encoded):
    plain = train(cfg, dict(views=2, keep=False))
    encoded.clear()
    kept = train(
        cfg,
        dict(views=2),
        **{"train_dataloader.num_workers": 2, "train_dataloader.persistent_workers": True},
    )
    assert_same_run(kept, plain)
    assert kept[0].feature_cache.stages.computed["image"] < 9
    assert len(encoded) < 8


def test_a_resumed_run_equals_the_straight_one(cfg):
    cfg.default_hooks.checkpoint.interval = 1
    cfg.feature_cache = dict(views=2)
    straight = train(cfg, work_dir=f"{cfg.work_dir}/straight")
    runner = build_runner(copy.deepcopy(cfg))
    runner.register_hook(StopAt(5))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    resumed = train(cfg, resume=True)
    assert resumed[1].losses == straight[1].losses[4:]
    assert all(torch.equal(resumed[2][name], straight[2][name]) for name in straight[2])


class StopAt(Hook):
    """Ends a run in the middle of an epoch."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "settings, said",
    [
        (dict(view=2), "feature_cache has no key 'view'"),
        (dict(views=0), "feature_cache.views must be an integer >= 1, got 0"),
        (dict(max_gb="much"), "feature_cache.max_gb must be a number of GB"),
        (dict(dtype="int8"), "feature_cache.dtype must be bfloat16 or float16"),
        (3, "feature_cache must be a dict"),
    ],
)
def test_settings_that_cannot_be_are_refused(cfg, settings, said):
    with pytest.raises(InputError, match=said):
        train(cfg, settings)


def test_samples_need_seeds_of_their_own(cfg):
    with pytest.raises(InputError, match="feature_cache needs one seed per sample"):
        train(cfg, dict(views=2), **{"randomness.per_sample": False})
