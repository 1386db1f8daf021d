r"""DPT: dual modality prompt tuning (Xing et al., IEEE Transactions on Multimedia 2023).

Three kinds of prompts: CoOp's context in the text encoder, VPT-deep's prompts in the early blocks
of the image encoder, and class-aware visual prompts (CAVPT) in its late blocks. A class-aware
prompt is made from the text feature g_c of a class c, the block's tokens x, and learned tokens t (K
x d):

    m_c = W_g g_c + b_g                                             the class in the image's width
    a_c = W_v softmax((W_q m_c)(W_k y)^T / sqrt(32)) y,  y = [x; t]  what the image shows of it
    prompt_c = LN(a_c + m_c)

An auxiliary loss predicts from the prompts which classes are in the image. As in the authors' code,
W_q and W_k (32 x d) and W_v (d x d) have no bias, x is detached, and the prompts are dropped after
their block.

Choices for GLIP:

- The context (M = 16) comes after the caption. All classes share it, because all are in one
  caption. g_c is the mean over the class's tokens in the encoded caption.
- Late blocks are those of the last stage. Prompts are extra keys and values in every window.
- The paper keeps the K = 10 classes that zero-shot CLIP finds most likely. GLIP's image and text
  features have no common space before its fusion layers, so the scores of the auxiliary loss are
  used instead: every class of the caption gets a prompt and a score, and the prompts of the K best
  classes act.
- An image always has K rows, so nothing depends on the other captions of a batch. If a caption has
  fewer classes, learned tokens fill the remaining rows.
- The authors' loss is a cross-entropy over all classes, of a linear classifier on LN'(a_c), with
  fixed classes and one class per image. In their first epochs another term is added; it is left out
  here. GLIP classifies against text, so here m_c are the classifier's weights of class c, and each
  class of the caption is present or not: BCE(LN'(a_c) . m_c / sqrt(d), c in ground truth), averaged
  over classes, images and late blocks, and weighted by 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.seams import BlockSeam, ForwardState, LossSeam, PromptRows, Rows, RunBlock
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import drawn, positive_integer


class ClassAwarePrompts(BaseModule):
    """The class-aware visual prompts of one block."""

    def __init__(self, text_width: int, width: int, num_prompts: int, key_width: int) -> None:
        super().__init__()
        self.tokens = drawn(num_prompts, width)
        self.class_net = nn.Linear(text_width, width)
        self.query = nn.Linear(width, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.score_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, classes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts for a batch.

        Args:
            x: (B, N, d), the block's input.
            classes: (B, C, d_text).
            valid: (B, C), False at padding.

        Returns:
            Prompts (B, K, d), and scores (B, C), logits of the classes' presence.
        """
        tokens = self.tokens.expand(len(x), -1, -1).to(x.dtype)  # (B, K, d)
        classes = self.class_net(classes)  # (B, C, d)
        source = torch.cat([x.detach(), tokens], dim=1)  # (B, N + K, d)
        query, key = self.query(classes), self.key(source)
        weights = (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(-1)
        found = self.value(weights @ source)  # (B, C, d)
        scores = (self.score_norm(found) * classes).sum(-1) / math.sqrt(found.shape[-1])
        prompts = self.norm(found + classes)
        count = min(prompts.shape[1], tokens.shape[1])
        if count < prompts.shape[1]:
            best = scores.masked_fill(~valid, -torch.inf).topk(count).indices  # (B, K)
            best = best.sort().values  # the caption's order
            prompts = prompts.gather(1, best.unsqueeze(-1).expand(-1, -1, prompts.shape[-1]))
            valid = valid.gather(1, best)
        prompts = torch.where(valid.unsqueeze(-1), prompts.to(x.dtype), tokens[:, :count])
        return torch.cat([prompts, tokens[:, count:]], dim=1), scores


@dataclass
class _Pass:
    """Values computed in a forward pass.

    Attributes:
        classes: (B, C, d_text); C is the largest number of classes in a caption.
        valid: (B, C), False at padding.
        scores: (B, C) for each late block, by its index.
    """

    classes: Tensor
    valid: Tensor
    scores: dict[int, Tensor] = field(default_factory=dict)


def class_features(hidden: Tensor, class_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean feature of each class.

    Args:
        hidden: (B, L, d).
        class_maps: (C_i, max_tokens) for each image, above 0 at tokens that belong to the class.

    Returns:
        (B, C, d), where C is the largest C_i, and (B, C), False at padding.
    """
    count = max(len(class_map) for class_map in class_maps)
    maps = hidden.new_zeros(len(hidden), count, hidden.shape[1])
    valid = torch.zeros(maps.shape[:2], dtype=torch.bool, device=hidden.device)
    for i, class_map in enumerate(class_maps):
        own = class_map[:, : hidden.shape[1]] > 0
        maps[i, : len(own), : own.shape[1]] = own.to(maps)
        valid[i, : len(own)] = True
    return maps @ hidden / maps.sum(-1, keepdim=True).clamp(min=1), valid


@MODELS.register_module()
class DPT(Tuner):
    """Prompts in both encoders, with class-aware prompts in the image encoder's last stage.

    M d_text + V d per early block + (d_text + 1) d + 2 key_width d + d^2 + K d + 4 d per late
    block: 7,482,624 on GLIP-L (the SDPT poster prints 80.71 M).

    Args:
        num_context: M, context vectors of the text, N(0, 0.02^2).
        num_visual: V, prompts per early block, N(0, 0.02^2).
        num_class_prompts: K, class-aware prompts per late block, and as many learned tokens,
            N(0, 0.02^2).
        key_width: Width of queries and keys in the late blocks.
        loss_weight: Weight of the auxiliary loss.

    Raises:
        ValueError: if ``loss_weight`` is not above 0 (the norms of the loss would not train), a
            count is not a positive integer, or another tuner runs the last layers of both encoders
            in parallel.
    """

    needs = ("text_embeddings", "image_blocks", "losses")
    settings = ("num_context", "num_visual", "num_class_prompts", "key_width")
    image_depends_on_text = True
    image_blocks_read_text = True

    def __init__(
        self,
        *,
        seams: Seams,
        num_context: int = 16,
        num_visual: int = 10,
        num_class_prompts: int = 10,
        key_width: int = 32,
        loss_weight: float = 0.3,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        if loss_weight <= 0:
            raise ValueError(f"loss_weight must be above 0, got {loss_weight}")
        for name, count in dict(
            num_context=num_context, num_visual=num_visual, num_class_prompts=num_class_prompts
        ).items():
            positive_integer(name, count)
        for seam in seams.get("encoder_pairs", ()):
            for other in seam.tuners():
                raise ValueError(
                    f"DPT needs the finished text in the image encoder, but {type(other).__name__}"
                    " runs the last layers of both encoders side by side, so they cannot be"
                    " stacked: remove one of them"
                )
        (words,), (losses,), blocks = (
            seams["text_embeddings"],
            seams["losses"],
            seams["image_blocks"],
        )
        self.num_visual, self.num_class_prompts = num_visual, num_class_prompts
        self.num_context, self.key_width, self.loss_weight = num_context, key_width, loss_weight
        self.text_width = words.widths["width"]
        last = blocks[-1].widths["stage"]
        self.early = {b.index: b.widths["width"] for b in blocks if b.widths["stage"] != last}
        self.late = {b.index: b.widths["width"] for b in blocks if b.widths["stage"] == last}

        self.context = drawn(num_context, self.text_width)
        self.visual = nn.ParameterDict(
            {str(i): drawn(num_visual, width) for i, width in self.early.items()}
        )
        self.class_aware = nn.ModuleDict(
            {
                str(i): ClassAwarePrompts(self.text_width, width, num_class_prompts, key_width)
                for i, width in self.late.items()
            }
        )
        words.connect(self, self._prompt_text)
        for block in blocks:
            block.connect(self, self._prompt_image)
        losses.connect(self, self._losses)

    def _prompt_text(self, seam: WordSeam, state: ForwardState) -> Rows:
        return {self: PromptRows(self.context, keep=True)}

    def _prompt_image(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        if seam.index in self.early:
            prompts = self.visual[str(seam.index)]
        else:
            known = self._of(state)
            prompts, scores = self.class_aware[str(seam.index)](x, known.classes, known.valid)
            known.scores[seam.index] = scores
        return run(x, {**rows, self: PromptRows(prompts.to(x.dtype))})

    def _of(self, state: ForwardState) -> _Pass:
        if self in state.memo:  # state.text may have changed since
            return cast("_Pass", state.memo[self])
        if state.text is None or not state.class_maps:
            raise ValueError(
                "DPT's class-aware prompts need the encoded caption before the image's last stage,"
                " but this forward pass has none: encode the captions first, with their class maps"
            )
        known = _Pass(*class_features(state.text["hidden"], state.class_maps))
        state.memo[self] = known
        return known

    def _losses(self, seam: LossSeam, state: ForwardState, encode: Any) -> dict[str, Tensor]:
        if self.frozen:
            return {}
        known = self._of(state)
        present = torch.zeros_like(known.valid)
        for i, sample in enumerate(state.samples):
            present[i, sample.gt_instances.labels] = True
        scores = torch.stack(list(known.scores.values()))[:, known.valid]
        target = present[known.valid].to(scores).expand_as(scores)
        loss = F.binary_cross_entropy_with_logits(scores, target)
        return {"loss_class_prompts": self.loss_weight * loss}
