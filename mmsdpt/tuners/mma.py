r"""MMA: multi-modal adapter (Yang et al., CVPR 2024, section 3.2), on CLIP.

Each of the last L blocks of both towers has a parallel adapter. Both towers share its middle layer:

    block'(x) = block(x) + s Up(h'),    h = ReLU(Down(LN_1(x))),    h' = ReLU(Shared(h))

Each tower and block has its own Down (d -> r) and Up (r -> d); each block has one Shared (r -> r).
All have a bias. LN_1 is the block's own first norm, frozen. Weights start from Kaiming's normal
distribution (fan out, gain sqrt(2)), biases from zero. s = 0.001 keeps the model close to CLIP.

The gradient of the adapters' parameters is multiplied by 1/s, as in the authors' code, but the
gradient of x is not. So the adapters train as if s were 1; otherwise SGD would move them a thousand
times less.

L (2 r (d_t + d_v) + d_t + d_v + 2 r + r^2 + r) parameters: 674,560 on ViT-B/16 with L = 8, r = 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import BranchSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import chosen_depth, positive_integer

USUAL_DEPTH = 8


class _ScaleGradient(torch.autograd.Function):
    """The identity, with its gradient multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.factor * gradient, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x``, with its gradient multiplied by ``factor``."""
    return _ScaleGradient.apply(x, factor)


@MODELS.register_module()
class MMA(Tuner):
    """Adapters parallel to the last blocks of both towers, with a shared middle layer.

    Args:
        depth: L; None: 8, or all blocks if a tower has fewer.
        rank: r.
        scale: s.

    Attributes:
        text_down, text_up, image_down, image_up: Down and Up of each of the L blocks, in their
            order.
        shared: Shared of each of the L blocks.

    Raises:
        ValueError: if the towers do not have that depth, or the scale is not above 0.
    """

    needs = ("text_block_branches", "image_block_branches")
    settings = ("depth", "rank", "scale")

    def __init__(
        self,
        *,
        seams: Seams,
        depth: int | None = None,
        rank: int = 32,
        scale: float = 0.001,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        towers = {
            "text": cast(Sequence[BranchSeam], seams["text_block_branches"]),
            "image": cast(Sequence[BranchSeam], seams["image_block_branches"]),
        }
        most = min(map(len, towers.values()))
        self.depth = chosen_depth(depth, USUAL_DEPTH, most, " on this host")
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        self.rank, self.scale = positive_integer("rank", rank), float(scale)
        self.shared = nn.ModuleList(nn.Linear(rank, rank) for _ in range(self.depth))
        self.widths = {name: places[0].widths["width"] for name, places in towers.items()}
        for name, width in self.widths.items():
            down = nn.ModuleList(nn.Linear(width, rank) for _ in range(self.depth))
            up = nn.ModuleList(nn.Linear(rank, width) for _ in range(self.depth))
            self.add_module(f"{name}_down", down)
            self.add_module(f"{name}_up", up)
            for i, place in enumerate(towers[name][-self.depth :]):
                place.connect(self, partial(self._branch, name, i))
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(linear.bias)

    def _branch(self, tower: str, i: int, seam: BranchSeam, x: Tensor) -> Tensor:
        down, up = getattr(self, f"{tower}_down")[i], getattr(self, f"{tower}_up")[i]
        h = down(scale_gradient(x.to(up.weight.dtype), self.scale)).relu()
        y = up(self.shared[i](h).relu())
        return self.scale * scale_gradient(y, 1 / self.scale).to(x.dtype)
