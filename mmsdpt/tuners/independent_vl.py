r"""Independent V-L prompting, the MuDPT paper's multi-modal prompt tuning (MPT): deep prompts in
both towers of CLIP, without a connection between them.

D n (d_t + d_v) parameters: 30,720 on ViT-B/16 with n = 2 at all 12 blocks.

Source: Khattak et al., MaPLe, CVPR 2023, and Miao et al., MuDPT, ICME 2023, who compare with it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmsdpt.registry import MODELS

from .base import Seams
from .layers.deep_prompts import IMAGE_SEAMS, TEXT_SEAMS, DeepPrompts


@MODELS.register_module()
class IndependentVL(DeepPrompts):
    """Deep prompts in both towers, independent of each other.

    Args:
        num_tokens: n of both towers.
        settings: ``depth`` (None: all blocks of the tower that has fewer), ``init_words``,
            ``init_std`` and ``regularisation`` of :class:`DeepPrompts`.

    Raises:
        ValueError: if the towers do not have that depth, or the number of prompts is negative.
    """

    needs: ClassVar[tuple[str, ...]] = (*TEXT_SEAMS, *IMAGE_SEAMS)

    def __init__(self, *, seams: Seams, num_tokens: int = 2, **settings: Any) -> None:
        super().__init__(
            seams=seams, num_text_tokens=num_tokens, num_image_tokens=num_tokens, **settings
        )
