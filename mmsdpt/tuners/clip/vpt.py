r"""VPT-deep: visual prompt tuning (Jia et al., ECCV 2022, section 3.2) on CLIP.

The image tower has n prompts of their own in every block; the texts are the host's, with its
template. D n d_v parameters: 73,728 on ViT-B/16 with n = 8 at all 12 blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners.layers.class_context import INIT_STD

from .deep_prompts import IMAGE_SEAMS, DeepPrompts


@MODELS.register_module()
class CLIPVPT(DeepPrompts):
    """Deep prompts in the image tower alone.

    Args:
        num_tokens: n.
        depth: D; None: all blocks.
        init_std: The prompts are drawn from N(0, init_std^2), as in the CLIP methods it is compared
            with.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: for a depth that the tower does not have, or a number of prompts below 0.
    """

    needs = IMAGE_SEAMS

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 8,
        depth: int | None = None,
        init_std: float = INIT_STD,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            seams=seams,
            num_text_tokens=0,
            num_image_tokens=num_tokens,
            depth=depth,
            init_std=init_std,
            frozen=frozen,
            init_cfg=init_cfg,
        )
