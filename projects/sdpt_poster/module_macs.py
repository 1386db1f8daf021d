"""Count as the SDPT poster counts: module by module, on GLIP's original code.

The authors profile GLIP with `thop <https://github.com/Lyken17/pytorch-OpCounter>`_ 0.1, one image
of 800 x 800. thop hooks modules whose class it knows *exactly* and adds up

=====================  ===========================================================
Linear                 inputs x outputs per row
Conv2d                 kernel x channels in x channels out per position
LayerNorm              4 per element
Softmax                3 n - 1 per row of n
AdaptiveAvgPool2d      inputs + 1 per output
=====================  ===========================================================

Bias, GroupNorm, activations, deformable convolution, and every product that is no module (all
attention) are not seen. Three things of the original code matter: the FPN's lateral and output
convolutions are of a class of its own, which thop does not know; a 1 x 1 convolution to 80 class
logits runs without being used; and the pooling of the dynamic ReLU is a module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmsdpt.hosts.glip.dyconv import DyReLU


def _linear(module: Any, x: Tensor, out: Tensor) -> int:
    return module.in_features * out.numel()


def _conv(module: Any, x: Tensor, out: Tensor) -> int:
    return math.prod(module.weight.shape[1:]) * out.numel()


def _layer_norm(module: Any, x: Tensor, out: Tensor) -> int:
    return (4 if module.elementwise_affine else 2) * x.numel()


def _softmax(module: Any, x: Tensor, out: Tensor) -> int:
    n = x.shape[module.dim]
    return x.numel() // n * (3 * n - 1)


def _pool(module: Any, x: Tensor, out: Tensor) -> int:
    return x.numel() + out.numel()


def _pool_inside(module: Any, x: Tensor, out: Tensor) -> int:
    return x.numel() + math.prod(x.shape[:2])


_RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.LayerNorm: _layer_norm,
    nn.Softmax: _softmax,
    nn.AdaptiveAvgPool2d: _pool,
    DyReLU: _pool_inside,
}


def _class_logits(num_classes: int, module: Any, x: Tensor, out: Tensor) -> int:
    """The unused 1 x 1 convolution, at a module that runs once per level."""
    return x.numel() * num_classes


class ModuleCounter:
    """Counts by the poster's rules while it is entered.

    Args:
        model: A GLIP.

    Attributes:
        total: The sum so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.total = 0
        self._hooks: list[Any] = []

    def __enter__(self) -> ModuleCounter:
        unseen = set(_own_convolutions(self.model))
        for module in self.model.modules():
            for kind, rule in _RULES.items():
                if isinstance(module, kind) and module not in unseen:
                    self._hook(module, rule)
        head = self.model.bbox_head
        self._hook(head.head.centerness, partial(_class_logits, head.num_classes))
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _hook(self, module: nn.Module, rule: Callable[[Any, Tensor, Tensor], int]) -> None:
        self._hooks.append(module.register_forward_hook(partial(self._add, rule)))

    def _add(self, rule: Callable[..., int], module: nn.Module, args: Any, out: Any) -> None:
        self.total += rule(module, args[0], out)


def _own_convolutions(model: nn.Module) -> Iterator[nn.Module]:
    """Convolutions of the FPN that the original code builds from a class of its own."""
    laterals = getattr(model.neck, "lateral_convs", ())
    outputs = getattr(model.neck, "fpn_convs", ())[: len(laterals)]
    for block in (*laterals, *outputs):
        yield from (module for module in block.modules() if isinstance(module, nn.Conv2d))
