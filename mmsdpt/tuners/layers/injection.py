r"""Injections: maps from the prompts of one tower to the width of the other, at each depth.

    linear:         Y = X W^T + b
    transformer:    Y = Lin(LN(Block^k(LN(X))))

    Block:              x <- x + MHA(LN(x)),    x <- x + W_2 QuickGELU(W_1 LN(x))
    post-norm Block:    x <- LN(x + MHA(x)),    x <- LN(x + W_2 QuickGELU(W_1 x))

X (m, n, d_in) are the n prompts of m depths, Y (m, n, d_out). The depths are the batch: attention
runs over the n prompts of one depth, without a mask. The hidden width is 4 d_in. There is no
dropout, and all norms have eps 1e-5.

You can use your own registered module instead. Its constructor takes ``d_in`` and ``d_out``, and
its forward pass maps (m, n, d_in), and (n, d_in), to the same shape with d_out. Each direction has
one module. With the class attribute ``own_shallow = True`` the shallow prompts get a separate one,
and MuDPT's ``share=False`` gives each depth its own.

Source: Miao et al., MuDPT: Multi-modal Deep-symphysis Prompt Tuning for Large Pre-trained
Vision-Language Models, ICME 2023, section II-B1 (Injection Model), and the authors' code.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from mmpretrain.models.utils.clip_generator_helper import QuickGELU
from torch import Tensor, nn

from mmsdpt.registry import MODELS

from .common import positive_integer

HEAD_WIDTH = 64
EPS = 1e-5


@MODELS.register_module()
class InjectionLinear(nn.Linear):
    """A linear map with (d_in + 1) d_out parameters.

    Args:
        d_in: Width of the prompts.
        d_out: Width of the other tower.
    """

    own_shallow: ClassVar[bool] = True
    """Whether the shallow prompts get their own map, separate from that of the deep prompts."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out)


class PerDepth(nn.ModuleList):
    """One map for each depth, from (m, n, d_in) to (m, n, d_out)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(prompts) for layer, prompts in zip(self, x, strict=True)])


@MODELS.register_module()
class InjectionTransformer(nn.Module):
    """The injection model with self-attention, the same for all depths.

    k (12 d_in^2 + 13 d_in) + (d_in + 1) d_out parameters, and 4 d_in for the outer norms.

    Args:
        d_in: Width of the prompts. The number of heads is d_in // 64, at least one.
        d_out: Width of the other tower.
        num_layers: k, number of blocks.
        post_norm: Whether the norms come after the residuals, see the formulas of this file.
        outer_norms: Whether there are norms before and after the blocks.

    Shape:
        (m, n, d_in) or (n, d_in) to the same with d_out.

    Raises:
        ValueError: if ``num_layers`` is not a positive integer, or the width cannot be split into
            the heads.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        num_layers: int = 1,
        post_norm: bool = False,
        outer_norms: bool = True,
    ) -> None:
        super().__init__()
        positive_integer("injection_layers", num_layers)
        self.norm_in = nn.LayerNorm(d_in, eps=EPS) if outer_norms else nn.Identity()
        self.blocks = nn.ModuleList(InjectionBlock(d_in, post_norm) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(d_in, eps=EPS) if outer_norms else nn.Identity()
        self.linear = nn.Linear(d_in, d_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        return self.linear(self.norm_out(x))


class InjectionBlock(nn.Module):
    """One block, see the formulas of this file. Maps (m, n, d) or (n, d) to the same shape.

    Raises:
        ValueError: if d cannot be split into the heads.
    """

    def __init__(self, width: int, post_norm: bool = False) -> None:
        super().__init__()
        heads = max(1, width // HEAD_WIDTH)
        if width % heads:
            raise ValueError(
                f"a transformer injection from width {width} has {heads} heads"
                f" (width // {HEAD_WIDTH}), into which {width} cannot be split: use"
                " injection='linear', or a tower whose width is a multiple of"
                f" {HEAD_WIDTH}"
            )
        self.post_norm = post_norm
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.post_norm:
            x = self.norm1(x + self._attend(x))
            return self.norm2(x + self.mlp(x))
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.attention(x, x, x, need_weights=False)[0])
