"""A learned context around each class name, as in CoOp (Zhou et al., IJCV 2022, section 3.2).

n learned vectors replace the first n tokens of a sentence:

    end:      [start] v_1 ... v_n (rest of the words) NAME . [end]
    middle:   [start] v_1 ... v_{n/2} NAME v_{n/2+1} ... v_n . [end]
    front:    [start] NAME v_1 ... v_n . [end]

Shapes: C classes, B images, n context vectors, L tokens, d the width of the text tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.memo import Memo

POSITIONS = ("end", "middle", "front")
_PLACEHOLDER = "X"  # one token; its vector is replaced
_SHOWN = 60  # characters of a name in a message


class ClassContext:
    """Makes the texts of the classes with a context. It has no parameters.

    Args:
        seam: Where the texts enter the host.
        num_tokens: n.
        words: Words that the context starts from, such as "a photo of a". If they have fewer than n
            tokens, the rest of the context starts from random values. None: all random.
        position: Position of the class name: ``end``, ``middle`` or ``front``.
        keep_words: Whether words after the n-th token stay as fixed words between the context and
            the name, or are left out.

    Raises:
        ValueError: if ``position`` is none of these, or the context leaves no space for a name.
    """

    def __init__(
        self,
        seam: TextInputSeam,
        num_tokens: int,
        words: str | None = None,
        position: str = "end",
        keep_words: bool = True,
    ) -> None:
        if position not in POSITIONS:
            raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
        self.seam, self.num_tokens, self.position = seam, num_tokens, position
        self.words, self.keep_words = words or "", keep_words
        self.num_words = seam.count(self.words)
        self._orders: Memo[Tensor] = Memo()
        # [start] context NAME . [end], with a name of one token.
        if self.length + 4 > seam.widths["context"]:
            raise ValueError(
                f"a context of {self.length} tokens leaves no room for a class name among the"
                f" {seam.widths['context']} tokens of a text: use a smaller num_tokens"
            )

    @property
    def length(self) -> int:
        """Number of tokens before the class name: the context and the fixed words after it."""
        return max(self.num_tokens, self.num_words) if self.keep_words else self.num_tokens

    @property
    def fixed_words(self) -> str:
        """The words, if some of them stay in the texts after the context; otherwise empty."""
        return self.words if self.length > self.num_tokens else ""

    @fixed_words.setter
    def fixed_words(self, words: str) -> None:
        self.keep_words = bool(words)
        if words:
            self.words, self.num_words = words, self.seam.count(words)

    @torch.no_grad()
    def start(self, context: Tensor) -> None:
        """Set the vectors (..., n, d) that start from words, in place; the others do not change."""
        count = min(self.num_tokens, self.num_words)
        if count:
            context[..., :count, :] = self.seam.word_vectors(self.words)[:count].to(context.dtype)

    def __call__(self, names: Sequence[str], context: Tensor, per_image: bool = False) -> TextInput:
        """The texts of the classes, with a context.

        Args:
            names: C class names.
            context: (n, d); (C, n, d) with a separate context for each class; or (B, n, d) with
                ``per_image``.
            per_image: Whether each image has its own context, before the names.

        Raises:
            ValueError: if a class name leaves no space for the context, or ``per_image`` is set and
                the context is not before the names.
        """
        if per_image and self.position != "end":
            raise ValueError(f"contexts of images need position='end', got {self.position!r}")
        ids, ends = self._tokenize(names)
        embedded = self.seam.embed(ids)  # (C, L, d)
        C, _, d = embedded.shape
        n, P = context.shape[-2], 1 + self.length
        context = context.to(embedded.dtype)
        if self.position == "end" and (per_image or context.dim() == 2):
            # All texts (of an image) are the same up to the name.
            shape = (*context.shape[:-2], -1, d)
            start, words = embedded[0, :1].expand(shape), embedded[0, 1 + n : P].expand(shape)
            return TextInput(torch.cat([start, context, words], -2), embedded[:, P:], ends - P)
        sentence = torch.cat(
            [
                embedded[:, :1],  # (C, 1, d) start
                context.expand(C, n, d),
                embedded[:, 1 + n :],  # (C, L - 1 - n, d) other words, name, ".", end
            ],
            dim=1,
        )
        if self.position != "end":
            order = self._order(tuple(names), ends, sentence.shape[1])  # (C, L)
            sentence = sentence.gather(1, order.unsqueeze(-1).expand(sentence.shape))
        P = 0 if context.dim() == 3 else 1 + (self.length // 2 if self.position == "middle" else 0)
        return TextInput(sentence[0, :P], sentence[:, P:], ends - P)

    def _tokenize(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (C, L) of sentences with a word in place of each context vector, and ends (C,)."""
        words = [self.words] if self.words and self.length >= self.num_words else []
        fill = [_PLACEHOLDER] * (self.length - (self.num_words if words else 0))
        before = " ".join([*words, *fill])
        try:
            return self.seam.tokenize([f"{before} {name}." for name in names])
        except ValueError:
            room = self.seam.widths["context"] - self.length - 3  # start, ".", end
            for name in names:
                count = self.seam.count(name)
                if count > room:
                    raise InputError(
                        f"the class name {shown(name)} has {count} tokens, but a context of"
                        f" {self.length} tokens leaves room for {room}: shorten the name, or use a"
                        " smaller num_tokens"
                    ) from None
            raise

    def _order(self, names: tuple[str, ...], ends: Tensor, length: int) -> Tensor:
        """(C, L): for each place, the index of its token in a sentence that ends in the name."""

        def make() -> Tensor:
            context = list(range(1, 1 + self.length))
            half = self.length // 2 if self.position == "middle" else 0
            rows = []
            for name, end in zip(names, ends.tolist(), strict=True):
                # The dot may merge with the name's last token, and even reduce its tokens (",..").
                after = min(1 + self.length + self.seam.count(name), end)
                word = list(range(1 + self.length, after))
                rows.append([0, *context[:half], *word, *context[half:], *range(after, length)])
            return torch.tensor(rows, device=ends.device)

        return self._orders.get((names, ends.device), make)


def shown(text: str) -> str:
    """A text in quotes, shortened for error messages."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
