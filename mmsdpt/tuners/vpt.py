r"""VPT-deep: visual prompt tuning (Jia et al., ECCV 2022, section 3.2), on Swin and on CLIP.

Every block i has its own p prompts P_i (p x d_i). They are appended to the block's input, and their
outputs are dropped:

    (x_i, _) = block_i([x_{i-1}; P_i])

On GLIP's Swin (:class:`VPT`) they pass the block's first norm, and every window sees them as p
extra keys and values. Their relative position bias is zero, and the mask of the shifted windows
does not hide them:

    softmax(q [K; K_P]^T) [V; V_P]

The number of parameters is p times the sum of the blocks' widths: 18,048 p on GLIP-L, 180,480 with
p = 10.

On CLIP (:class:`CLIPVPT`) they are rows after the patches; those of the first block pass
``pre_norm``, like the patches. The texts are the host's, with its template. D p d_v parameters:
73,728 on ViT-B/16 with p = 8 at all 12 blocks.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows, Rows, RunBlock
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import INIT_STD, positive_integer
from .layers.deep_prompts import IMAGE_SEAMS, DeepPrompts

PATCH_SIZE = 4


@MODELS.register_module()
class VPT(Tuner):
    """New prompts in every block of the image encoder.

    The prompts are drawn from U(-v, v), v = sqrt(6 / (3 s^2 + d)): Xavier's bound for an image
    patch of s x s pixels and three colours. d is the block's width. The released code uses the
    first stage's width for all stages. Because of the norm before the attention, this differs only
    like another learning rate.

    The paper puts prompts before the image's positions, here they come after them. This makes no
    difference: Swin's attention gets positions only through the bias, which is zero for prompts.
    The detector's pyramid is made only from the image's positions.

    On CLIP, use :class:`CLIPVPT`. This class still works there for old files: it starts like
    CLIPVPT, from N(0, 0.02^2), but its first prompts do not pass ``pre_norm``.

    Args:
        num_tokens: p, prompts per block.
        patch_size: s.

    Raises:
        ValueError: if ``num_tokens`` is not a positive integer.
    """

    needs = ("image_blocks",)
    settings = ("num_tokens",)

    def __init__(
        self, *, seams: Seams, num_tokens: int = 10, patch_size: int = PATCH_SIZE, **common: Any
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens = positive_integer("num_tokens", num_tokens)
        self.widths = [seam.widths["width"] for seam in seams["image_blocks"]]
        self.prompts = nn.ParameterList(
            nn.Parameter(torch.empty(num_tokens, width)) for width in self.widths
        )
        on_clip = set(IMAGE_SEAMS) <= set(seams)
        for prompt, width in zip(self.prompts, self.widths, strict=True):
            bound = math.sqrt(6 / (3 * patch_size**2 + width))
            if on_clip:
                nn.init.normal_(prompt, std=INIT_STD)
            else:
                nn.init.uniform_(prompt, -bound, bound)
        if on_clip:
            print_log(
                "VPT on CLIP is kept for its old files: it starts from N(0, 0.02^2) as CLIPVPT"
                " does, but its first prompts skip pre_norm; use mmsdpt.CLIPVPT for new trainings",
                logger="current",
                level=logging.WARNING,
            )
        for seam in seams["image_blocks"]:
            seam.connect(self, self._run)

    def _run(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        return run(x, {**rows, self: PromptRows(self.prompts[seam.index])})


@MODELS.register_module()
class CLIPVPT(DeepPrompts):
    """Deep prompts only in the image tower of CLIP.

    Args:
        num_tokens: p.
        depth: D; None: all blocks.
        init_std: The prompts are drawn from N(0, init_std^2), as in the other CLIP methods.
        common: Other settings of :class:`DeepPrompts`, such as ``regularisation``.

    Raises:
        ValueError: if the tower does not have that depth, or the number of prompts is negative.
    """

    needs = IMAGE_SEAMS

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 8,
        depth: int | None = None,
        init_std: float = INIT_STD,
        **common: Any,
    ) -> None:
        super().__init__(
            seams=seams,
            num_text_tokens=0,
            num_image_tokens=num_tokens,
            depth=depth,
            init_std=init_std,
            **common,
        )
