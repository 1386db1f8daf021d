"""Promises of the dataset configs: each builds its loaders, and its size is easy to change."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, init_default_scope
from mmengine.runner import Runner

from mmsdpt.datasets.classification import BENCHMARKS
from mmsdpt.utils.cli import replace_data_root
from tests.datasets.miniature_layouts import (
    ALL_NAMES,
    VARIANT_FOLDERS,
    make_class_folders,
    make_dataset,
)

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmpretrain")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """All fifteen benchmarks."""
    root = tmp_path_factory.mktemp("data")
    for name in ALL_NAMES:
        make_dataset(name, root, classes=2, per_class=2)
    return root


def load(repository, name: str, **settings) -> Config:
    config = Config.fromfile(repository / f"configs/_base_/datasets/{name}.py")
    for loader in LOADERS:
        config[loader].update(num_workers=0, persistent_workers=False)
        config[loader].dataset.update(settings)
    return config


def config_name(benchmark: str) -> str:
    return f"clip_{benchmark.replace('-', '_')}"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_has_a_config_whose_loaders_build(repository, data_root, name):
    config = load(repository, config_name(name), image_size=32)
    replace_data_root(config, str(data_root))
    trained_on = "imagenet" if name in VARIANT_FOLDERS else name
    assert config.train_dataloader.dataset.name == trained_on
    assert config.val_dataloader.dataset.name == trained_on
    assert config.test_dataloader.dataset.name == name
    if trained_on == "imagenet":  # whose validation images are those beyond the shots
        for key in LOADERS[:2]:
            config[key].dataset.shots = 1
    sizes = []
    for key in LOADERS:
        loader = Runner.build_dataloader(config[key], seed=0)
        batches = list(loader)
        assert loader.dataset.metainfo["classes"] == ("red fox", "sea lion")
        assert all(batch["inputs"].shape[1:] == (3, 32, 32) for batch in batches)
        assert batches[0]["inputs"].dtype == torch.uint8
        sizes.append([len(batch["inputs"]) for batch in batches])
    drawn = 2 if trained_on == "imagenet" else 4
    assert sizes == [[drawn], [drawn], [4]]


def test_the_settings_are_those_of_the_protocols(repository):
    config = load(repository, "clip_dtd")
    assert [config[key].batch_size for key in LOADERS] == [4, 100, 100]
    assert [config[key].dataset.split for key in LOADERS] == ["train", "val", "test"]
    assert [config[key].dataset.get("shots") for key in LOADERS] == [16, 16, None]
    assert [config[key].sampler.shuffle for key in LOADERS] == [True, False, False]
    assert METRICS.build(config.test_evaluator).topk == (1,)


def test_a_child_config_changes_the_size_with_one_dict(repository, tmp_path):
    make_class_folders(tmp_path / "own", {"train": 3, "val": 2, "test": 2})
    base = repository / "configs/_base_/datasets/clip_clothing.py"
    (tmp_path / "child.py").write_text(
        f"_base_ = {str(base)!r}\n"
        f"own = dict(data_root={str(tmp_path / 'own')!r}, image_size=48, shots=2)\n"
        "train_dataloader = dict(dataset=own)\n"
        "val_dataloader = dict(dataset=own)\n"
        "test_dataloader = dict(dataset=own)\n"
    )
    config = Config.fromfile(tmp_path / "child.py")
    config.train_dataloader.update(num_workers=0, persistent_workers=False)
    for key in ("val_dataloader", "test_dataloader"):
        config[key].update(num_workers=0, persistent_workers=False)
    for key, images in zip(LOADERS, (6, 6, 6), strict=True):
        loader = Runner.build_dataloader(config[key], seed=0)
        batches = list(loader)
        assert sum(len(batch["inputs"]) for batch in batches) == images
        assert {tuple(batch["inputs"].shape[1:]) for batch in batches} == {(3, 48, 48)}


def test_the_default_size_is_clips(repository, data_root):
    config = load(repository, "clip_dtd", data_root=str(data_root))
    for key in LOADERS:
        loader = Runner.build_dataloader(config[key], seed=0)
        assert next(iter(loader))["inputs"].shape[1:] == (3, 224, 224)


def test_workers_load_the_same_images(repository, data_root):
    config = load(repository, "clip_dtd", data_root=str(data_root), image_size=32)
    alone = list(Runner.build_dataloader(config.test_dataloader, seed=0))
    config.test_dataloader.update(num_workers=2, persistent_workers=True)
    config.test_dataloader.batch_size = 2
    shared = list(Runner.build_dataloader(config.test_dataloader, seed=0))
    together = torch.cat([batch["inputs"] for batch in shared])
    assert torch.equal(together, alone[0]["inputs"])
    labels = [int(sample.gt_label) for batch in shared for sample in batch["data_samples"]]
    assert labels == [0, 0, 1, 1]
