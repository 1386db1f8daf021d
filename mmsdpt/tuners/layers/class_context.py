"""A learned context around each class name, as in CoOp (Zhou et al., IJCV 2022, section 3.2).

n learned vectors take the place of the first n tokens of a sentence:

    end:      [start] v_1 ... v_n (rest of the words) NAME . [end]
    middle:   [start] v_1 ... v_{n/2} NAME v_{n/2+1} ... v_n . [end]
    front:    [start] NAME v_1 ... v_n . [end]

Shapes: C classes, B images, n context vectors, L tokens, d the width of the text tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmsdpt.hosts.two_tower_seams import TextInput, TextInputSeam

INIT_STD = 0.02
POSITIONS = ("end", "middle", "front")
_PLACEHOLDER = "X"  # one token; its vector is replaced


class ClassContext:
    """Makes the texts of the classes around a context. Owns no parameters.

    Args:
        seam: Where the texts enter the host.
        num_tokens: n.
        words: Words that the context starts from, such as "a photo of a". If they are more than n
            tokens, those behind the n-th stay as fixed words behind the context; if they are fewer,
            the rest of the context starts at random. None: all at random.
        position: Where the class name stands: ``end``, ``middle`` or ``front``.

    Raises:
        ValueError: if ``position`` is none of these, or the context leaves no room for a name.
    """

    def __init__(
        self,
        seam: TextInputSeam,
        num_tokens: int,
        words: str | None = None,
        position: str = "end",
    ) -> None:
        if position not in POSITIONS:
            raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
        self.seam, self.num_tokens, self.position = seam, num_tokens, position
        self.words = words or ""
        self.num_words = seam.count(self.words)
        # [start] context NAME . [end], with a name of one token.
        if self.length + 4 > seam.widths["context"]:
            raise ValueError(
                f"a context of {self.length} tokens leaves no room for a class name among the"
                f" {seam.widths['context']} tokens of a text: use a smaller num_tokens"
            )

    @property
    def length(self) -> int:
        """Tokens in front of the class name: the context, and fixed words behind it."""
        return max(self.num_tokens, self.num_words)

    @torch.no_grad()
    def start(self, context: Tensor) -> None:
        """Set the vectors (..., n, d) that start from words, in place; the others stay."""
        count = min(self.num_tokens, self.num_words)
        if count:
            context[..., :count, :] = self.seam.word_vectors(self.words)[:count].to(context.dtype)

    def __call__(self, names: Sequence[str], context: Tensor, per_image: bool = False) -> TextInput:
        """The classes' texts with a context.

        Args:
            names: C class names.
            context: (n, d), (C, n, d) with a context of each class's own, or, ``per_image``,
                (B, n, d).
            per_image: Each image has a context of its own.

        Returns:
            Embeddings (C, L, d), or (B, C, L, d).
        """
        fill = [_PLACEHOLDER] * (self.length - self.num_words)
        before = " ".join([self.words, *fill] if self.words else fill)
        ids, ends = self.seam.tokenize([f"{before} {name}." for name in names])
        embedded = self.seam.embed(ids)
        C, _, d = embedded.shape
        context = context.to(embedded.dtype)
        if per_image:
            B, n, _ = context.shape
            embedded, context = embedded.expand(B, -1, -1, -1), context.unsqueeze(1)
            context = context.expand(B, C, n, d)
        else:
            n = context.shape[-2]
            context = context.expand(C, n, d)
        sentence = torch.cat(
            [
                embedded[..., :1, :],  # (..., 1, d) start
                context,  # (..., n, d)
                embedded[..., 1 + n :, :],  # (..., L - 1 - n, d) other words, name, ".", end
            ],
            dim=-2,
        )
        if self.position != "end":
            order = self._order(names, sentence.shape[-2]).to(sentence.device)  # (C, L)
            index = order.unsqueeze(-1).expand(C, -1, d)
            sentence = sentence.gather(-2, index.expand(sentence.shape))
        return TextInput(sentence, ends)

    def _order(self, names: Sequence[str], length: int) -> Tensor:
        """(C, L): which token of the sentence with the name at the end stands at each place."""
        context = list(range(1, 1 + self.length))
        half = self.length // 2 if self.position == "middle" else 0
        rows = []
        for name in names:
            behind = 1 + self.length + self.seam.count(name)
            word = list(range(1 + self.length, behind))
            rows.append(
                [0, *context[:half], *word, *context[half:], *range(behind, length)],
            )
        return torch.tensor(rows)
