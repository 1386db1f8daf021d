"""A small CLIP, MMPreTrain's and ours: the mini vocabulary, three blocks, images of 32 pixels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.hosts.clip import CLIPTokenizer
from mmsdpt.registry import MODELS

MODEL_CONFIG = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "clip_vit_b16.py"
VOCABULARY = "mmsdpt://mini_clip"
IMAGE_SIZE = 32
# Of one to eight tokens, so that texts end at different places.
NAMES = ("red circle", "raccoon", "star fish", "a hollow pentagon that is yellow")
RESNET = dict(type="ResNet", depth=18, out_indices=(3,), base_channels=8, stem_channels=8)


def clip_config(depth: int = 3, **changes: Any) -> ConfigDict:
    """Config of the small CLIP; the towers have widths of their own, so that no two are mixed up.

    Args:
        depth: Blocks of each tower.
        changes: More settings of the model.
    """
    config = Config.fromfile(str(MODEL_CONFIG)).model
    config.vision_backbone.update(
        arch=dict(embed_dims=128, num_layers=depth, num_heads=2, feedforward_channels=256),
        img_size=IMAGE_SIZE,
        patch_size=8,
    )
    config.projection.update(in_channels=128, out_channels=96)
    config.text_backbone.update(width=64, layers=depth, heads=2)
    config.update(
        tokenizer=dict(folder=VOCABULARY),
        vocab_size=CLIPTokenizer(VOCABULARY).vocab_size,
        transformer_width=64,
        proj_dim=96,
    )
    config.update(copy.deepcopy(changes))
    return config


def resnet_config() -> ConfigDict:
    """The same with a ResNet as the image tower."""
    config = clip_config(vision_backbone=None)
    config.vision_backbone = ConfigDict(RESNET)
    config.projection.in_channels = 64
    return config


def build_clip(config: ConfigDict | None = None) -> nn.Module:
    """Random weights, in eval mode; the default scope is MMPreTrain's from here on."""
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(config if config is not None else clip_config(classes=NAMES))
    make_every_parameter_matter(model)
    return model.eval()


def tuned_clip(tuner: dict, **changes: Any) -> nn.Module:
    """The small CLIP with one method, knowing :data:`NAMES`."""
    return build_clip(clip_config(**{"classes": NAMES, "tuner": tuner, **changes}))


@torch.no_grad()
def make_every_parameter_matter(model: nn.Module) -> None:
    """Move what starts at zero or one, and what starts so small that images or texts are alike."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if name.startswith("tuners.") or parameter.is_meta:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.add_(0.1 * noise)
        elif "embed" in name or "cls_token" in name:
            parameter.copy_(0.5 * noise)


def make_images(count: int, size: int = IMAGE_SIZE, dtype=torch.float64, first: int = 0) -> Tensor:
    """Normalised images; the i-th is the same whatever their number."""
    images = [
        torch.randn(3, size, size, generator=torch.Generator().manual_seed(first + i))
        for i in range(count)
    ]
    return torch.stack(images).to(dtype)


def make_samples(count: int, num_classes: int = len(NAMES), first: int = 0) -> list[DataSample]:
    return [DataSample().set_gt_label((first + i) % num_classes) for i in range(count)]
