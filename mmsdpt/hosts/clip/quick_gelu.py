"""CLIP's activation, x sigmoid(1.702 x)."""

from __future__ import annotations

from typing import Any

import torch
from mmpretrain.models.utils.clip_generator_helper import QuickGELU as PlainQuickGELU
from torch import Tensor, nn


class QuickGELU(PlainQuickGELU):
    """Same values as MMPreTrain's, with less memory: for the backward pass MMPreTrain keeps x and
    the sigmoid, this class only x.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return _KeepsInput.apply(x)
        return _quick_gelu(x)


def _quick_gelu(x: Tensor) -> Tensor:
    return (1.702 * x).sigmoid_().mul_(x)


class _KeepsInput(torch.autograd.Function):
    """x s(z) with the sigmoid s and z = 1.702 x. Its derivative is s(z) (1 + z (1 - s(z))), which
    is the derivative of SiLU at z.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _quick_gelu(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, 1.702 * x)


def set_quick_gelu(module: nn.Module, kind: type[PlainQuickGELU]) -> None:
    """Replace every QuickGELU inside ``module`` by one of this class."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, PlainQuickGELU):
                setattr(parent, name, kind())
