r"""TCP: textual-based class-aware prompt tuning (Yao et al., CVPR 2024, section 3.2), on CLIP.

A context before every class name, and before one block b prompts that a small network makes from
the class. g0_c (e) is the text feature of class c in the untuned CLIP:

    t_c  = text([start] v_1 ... v_n NAME_c . [end]), before block b P_c at the places 1 ... n
    P_c  = W_2 QuickGELU(W_1 g0_c / |g0_c| + b_1) + b_2      W_1 (e/4 x e), W_2 (n d x e/4)
    loss = cross-entropy + 8 (1 - mean_c cos(g_c, g0_c))

P_c replaces the n places and gets no position embedding, so v acts only in the blocks before b,
through the tokens after it. New classes get their own prompts, from their names. With h = e/4 there
are n d + (e + 1) h + (h + 1) n d parameters: 331,904 on ViT-B/16 with n = 4.

This follows the authors' code, where the weight of the replaced tokens is 0. From block b on, the
prompts differ between classes, so the texts have no tokens in common, and the tower runs on whole
texts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmpretrain.models.utils.clip_generator_helper import QuickGELU
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import TeacherSeam, TextInput, TextInputSeam, TokenSeam
from mmsdpt.hosts.seams import ForwardState, LossSeam
from mmsdpt.registry import MODELS
from mmsdpt.utils.templates import checked_templates

from .base import Seams
from .layers.common import cosine_distance, drawn, positive_integer
from .layers.self_consistency import Regularised

USUAL_BLOCK = 8


@MODELS.register_module()
class TCP(Regularised):
    """A context, and prompts made from each class before one block.

    Args:
        num_tokens: n.
        block: b, counted from 0; None: 8, or the last block of a tower with fewer.
        weight: Weight of the second term of the loss.
        template: Sentence whose first n tokens the context replaces.
        teacher_template: One or more sentences for g0; None: the data set's.

    Attributes:
        ctx: v (n, d), drawn from N(0, 0.02^2).
        class_net: The network that makes P_c, with the layers ``linear1``, ``gelu``, ``linear2``.

    Raises:
        ValueError: if the tower does not have that block.
        InputError: if a template has no place for the name.
    """

    needs = ("text_inputs", "text_block_inputs", "losses", "teacher")
    settings = ("num_tokens", "block", "template")

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 4,
        block: int | None = None,
        weight: float = 8.0,
        template: str = "X X X X {}.",
        teacher_template: str | Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens = positive_integer("num_tokens", num_tokens)
        (self.template,) = checked_templates([template])
        self.weight, self.teacher_template = weight, teacher_template
        (texts,) = cast(Sequence[TextInputSeam], seams["text_inputs"])
        blocks = cast(Sequence[TokenSeam], seams["text_block_inputs"])
        self._teacher = cast(TeacherSeam, seams["teacher"][0])
        most = len(blocks) - 1
        self.block = min(USUAL_BLOCK, most) if block is None else block
        if positive_integer("block", self.block) > most:
            raise ValueError(f"block must be from 1 to {most} on this host, got {block}")
        words = texts.count(template.partition("{}")[0])
        if words < num_tokens:
            raise ValueError(
                f"the template {template!r} has {words} tokens before the class name, and"
                f" num_tokens={num_tokens} need as many places: write more words there"
            )
        self.width, e = texts.widths["width"], self._teacher.widths["width"]
        self.ctx = drawn(num_tokens, self.width)
        self.class_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(e, e // 4),
                gelu=QuickGELU(),
                linear2=nn.Linear(e // 4, num_tokens * self.width),
            )
        )
        texts.connect(self, self._texts, exclusive=True)
        blocks[self.block].connect(self, self._replace, exclusive=True)
        seams["losses"][0].connect(self, self._losses)

    def _g0(self, state: ForwardState) -> Tensor:
        return self._teacher.encode_classes(state.class_names, self.teacher_template)

    def _texts(self, seam: TextInputSeam, state: ForwardState) -> TextInput:
        g0 = F.normalize(self._g0(state), dim=-1).to(self.ctx.dtype)
        state.memo[self] = self.class_net(g0).unflatten(1, (self.num_tokens, -1))  # (C, n, d)
        ids, ends = seam.tokenize([self.template.format(name) for name in state.class_names])
        x = seam.embed(ids)  # (C, L, d)
        ctx = self.ctx.to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat([x[:, :1], ctx, x[:, 1 + self.num_tokens :]], dim=1)
        return TextInput(x[0, :0], x, ends)

    def _replace(self, seam: TokenSeam, x: Tensor, state: ForwardState) -> Tensor:
        made = state.memo[self][state.chunk].to(x.dtype)  # (N, n, d)
        return torch.cat([x[:, :1], made, x[:, 1 + self.num_tokens :]], dim=1)

    def _losses(self, seam: LossSeam, state: ForwardState) -> dict[str, Tensor]:
        if self.frozen:
            return {}
        g = cast(Tensor, state.text_features)
        return dict(loss_knowledge=self.weight * cosine_distance(g, self._g0(state)))
