"""What most methods need of their settings and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmsdpt.registry import MODELS

INIT_STD = 0.02


def positive_integer(name: str, value: int, minimum: int = 1) -> int:
    """``value``, if it is an integer of at least ``minimum``: a number of tokens, a width.

    Args:
        minimum: The smallest that makes sense; 0 where the part may be left out.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        wanted = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return value


def drawn(*shape: int, std: float = INIT_STD) -> nn.Parameter:
    """A parameter drawn from N(0, std^2)."""
    return nn.Parameter(torch.empty(shape).normal_(std=std))


def part_class(setting: str, config: Mapping[str, Any]) -> type:
    """The registered class of a part that a setting gives by its config, ``dict(type=...)``.

    Raises:
        ValueError: if there is none of that name.
    """
    name = config.get("type")
    found = MODELS.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"{setting}={dict(config)} must name a registered module, such as"
            " dict(type='mmsdpt.MyModule'): register its class with @MODELS.register_module() of"
            " mmsdpt.registry, and name its file in the config's custom_imports"
        )
    return found
