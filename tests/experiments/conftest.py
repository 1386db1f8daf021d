"""Miniature data, a tiny CLIP and its weights, and studies that run in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from safetensors.torch import save_file

from mmsdpt.registry import MODELS
from tests.datasets.miniature_layouts import make_class_folders, make_dataset
from tests.hosts.small_clip import clip_config

WORDS = ("red circle", "raccoon", "star", "hollow pentagon")


@pytest.fixture(scope="session")
def tiny_host(tmp_path_factory) -> dict[str, str]:
    """A model with two blocks in each tower, and random weights, as a study names it."""
    folder = tmp_path_factory.mktemp("host")
    model = clip_config(depth=2).to_dict()
    Config(dict(model=model)).dump(folder / "tiny_clip.py")
    with DefaultScope.overwrite_default_scope("mmpretrain"), torch.random.fork_rng():
        torch.manual_seed(0)
        host = MODELS.build(dict(model))
        host.init_weights()
    weights = {name: value.contiguous() for name, value in host.state_dict().items()}
    save_file(weights, folder / "tiny_clip.safetensors")
    return dict(
        config=str(folder / "tiny_clip.py"), load_from=str(folder / "tiny_clip.safetensors")
    )


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory) -> Path:
    """A data root with four classes of clothing in folders, EuroSAT, ImageNet and a variant."""
    root = tmp_path_factory.mktemp("data")
    make_class_folders(root / "clothing", dict(train=3, validation=2, test=2), WORDS)
    for name in ("eurosat", "imagenet", "imagenetv2"):
        make_dataset(name, root, classes=4)
    return root


@pytest.fixture
def write_study(tmp_path, repository, tiny_host, miniatures) -> Callable[..., Path]:
    """Writes a study of the tiny host: ``names`` of its methods, and other keys of ``study``."""

    def write(
        names: Sequence[str] = ("coop",),
        methods: dict | None = None,
        cell: dict | None = None,
        **keys,
    ) -> Path:
        study: dict = dict(
            name="tiny",
            protocol="few_shot",
            hosts=[tiny_host],
            data=["clip_clothing"],
            data_root=str(miniatures),
            shots=[1],
            seeds=[1],
            methods=list(names),
            epochs=1,
        )
        path = tmp_path / "study.py"
        path.write_text(
            f"_base_ = {str(repository / 'configs/_base_/studies/clip.py')!r}\n"
            f"methods = {methods or {}!r}\n"
            f"cell = {cell or {}!r}\n"
            f"study = {study | keys!r}\n"
        )
        return path

    return write
