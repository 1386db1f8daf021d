"""Prompts that are learned from noise."""

from __future__ import annotations

import torch
from torch import nn


def learned_prompts(count: int, width: int, std: float = 0.02) -> nn.Parameter:
    """Prompts (count, width) drawn from N(0, std^2).

    Raises:
        ValueError: if ``count`` is not a whole number of at least 1.
    """
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"a number of prompts must be a whole number of at least 1, got {count!r}")
    return nn.Parameter(torch.empty(count, width).normal_(std=std))
