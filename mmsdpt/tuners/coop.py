r"""CoOp: context optimization (Zhou et al., IJCV 2022, section 3.2) on GLIP's captions.

M learned word vectors V (M x d), the same for all classes ("unified context"), join the words of
every caption at the input of the text encoder:

    [CLS] class 1 . class 2 . ... [SEP] V_1 ... V_M

In CoOp's CLIP each class has a sentence of its own, V_1 ... V_M class, and only the output at its
end counts. GLIP reads all classes in one caption, and a class's features are the outputs at its own
tokens; so the context stands once in the caption, and acts on every class through BERT's
attention, in every layer.

It stands behind the caption, on positions of its own that follow the last token, and its outputs
are not among the text features. So no token moves: each word keeps the position embedding that it
was trained with, the map from classes to tokens (positive map) stays as it is, and the context uses
none of the 256 tokens that a caption may have. BERT attends in both directions; a context in front
would differ in its position embeddings alone.

M d parameters: 12,288 on GLIP-L and GLIP-T. The SDPT poster's 0.52 M would be 677 vectors, but BERT
has 512 positions, 256 of which are the caption's: a longer context is not enough to reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from mmsdpt.hosts.seams import ForwardState, PromptRows, Rows, RowSeam, Seam
from mmsdpt.registry import MODELS

from .base import Tuner
from .layers.checks import whole_number


@MODELS.register_module()
class CoOp(Tuner):
    """Learned context vectors among the words of every caption.

    Args:
        num_tokens: M.
        init_words: Words whose vectors the context starts from, such as "a photo of a", M tokens of
            the host's vocabulary. None: N(0, ``init_std``^2).
        init_std: See ``init_words``.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: if ``num_tokens`` is no positive whole number, or not the number of tokens of
            ``init_words``.
    """

    needs = ("text_embeddings",)

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 16,
        init_words: str | None = None,
        init_std: float = 0.02,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        self.num_tokens, self.init_words = whole_number("num_tokens", num_tokens), init_words
        (self.point,) = cast(Sequence[RowSeam], seams["text_embeddings"])
        if init_words is not None:
            found = len(self.point.word_vectors(init_words))
            if found != num_tokens:
                raise ValueError(
                    f"init_words={init_words!r} are {found} tokens, but num_tokens is {num_tokens}:"
                    f" set num_tokens={found}, or choose other words"
                )
        self.width = self.point.widths["width"]
        self.context = nn.Parameter(torch.empty(num_tokens, self.width))
        nn.init.normal_(self.context, std=init_std)
        self.point.connect(self, self._rows)

    def start_from_host(self) -> None:
        if self.init_words is not None:
            self.context.copy_(self.point.word_vectors(self.init_words))

    def _rows(self, seam: RowSeam, state: ForwardState) -> Rows:
        # Kept: the vectors pass through the layers like words, which read and change them.
        return {self: PromptRows(self.context, keep=True)}

    def config(self) -> dict[str, Any]:
        return dict(num_tokens=self.num_tokens)

    def num_trainable(self) -> int:
        """M d."""
        return self.num_tokens * self.width
