r"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023, section 3.2) on CLIP.

The text prompts P_j (n, d_t) of depth j make those of the image by a linear map of that depth:

    V_j = P_j W_j^T + b_j    (n, d_v),    j = 0 ... D - 1

P_0 are the words' places in front of the class name: with n = 2 they start as "a photo", and "of a"
stays behind them. D n d_t + D (d_t + 1) d_v parameters: 3,555,072 on ViT-B/16 with n = 2, D = 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners.layers.class_context import INIT_STD

from .deep_prompts import INIT_WORDS
from .mudpt import MuDPT


@MODELS.register_module()
class CLIPMaPLe(MuDPT):
    """:class:`MuDPT` with a linear injection for each depth, from text to image, and no image
    prompts of their own.

    The maps are drawn apart from each other; the authors' code starts those of the deep prompts
    equal.

    Args:
        num_tokens: n.
        depth: D; None: 9, or all blocks where a tower has fewer.
        init_words: See :class:`MuDPT`.
        init_std: See :class:`MuDPT`.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: for a depth that the towers do not have, or a number of prompts below 0.
    """

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
            num_tokens=num_tokens,
            depth=depth,
            injection="linear",
            direction="t2v",
            share=False,
            learn_image_prompts=False,
            init_words=init_words,
            init_std=init_std,
            frozen=frozen,
            init_cfg=init_cfg,
        )
