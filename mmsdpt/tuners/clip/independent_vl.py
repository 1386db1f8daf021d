r"""Independent V-L prompting, the MuDPT paper's multi-modal prompt tuning (MPT): deep prompts in
both towers, with nothing between them.

D n (d_t + d_v) parameters: 30,720 on ViT-B/16 with n = 2 at all 12 blocks.

Source: Khattak et al., MaPLe, CVPR 2023, and Miao et al., MuDPT, ICME 2023, who compare with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners.layers.class_context import INIT_STD

from .deep_prompts import IMAGE_SEAMS, INIT_WORDS, TEXT_SEAMS, DeepPrompts


@MODELS.register_module()
class IndependentVL(DeepPrompts):
    """Deep prompts in both towers, each for itself.

    Args:
        num_tokens: n of both towers.
        depth: D; None: all blocks, of the tower that has fewer.
        init_words: Words whose vectors the shallow text prompts start from, see
            :class:`ClassContext`; None: noise.
        init_std: All other prompts are drawn from N(0, init_std^2).
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: for a depth that the towers do not have, or a number of prompts below 0.
    """

    needs = (*TEXT_SEAMS, *IMAGE_SEAMS)

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 2,
        depth: int | None = None,
        init_words: str | None = INIT_WORDS,
        init_std: float = INIT_STD,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            seams=seams,
            num_text_tokens=num_tokens,
            num_image_tokens=num_tokens,
            depth=depth,
            init_words=init_words,
            init_std=init_std,
            frozen=frozen,
            init_cfg=init_cfg,
        )
