"""Parameters away from where they start."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def shake(module: nn.Module, scale: float = 0.3) -> None:
    """Move every parameter: at the start biases are zero, norms one, many tuners without effect."""
    for parameter in module.parameters():
        parameter.add_(scale * torch.randn_like(parameter))
