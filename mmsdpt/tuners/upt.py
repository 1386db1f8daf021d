r"""UPT: unified prompt tuning (Zang et al., Unified Vision and Language Prompt Learning, 2022).

One set of prompts U (2n x d_text) passes through a one-layer transformer, and each half prompts one
modality:

    U' = LN1(U + SA(U)),   U'' = U' + FFN(LN2(U')),   FFN(x) = W_2 ReLU(W_1 x)
    text:   U''[:n]                     image, stage s:   U''[n:] W_s^T + b_s

SA is self-attention with one head among the 2n prompts, FFN keeps the width, and dropout acts
inside SA, inside FFN and on the outputs of both. In the published code, SA attends over an axis of
length one, so the prompts never interact. Here they do, as in the paper.

Choices for GLIP:

- The text's prompts come after the caption in BERT's input and pass through its layers.
- Swin has a different width in each stage, while CLIP's image encoder has only one, so each stage
  has its own Linear. Its prompts are extra keys and values in the windows of every block of the
  stage. All blocks of a stage use the same prompts, because in a window encoder a row cannot pass
  from block to block.
- The prompts are computed once per forward pass, so both encoders see the same dropout mask.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows, Rows, RunBlock
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import drawn, positive_integer


@MODELS.register_module()
class UPT(Tuner):
    """Prompts for both encoders, made from one set.

    2 n d + 6 d (d + 1) + 4 d parameters for prompts and transformer, d = d_text, and (d + 1) d_s
    per stage: 5,767,488 on GLIP-L with n = 4 (the SDPT poster prints 2.75 M, less than the
    transformer of this width has).

    Args:
        num_tokens: n, prompts per modality, drawn from N(0, 0.02^2).
        dropout: Dropout rate of the transformer.
        num_prompts: The name of ``num_tokens`` in version 0.1.
    """

    needs = ("text_embeddings", "image_blocks")
    settings = ("num_tokens",)
    renamed = dict(num_prompts="num_tokens")

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 4,
        dropout: float = 0.1,
        num_prompts: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        (words,), blocks = seams["text_embeddings"], seams["image_blocks"]
        num_tokens = num_tokens if num_prompts is None else num_prompts
        self.num_tokens = positive_integer("num_tokens", num_tokens)
        self.width = width = words.widths["width"]
        self.stage_widths = {seam.widths["stage"]: seam.widths["width"] for seam in blocks}
        self.prompts = drawn(2 * num_tokens, width)  # (2n, d)
        self.attention = nn.MultiheadAttention(width, num_heads=1, dropout=dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.to_image = nn.ModuleDict(
            {str(stage): nn.Linear(width, size) for stage, size in self.stage_widths.items()}
        )
        words.connect(self, self._prompt_text)
        for seam in blocks:
            seam.connect(self, self._prompt_image)

    def unified(self) -> Tensor:
        """U'' (2n, d)."""
        u = self.prompts
        u = self.norm1(u + self.dropout(self.attention(u, u, u, need_weights=False)[0]))
        hidden = self.dropout(F.relu(self.linear1(self.norm2(u))))
        return u + self.dropout(self.linear2(hidden))

    def _of(self, state: ForwardState) -> tuple[Tensor, dict[int, Tensor]]:
        """The text's prompts (n, d), and the image's (n, d_s) by stage."""
        if self not in state.memo:
            text, image = self.unified().split(self.num_tokens)
            by_stage = {stage: self.to_image[str(stage)](image) for stage in self.stage_widths}
            state.memo[self] = text, by_stage
        return state.memo[self]

    def _prompt_text(self, seam: WordSeam, state: ForwardState) -> Rows:
        return {self: PromptRows(self._of(state)[0], keep=True)}

    def _prompt_image(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        prompts = self._of(state)[1][seam.widths["stage"]]
        return run(x, {**rows, self: PromptRows(prompts.to(x.dtype))})
