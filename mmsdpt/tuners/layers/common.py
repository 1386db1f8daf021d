"""Checks of settings and small functions that most methods need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.registry import MODELS

INIT_STD = 0.02


def positive_integer(name: str, value: int, minimum: int = 1) -> int:
    """Return ``value`` (a number of tokens, a width) if it is an integer of at least ``minimum``.

    Args:
        minimum: The smallest valid value; 0 if the part may be left out.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        wanted = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return value


def chosen_depth(depth: int | None, usual: int | None, most: int, reason: str) -> int:
    """Return ``depth`` if it is from 1 to ``most``; for None the usual one, or ``most`` if that is
    less or there is none.

    Args:
        reason: Why there are no more blocks, for the message.

    Raises:
        ValueError: if the depth is out of range.
    """
    if depth is None:
        depth = min(usual or most, most)
    if positive_integer("depth", depth) > most:
        raise ValueError(f"depth must be from 1 to {most}{reason}, got {depth}")
    return depth


def drawn(*shape: int, std: float = INIT_STD) -> nn.Parameter:
    """A parameter drawn from N(0, std^2)."""
    return nn.Parameter(torch.empty(shape).normal_(std=std))


def part_class(setting: str, config: Mapping[str, Any]) -> type:
    """The registered class of a part that a setting gives as a config, ``dict(type=...)``.

    Raises:
        ValueError: if there is no class of that name.
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


def cosine_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """1 - the mean cosine of corresponding rows, a loss that keeps a tuned CLIP close to the
    untuned one.

    Args:
        features: (N, e).
        teacher: (N, e), without gradient. Neither needs to be normalised.

    Returns:
        A scalar in the teacher's dtype, whatever dtype autocast gave the features.
    """
    return 1 - F.cosine_similarity(features.to(teacher.dtype), teacher, dim=-1).mean()


def key_of(name: str) -> str:
    """A parameter's name without dots, which PyTorch does not allow in the name of a parameter."""
    return name.replace(".", "__")
