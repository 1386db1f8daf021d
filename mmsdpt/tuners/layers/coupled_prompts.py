r"""Coupled prompts: at every depth, the image encoder's prompts are made from the text encoder's.

    [x_{j+1}, _] = T_j([x_j, P_j]),   [_, V_j] = B_{s(j)}([v, P_j W_j^T + b_j]),   j = 0 ... J - 1

P_j (n x d_text) are the text prompts of depth j, T_j the text layers, B_{s(j)} the image block of
depth j, W_j (d_image x d_text) and b_j its coupling.

Source: Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows, Rows, RunBlock

from .common import chosen_depth, drawn, positive_integer

if TYPE_CHECKING:
    from mmsdpt.tuners.base import Seams, Tuner

DEFAULT_DEPTH = 9


class CoupledPrompts(nn.Module):
    """Text prompts at the first J text layers, and their projections in J image blocks.

    Text: the prompts of depth 0 are word vectors after the caption and pass through the encoder.
    The prompts of depth j replace the outputs of the earlier ones before layer j; the last ones
    pass through to the end. Their outputs are not part of the text features.

    Image: the projections of depth j are extra keys and values only in their block. In the paper
    they also pass on to later blocks, but there the prompted blocks are adjacent and the next depth
    replaces them, so only the prompts after the last depth would differ.

    Args:
        seams: The host's ``text_embeddings``, ``text_blocks`` and ``image_blocks``.
        num_tokens: n, prompts per depth.
        depth: J; None: nine, or fewer if the text encoder has fewer layers.
        init_words: Text whose first word vectors the prompts of depth 0 start from, see
            :meth:`start_from_words`.
        init_std: All others are drawn from N(0, init_std^2).

    Attributes:
        off: Whether the prompts are switched off at the moment.

    Raises:
        ValueError: if an encoder has fewer than ``depth`` layers, or there are no tokens.
    """

    def __init__(
        self,
        seams: Seams,
        num_tokens: int = 2,
        depth: int | None = None,
        init_words: str = "a photo of a",
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.off = False
        layers = cast(Sequence[BlockSeam], seams["text_blocks"])
        blocks = cast(Sequence[BlockSeam], seams["image_blocks"])
        available = min(len(layers), len(blocks))
        reason = ", the number of layers that both encoders have"
        depth = chosen_depth(depth, DEFAULT_DEPTH, available, reason)
        self.num_tokens = positive_integer("num_tokens", num_tokens)
        self.depth, self.init_words = depth, init_words
        (self._embeddings,) = cast(Sequence[WordSeam], seams["text_embeddings"])
        self._layers = list(layers[:depth])
        self.image_blocks = evenly_spaced(depth, len(blocks))
        self._blocks = [blocks[index] for index in self.image_blocks]

        width = self._embeddings.widths["width"]
        self.text = drawn(depth, num_tokens, width, std=init_std)
        self.couplings = nn.ModuleList(
            nn.Linear(width, block.widths["width"]) for block in self._blocks
        )

    def connect(self, tuner: Tuner) -> None:
        """Connect to the seams for ``tuner``, which owns this module."""
        self._embeddings.connect(tuner, self.append_words)
        for layer in self._layers[1:]:
            layer.connect(tuner, self.replace_text)
        for block in self._blocks:
            block.connect(tuner, self.prompt_image)

    @torch.no_grad()
    def start_from_words(self) -> None:
        """Set the prompts of depth 0 to the first n word vectors of ``init_words``. If there are
        fewer, the rest keep their random values.
        """
        if self.init_words:
            words = self._embeddings.word_vectors(self.init_words)[: self.num_tokens]
            self.text[0, : len(words)].copy_(words)

    def append_words(self, seam: WordSeam, state: ForwardState) -> Rows:
        """The prompts of depth 0, (n, d_text), after every caption."""
        return {} if self.off else {self: PromptRows(self.text[0], keep=True)}

    def replace_text(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        """The layer with its own prompts (n, d_text) in place of those from the layer before."""
        if self.off:
            return run(x, rows)
        own = PromptRows(self.text[seam.index].to(x.dtype), keep=True)
        return run(x, {**rows, self: own})

    def prompt_image(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        """The block with projected prompts (n, d_image) as extra keys and values."""
        if self.off:
            return run(x, rows)
        j = self.image_blocks.index(seam.index)
        values = self.couplings[j](self.text[j]).to(x.dtype)
        return run(x, {**rows, self: PromptRows(values, keep=False)})


def evenly_spaced(count: int, available: int) -> tuple[int, ...]:
    """``count`` evenly spaced indices out of ``available``, first and last included, rounded half
    up. Only the first if ``count`` is 1.
    """
    steps = max(count - 1, 1)
    return tuple((2 * i * (available - 1) + steps) // (2 * steps) for i in range(count))
