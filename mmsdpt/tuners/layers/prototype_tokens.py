"""Learned tokens in the joint space of the fusion layers."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsdpt.registry import MODELS

from .checks import whole_number

INITS = ("uniform", "normal", "zeros")


@MODELS.register_module()
class PrototypeTokens(BaseModule):
    """One set of k tokens of joint width E per fusion layer.

    Args:
        num_layers: Number of layers n that have tokens.
        num_tokens: k.
        width: E.
        init: ``uniform`` draws from U(-scale, scale) (SDPT), ``normal`` from N(0, scale^2),
            ``zeros``.
        init_scale: See ``init``.

    Shape:
        ``forward(i)`` gives the i-th layer's (k, E).
    """

    def __init__(
        self,
        num_layers: int,
        num_tokens: int,
        width: int,
        init: str = "uniform",
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        whole_number("num_tokens", num_tokens)
        whole_number("num_layers", num_layers)
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        if init_scale <= 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        self.init, self.init_scale = init, init_scale
        self.weight = nn.Parameter(torch.empty(num_layers, num_tokens, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.init == "uniform":
            nn.init.uniform_(self.weight, -self.init_scale, self.init_scale)
        elif self.init == "normal":
            nn.init.normal_(self.weight, std=self.init_scale)
        else:
            nn.init.zeros_(self.weight)

    def forward(self, layer: int) -> Tensor:
        return self.weight[layer]
