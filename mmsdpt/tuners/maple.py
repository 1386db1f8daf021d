r"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023, section 3.2), on GLIP and CLIP.

Text prompts P_j (n x d_text) at J depths of the text encoder, replaced layer by layer. At each
depth a coupling makes the image prompts from them:

    V_j = P_j W_j^T + b_j    (n x d_image),    j = 0 ... J - 1

J n d_text + sum_j (d_text + 1) d_image(j) parameters: with the paper's n = 2 and J = 9, 5,181,504
on GLIP-L and 3,555,072 on CLIP with ViT-B/16.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.coupled_prompts import CoupledPrompts
from .layers.deep_prompts import IMAGE_SEAMS, TEXT_SEAMS, DeepPrompts, Prompts
from .layers.injection import PerDepth


@MODELS.register_module()
class MaPLe(Tuner):
    """Text prompts at several depths of GLIP, each with a coupling to an image block.

    The defaults are the paper's. Our choices for GLIP, which the paper does not cover:

    - Swin has four stages of different widths, so "the first J layers" becomes J evenly spaced
      blocks, the first and the last included.
    - Every window of a block sees the image prompts, as keys and values; see
      :class:`CoupledPrompts` for how this differs from the paper.
    - The text prompts come after the caption, not before it, so the positions of GLIP's classes do
      not change.
    - Each coupling has its own random initial values; in the authors' code the deeper ones start
      equal.

    Args:
        num_tokens: n, prompts per depth.
        depth: J; None: nine, or fewer if the text encoder has fewer layers.
        init_words: Text whose first n word vectors the prompts of depth 0 start from. Empty: they
            are drawn like the others.
        init_std: The other prompts are drawn from N(0, init_std^2).

    Raises:
        ValueError: if an encoder has fewer than ``depth`` layers, or there are no tokens.
    """

    needs = ("text_embeddings", "text_blocks", "image_blocks")
    settings = ("prompts.num_tokens", "prompts.depth", "prompts.image_blocks")

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 2,
        depth: int | None = None,
        init_words: str = "a photo of a",
        init_std: float = 0.02,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.prompts = CoupledPrompts(seams, num_tokens, depth, init_words, init_std)
        self.prompts.connect(self)

    def start_from_host(self) -> None:
        self.prompts.start_from_words()


@MODELS.register_module()
class CLIPMaPLe(DeepPrompts):
    """Text prompts in CLIP's text tower, which are mapped to the image tower's prompts.

    P_0 replaces the first words before the class name: with n = 2 the prompts start as "a photo",
    and "of a" stays after them. Each map has its own random initial values; in the authors' code
    those of the deep prompts start equal.

    Args:
        num_tokens: n.
        settings: ``depth`` (None: 9, or all blocks if a tower has fewer), ``init_words``,
            ``init_std`` and ``regularisation`` of :class:`DeepPrompts`.

    Raises:
        ValueError: if the towers do not have that depth, or the number of prompts is negative.
    """

    needs = (*TEXT_SEAMS, *IMAGE_SEAMS)
    usual_depth = 9

    def __init__(self, *, seams: Seams, num_tokens: int = 2, **settings: Any) -> None:
        super().__init__(
            seams=seams,
            num_text_tokens=num_tokens,
            num_image_tokens=num_tokens,
            learn_image_prompts=False,
            **settings,
        )
        if num_tokens:
            self.t2i_shallow = nn.Linear(self.text_width, self.image_width)
            if self.num_deep:
                self.t2i_deep = PerDepth(
                    nn.Linear(self.text_width, self.image_width) for _ in range(self.num_deep)
                )

    def prompts(self) -> Prompts:
        """The text prompts as they are, and the image prompts made from them."""
        deep = None if self.text_deep is None else self.t2i_deep(self.text_deep)
        return Prompts(self.ctx, self.text_deep, self.t2i_shallow(self.ctx), deep)

    def config(self) -> dict[str, Any]:
        # Tuner files describe it as MuDPT, which is the same with these settings.
        return dict(
            super().config(),
            variant="code",
            injection="linear",
            direction="t2v",
            share=False,
            injection_layers=1,
            learn_image_prompts=False,
        )
