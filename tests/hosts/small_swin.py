"""A small Swin whose parameters all matter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsdpt.hosts.grounding.swin import SwinTransformer

TINY = dict(
    embed_dims=8, depths=[2, 3], num_heads=[2, 4], window_size=3, strides=(4, 2), out_indices=(0, 1)
)  # fmt: skip


def randomise(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2 if parameter.dim() > 1 else 0.4)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


def make(settings: dict, **more) -> SwinTransformer:
    return randomise(SwinTransformer(**settings, **more).double()).eval()


def images(batch: int, height: int, width: int, dtype=torch.float64) -> Tensor:
    return torch.randn(batch, 3, height, width, dtype=dtype, requires_grad=True)
