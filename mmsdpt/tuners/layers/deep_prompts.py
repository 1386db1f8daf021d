r"""Deep prompts in the towers of CLIP, shared by VPT, independent V-L prompts, MaPLe and MuDPT.

A tower with n prompts and depth D has shallow prompts, which enter with its input, and m = D - 1
sets of deep prompts. Before block i = 1 ... m (counted from 0), the i-th set replaces the outputs
of the earlier prompts. The last set passes through to the end.

    text:     [start] ctx (other words) NAME . [end] + positions,    places 1 ... n replaced
    image:    pre_norm([class | patches] + positions; shallow),      the last n rows replaced

So deep text prompts get no position embedding, and deep image prompts do not pass ``pre_norm``.

Shapes: n prompts, m depths, d_t and d_v the widths of the text and the image tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam, TokenSeam
from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows, Rows, RowSeam, RunBlock
from mmsdpt.tuners.base import Seams

from .class_context import ClassContext
from .common import INIT_STD, chosen_depth, drawn, positive_integer
from .self_consistency import Regularised

TEXT_SEAMS = ("text_inputs", "text_block_inputs")
IMAGE_SEAMS = ("image_embeddings", "image_blocks")
INIT_WORDS = "a photo of a"


@dataclass(frozen=True)
class Prompts:
    """The prompts of both towers; None for those that do not exist.

    Attributes:
        ctx: (n, d_t), the text tower's shallow prompts.
        text_deep: (m, n, d_t).
        image_shallow: (n, d_v).
        image_deep: (m, n, d_v).
    """

    ctx: Tensor | None
    text_deep: Tensor | None
    image_shallow: Tensor | None
    image_deep: Tensor | None


class DeepPrompts(Regularised):
    """Learned prompts in one or both towers, at the first D blocks.

    A tower with 0 prompts does not change. If both have 0, the host is as without a tuner.

    Args:
        num_text_tokens: n of the text tower. With 0, the texts are the host's, with its template.
        num_image_tokens: n of the image tower.
        depth: D; None: :attr:`usual_depth`, or all blocks if a tower has fewer.
        init_words: Words that ``ctx`` starts from, see :class:`ClassContext`; None: random values.
        init_std: All other prompts are drawn from N(0, init_std^2).
        keep_words: Whether ``init_words`` after the n-th token stay, see :class:`ClassContext`.
        learn_image_prompts: Set False in a subclass that makes the image prompts itself.
        more_depths: Sets of deep prompts beyond the depth: m = D - 1 + more_depths.

    Attributes:
        ctx: (n, d_t).
        text_deep: (m, n, d_t).
        image_shallow: (n, d_v).
        image_deep: (m, n, d_v). Each of the four is None if it is not learned.

    Raises:
        ValueError: if the number of prompts is negative, or the towers do not have that depth.
    """

    usual_depth: ClassVar[int | None] = None
    """Default of D; None: the number of blocks that all towers with prompts have."""
    settings = ("num_text_tokens", "num_image_tokens", "depth", "fixed_words")

    ctx: nn.Parameter | None
    text_deep: nn.Parameter | None
    image_shallow: nn.Parameter | None
    image_deep: nn.Parameter | None

    def __init__(
        self,
        *,
        seams: Seams,
        num_text_tokens: int,
        num_image_tokens: int,
        depth: int | None = None,
        init_words: str | None = INIT_WORDS,
        init_std: float = INIT_STD,
        keep_words: bool = True,
        learn_image_prompts: bool = True,
        more_depths: int = 0,
        **common: Any,
    ) -> None:
        positive_integer("num_text_tokens", num_text_tokens, minimum=0)
        positive_integer("num_image_tokens", num_image_tokens, minimum=0)
        # Only towers with prompts need these seams: text prompts work with any image tower.
        self.needs = (  # type: ignore[misc]
            *(TEXT_SEAMS if num_text_tokens else ()),
            *(IMAGE_SEAMS if num_image_tokens else ()),
            *(kind for kind in type(self).needs if kind not in (*TEXT_SEAMS, *IMAGE_SEAMS)),
        )
        super().__init__(seams=seams, **common)
        self.num_text_tokens, self.num_image_tokens = num_text_tokens, num_image_tokens
        blocks = [len(seams[kind]) for kind in self.needs if "block" in kind]
        self.depth = self._settle_depth(depth, blocks, more_depths)
        m = self.num_deep = self.depth - 1 + more_depths

        self.ctx = self.text_deep = self.image_shallow = self.image_deep = None
        if num_text_tokens:
            (texts,) = cast(Sequence[TextInputSeam], seams["text_inputs"])
            self.text_width = texts.widths["width"]
            self._context = ClassContext(texts, num_text_tokens, init_words, keep_words=keep_words)
            shape = num_text_tokens, self.text_width
            self.ctx = drawn(*shape, std=init_std)
            self.text_deep = drawn(m, *shape, std=init_std) if m else None
            texts.connect(self, self._make_texts, exclusive=True)
            for tokens in seams["text_block_inputs"][1 : m + 1]:
                tokens.connect(self, self._replace_tokens, exclusive=True)
        if num_image_tokens:
            (patches,) = cast(Sequence[RowSeam], seams["image_embeddings"])
            self.image_width = patches.widths["width"]
            if learn_image_prompts:
                shape = num_image_tokens, self.image_width
                self.image_shallow = drawn(*shape, std=init_std)
                self.image_deep = drawn(m, *shape, std=init_std) if m else None
            patches.connect(self, self._append_rows)
            for block in seams["image_blocks"][1 : m + 1]:
                block.connect(self, self._replace_rows)

    def _settle_depth(self, depth: int | None, blocks: Sequence[int], more_depths: int) -> int:
        if not blocks:
            return 1  # no prompts, at any depth
        most = min(blocks) - more_depths
        beyond = f" and deep prompts reach {more_depths} further" if more_depths else ""
        counts = " and ".join(map(str, blocks))
        reason = f", as the towers with prompts have {counts} blocks{beyond}"
        return chosen_depth(depth, self.usual_depth, most, reason)

    @property
    def fixed_words(self) -> str:
        """The words, if some stay after the context; see :class:`ClassContext`."""
        return "" if self.ctx is None else self._context.fixed_words

    def start_from_host(self) -> None:
        if self.ctx is not None:
            self._context.start(self.ctx)

    def prompts(self) -> Prompts:
        """The prompts that enter the towers; a subclass may compute them from the learned ones."""
        return Prompts(self.ctx, self.text_deep, self.image_shallow, self.image_deep)

    def _prompts_of(self, state: ForwardState) -> Prompts:
        """The prompts, computed only once per forward pass, for both towers."""
        if self not in state.memo:
            state.memo[self] = self.prompts()
        return state.memo[self]

    def _make_texts(self, seam: TextInputSeam, state: ForwardState) -> TextInput:
        ctx = self._prompts_of(state).ctx
        return self._context(state.class_names, cast(Tensor, ctx))

    def _replace_tokens(self, seam: TokenSeam, x: Tensor, state: ForwardState) -> Tensor:
        deep = cast(Tensor, self._prompts_of(state).text_deep)[seam.index - 1].to(x.dtype)
        n = len(deep)
        return torch.cat(
            [
                x[:, :1],  # (N, 1, d_t) start
                deep.expand(len(x), -1, -1),  # (N, n, d_t)
                x[:, 1 + n :],  # (N, L - 1 - n, d_t)
            ],
            dim=1,
        )

    def _append_rows(self, seam: RowSeam, state: ForwardState) -> Rows:
        shallow = cast(Tensor, self._prompts_of(state).image_shallow)
        return {self: PromptRows(shallow, keep=True)}

    def _replace_rows(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        deep = cast(Tensor, self._prompts_of(state).image_deep)[seam.index - 1]
        return run(x, {**rows, self: PromptRows(deep, keep=True)})
