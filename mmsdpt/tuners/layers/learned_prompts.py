"""Prompts that are learned from noise."""

from __future__ import annotations

import torch
from torch import nn

from .checks import positive_integer


def learned_prompts(count: int, width: int, std: float = 0.02) -> nn.Parameter:
    """Prompts (count, width) drawn from N(0, std^2).

    Raises:
        ValueError: if ``count`` is not a positive integer.
    """
    positive_integer("a number of prompts", count)
    return nn.Parameter(torch.empty(count, width).normal_(std=std))
