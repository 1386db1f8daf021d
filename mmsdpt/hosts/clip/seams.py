"""Seams of hosts that classify by comparing a pooled image feature with one text feature per class.

The kinds beside those of :mod:`mmsdpt.hosts.seams` (B images, C classes, L text tokens, d the width
of a tower, e the width in which both meet):

=====================  =============  =========================================================
kind                   class          a handler
=====================  =============  =========================================================
``text_inputs``        TextInputSeam  makes the token embeddings of the classes' texts
``text_block_inputs``  TokenSeam      changes what enters a text block, (N, L, d)
``text_projections``,  ProjectionSeam changes the queries, keys and values of a block
``image_projections``
``text_block_          BranchSeam     adds a branch beside a whole block
branches``,
``image_block_
branches``
``image_embeddings``   RowSeam        gives rows that come after the patches and their positions,
                                      before the first norm
``image_blocks``       BlockSeam      runs the block, optionally with rows of prompts; the last
                                      block returns the class token alone, (B, 1, d)
``pooled_image``       FeatureSeam    changes the image features (B, e), before they are normalised
``pooled_text``        FeatureSeam    changes the text features (C, e), or (B, C, e)
``logits``             LogitsSeam     changes the logits (B, C)
``losses``             LossSeam       gives more losses
``teacher``            TeacherSeam    does not act: a tuner asks here for the untouched host's
                                      features
=====================  =============  =========================================================

The image is encoded first: where the texts are made, ``state.image_features`` are there. Handlers
of ``text_inputs`` and ``image_embeddings`` always run where activations are kept; those of
``text_block_inputs`` may run again in the backward pass, and must read from ``state.memo`` only
what one of the former put there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmsdpt.hosts.seams import FeatureSeam, ForwardState, Seam


@dataclass(frozen=True)
class TextInput:
    """What enters the text tower, before positions are added: texts that begin alike.

    Attributes:
        prefix: (P, d), or (B, P, d) where each image has a prefix of its own: the tokens that all
            texts (of an image) begin with, as prompts in front of the class names are. What the
            tower makes of them is computed once. P may be 0. Prompts that are replaced in
            ``text_block_inputs`` are among them, or P is 0.
        rest: (C, K, d), the rest of each text.
        ends: (C,) index, in the rest, of each text's end token, whose output is the text's feature.
    """

    prefix: Tensor
    rest: Tensor
    ends: Tensor

    def whole(self) -> Tensor:
        """The texts (C, P + K, d), or (B, C, P + K, d) where each image has its own."""
        C = len(self.rest)
        prefix = self.prefix.unsqueeze(-3).expand(*self.prefix.shape[:-2], C, -1, -1)
        return torch.cat([prefix, self.rest.expand(*prefix.shape[:-2], -1, -1)], dim=-2)


class TextInputSeam(Seam):
    """The texts of the classes; claimed exclusively: ``handler(seam, state)`` returns a
    :class:`TextInput` for ``state.class_names``.

    Widths: ``width`` d, ``context`` (the most tokens of a text).

    Attributes:
        tokenize: N texts to token ids (N, L), trimmed to the longest text, and the index (N,) of
            each end token; a ValueError if a text is longer than the context.
        embed: Ids to token embeddings (..., d), without positions.
        count: A text's number of tokens, without start and end.
    """

    def __init__(
        self,
        index: int,
        widths: Mapping[str, int],
        tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
        embed: Callable[[Tensor], Tensor],
        count: Callable[[str], int],
        kind: str = "text_inputs",
    ) -> None:
        super().__init__(index, widths, kind)
        self.tokenize, self.embed, self.count = tokenize, embed, count

    def word_vectors(self, text: str) -> Tensor:
        """(n, d) embeddings of a text's n tokens, without start and end. Reads the base weights,
        so it is to be called after loading.
        """
        ids, ends = self.tokenize([text])
        return self.embed(ids[0, 1 : int(ends[0])]).detach()

    def make(self, state: ForwardState) -> TextInput | None:
        """The active tuner's texts; None where none acts."""
        found: TextInput | None = None
        for handler in self.active():
            found = handler(self, state)
        return found


class TokenSeam(FeatureSeam):
    """The input of a text block: ``handler(seam, x, state)`` returns a new x (N, L, d), of the
    texts' common tokens where the :class:`TextInput` says that there are some, else of whole texts,
    those of ``state.chunk``. It may insert tokens after the first, which get no position; the end
    tokens move with them.

    Widths: ``width``, ``heads``, ``depth`` (number of blocks).
    """


class ProjectionSeam(FeatureSeam):
    """The queries, keys and values of a block's attention: ``handler(seam, y, x)`` returns a new y
    (B, L, 3d), in this order, of normed tokens x (B, L, d).

    Only in training, where a change may drop out parts of x; in testing it is one of the weight, at
    ``parameters``, which costs nothing. Widths: ``width``.
    """

    def active(self) -> list[Callable[..., Any]]:
        return [act for tuner, act, _ in self._handlers if tuner.enabled and tuner.training]


class LogitsSeam(FeatureSeam):
    """The logits: ``handler(seam, logits, state)`` returns new ones (B, C).

    Widths: ``width`` e.
    """


class TeacherSeam(Seam):
    """The untouched host, as a teacher: no place to act, but features to stay near to.

    They have no gradient, are not normalised, and have the parameters' precision.

    Widths: ``width`` e.

    Attributes:
        encode_images: ``state.images`` (B, 3, H, W) to f0 (B, e).
        encode_classes: C class names, and a template or None for the host's, to g0 (C, e). Several
            templates are averaged before anything is normalised. They are kept until names,
            templates or the base weights change.
        compare: Features of images (B, e) and classes (C, e), normalised or not, to logits (B, C).
    """

    def __init__(
        self,
        width: int,
        encode_images: Callable[[Any], Tensor],
        encode_classes: Callable[..., Tensor],
        compare: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(0, dict(width=width), kind="teacher")
        self.encode_images, self.encode_classes = encode_images, encode_classes
        self.compare = compare


def trim(ids: Tensor, ends: Tensor) -> Tensor:
    """Ids without the columns after the longest text.

    Exact, because the attention is causal: nothing after a text's end reaches its output.

    Args:
        ids: (N, context).
        ends: (N,) index of each end token.

    Returns:
        (N, L).
    """
    return ids[:, : int(torch.max(ends)) + 1] if len(ends) else ids[:, :1]


def common_tokens(ids: Tensor, ends: Tensor) -> int:
    """How many leading tokens of texts (N, L) are the same in all; none of the end tokens is."""
    same = (ids == ids[:1]).all(dim=0).long().cumprod(dim=0).sum()
    return min(int(same), int(ends.min()))
