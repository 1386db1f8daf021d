r"""VPT-deep: visual prompt tuning (Jia et al., ECCV 2022, section 3.2), on Swin.

Every block i has p prompts P_i (p x d_i) of its own. They join the block's input, pass its first
norm, and are seen by every window as p extra keys and values, with relative position bias zero and
unmasked by the shift; what the block makes of them is dropped:

    (x_i, _) = block_i([x_{i-1}; P_i])                      windows: softmax(q [K; K_P]^T) [V; V_P]

p times the sum of the blocks' widths parameters: 18,048 p on GLIP-L, 180,480 with p = 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows, Rows, RunBlock, Seam
from mmsdpt.registry import MODELS

from .base import Tuner
from .layers.checks import whole_number

PATCH_SIZE = 4


@MODELS.register_module()
class VPT(Tuner):
    """Fresh prompts in every block of the image encoder.

    The prompts are drawn from U(-v, v), v = sqrt(6 / (3 s^2 + d)): Xavier's bound for an image
    patch of s x s pixels and three colours. d is the block's width; the released code takes the
    first stage's for all stages, which the norm in front of the attention makes a matter of the
    learning rate.

    The paper prepends prompts; here they come behind the image's positions, which is the same, as
    Swin's attention knows positions only through the bias, and that of prompts is zero. The
    detector's pyramid is made of the image's positions alone.

    Args:
        num_tokens: p, prompts per block.
        patch_size: s.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: if ``num_tokens`` is no positive whole number.
    """

    needs = ("image_blocks",)

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 10,
        patch_size: int = PATCH_SIZE,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        self.num_tokens = whole_number("num_tokens", num_tokens)
        self.widths = [seam.widths["width"] for seam in seams["image_blocks"]]
        self.prompts = nn.ParameterList(
            nn.Parameter(torch.empty(num_tokens, width)) for width in self.widths
        )
        for prompt, width in zip(self.prompts, self.widths, strict=True):
            bound = math.sqrt(6 / (3 * patch_size**2 + width))
            nn.init.uniform_(prompt, -bound, bound)
        for seam in seams["image_blocks"]:
            seam.connect(self, self._run)

    def _run(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        return run(x, {**rows, self: PromptRows(self.prompts[seam.index])})

    def config(self) -> dict[str, Any]:
        return dict(num_tokens=self.num_tokens)

    def num_trainable(self) -> int:
        """p times the sum of the blocks' widths."""
        return self.num_tokens * sum(self.widths)
