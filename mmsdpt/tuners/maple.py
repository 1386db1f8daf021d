r"""MaPLe: Multi-modal Prompt Learning (Khattak et al., CVPR 2023).

Text prompts P_j (n x d_text) at J depths of the text encoder, replaced layer by layer, and at each
depth a coupling that makes the image prompts from them (section 3.2):

    V_j = P_j W_j^T + b_j    (n x d_image),    j = 0 ... J - 1

Trainable: J n d_text + sum_j (d_text + 1) d_image(j), 5,181,504 on GLIP-L with n = 2 and J = 9, the
paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS

from .base import Tuner
from .layers.coupled_prompts import CoupledPrompts


@MODELS.register_module()
class MaPLe(Tuner):
    """Text prompts at several depths, each with a coupling to an image block.

    The defaults are the paper's. What it does not say for GLIP:

    - Swin has four stages of unlike widths, so "the first J layers" becomes J evenly spaced blocks,
      the first and the last included.
    - Every window of a block sees the image prompts, as keys and values; see
      :class:`CoupledPrompts` for why nothing is lost.
    - The words' prompts stand behind the caption, not before it: GLIP's class positions stay.
    - All couplings are drawn apart from each other; the paper's code starts the deeper ones equal.

    Args:
        num_tokens: n, prompts per depth.
        depth: J; None: nine, or fewer where the text encoder has fewer layers.
        init_words: Text whose first n word vectors are the prompts of depth 0 at the start; empty:
            drawn like the others.
        init_std: The other prompts are drawn from N(0, init_std^2).
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: if an encoder has fewer than ``depth`` layers, or there are no tokens.
    """

    needs = ("text_embeddings", "text_blocks", "image_blocks")

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 2,
        depth: int | None = None,
        init_words: str = "a photo of a",
        init_std: float = 0.02,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        self.prompts = CoupledPrompts(seams, num_tokens, depth, init_words, init_std)
        self.prompts.connect(self)

    def start_from_host(self) -> None:
        self.prompts.start_from_words()

    def config(self) -> dict[str, Any]:
        return dict(
            num_tokens=self.prompts.num_tokens,
            depth=self.prompts.depth,
            image_blocks=list(self.prompts.image_blocks),
        )

    def num_trainable(self) -> int:
        """J n d_text + sum over the image blocks of (d_text + 1) d_image."""
        return self.prompts.num_trainable()
