"""Prompts that are learned from noise."""

from __future__ import annotations

import torch
from torch import nn

from .checks import whole_number


def learned_prompts(count: int, width: int, std: float = 0.02) -> nn.Parameter:
    """Prompts (count, width) drawn from N(0, std^2).

    Raises:
        ValueError: if ``count`` is not a whole number of at least 1.
    """
    whole_number("a number of prompts", count)
    return nn.Parameter(torch.empty(count, width).normal_(std=std))
