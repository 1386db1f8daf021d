"""Miniature datasets, a tiny CLIP and its weights, for protocols that run in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from tests.datasets.miniature_layouts import make_class_folders, make_dataset
from tests.hosts.small_clip import clip_config

WORDS = ("red circle", "raccoon", "star", "hollow pentagon")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Config of a model with two blocks in each tower."""
    path = tmp_path_factory.mktemp("model") / "tiny_clip.py"
    Config(dict(model=clip_config(depth=2).to_dict())).dump(path)
    return path


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory) -> Path:
    """A data root with four classes of clothing in folders, EuroSAT, ImageNet and its variants."""
    root = tmp_path_factory.mktemp("data")
    make_class_folders(root / "clothing", dict(train=3, validation=2, test=2), WORDS)
    for name in (
        "eurosat",
        "imagenet",
        "imagenetv2",
        "imagenet-sketch",
        "imagenet-adversarial",
        "imagenet-rendition",
    ):
        make_dataset(name, root, classes=4)
    return root
