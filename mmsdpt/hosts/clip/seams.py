"""Seams of hosts that classify by comparing a pooled image feature with one text feature per class.

The kinds in addition to those of :mod:`mmsdpt.hosts.seams` (B images, C classes, L text tokens, d
the width of a tower, e the common width of both features):

=====================  =============  =========================================================
kind                   class          a handler
=====================  =============  =========================================================
``text_inputs``        TextInputSeam  makes the token embeddings of the classes' texts
``text_block_inputs``  TokenSeam      changes the input of a text block, (N, L, d)
``text_projections``,  ProjectionSeam changes the queries, keys and values of a block
``image_projections``
``text_block_          BranchSeam     adds a branch beside a whole block
branches``,
``image_block_
branches``
``image_embeddings``   RowSeam        appends rows to the patches, after positions are added and
                                      before the first norm
``image_blocks``       BlockSeam      runs the block, optionally with rows of prompts; the last
                                      block returns only the class token, (B, 1, d)
``pooled_image``       FeatureSeam    changes the image features (B, e), before they are normalised
``pooled_text``        FeatureSeam    changes the text features (C, e), or (B, C, e)
``logits``             LogitsSeam     changes the logits (B, C)
``losses``             LossSeam       adds losses
``teacher``            TeacherSeam    none: a tuner gets the untuned host's features here
=====================  =============  =========================================================

The image is encoded first, so ``state.image_features`` are known when the texts are made. Handlers
of ``text_inputs`` and ``image_embeddings`` never run again in the backward pass. Handlers of
``text_block_inputs`` may run again there; from ``state.memo`` they must read only what a handler of
``text_inputs`` or ``image_embeddings`` has put there.
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
    """Input of the text tower, before positions are added: texts that begin with the same tokens.

    Attributes:
        prefix: (P, d), or (B, P, d) if each image has its own prefix: the tokens that all texts (of
            an image) begin with, such as prompts before the class names. The tower computes them
            only once. P may be 0. If P is not 0, the prefix must contain the prompts that are
            replaced in ``text_block_inputs``.
        rest: (C, K, d), the rest of each text.
        ends: (C,) index, in the rest, of each text's end token, whose output is the text's feature.
    """

    prefix: Tensor
    rest: Tensor
    ends: Tensor

    def whole(self) -> Tensor:
        """The texts (C, P + K, d), or (B, C, P + K, d) if each image has its own prefix."""
        C = len(self.rest)
        prefix = self.prefix.unsqueeze(-3).expand(*self.prefix.shape[:-2], C, -1, -1)
        return torch.cat([prefix, self.rest.expand(*prefix.shape[:-2], -1, -1)], dim=-2)


class TextInputSeam(Seam):
    """The texts of the classes, with one exclusive handler: ``handler(seam, state)`` returns a
    :class:`TextInput` for ``state.class_names``.

    Widths: ``width`` d, ``context`` (the maximum number of tokens of a text).

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
        """(n, d) embeddings of a text's n tokens, without start and end. Call this only after the
        base weights are loaded.
        """
        ids, ends = self.tokenize([text])
        return self.embed(ids[0, 1 : int(ends[0])]).detach()

    def make(self, state: ForwardState) -> TextInput | None:
        """The active tuner's texts; None if no tuner acts here."""
        found: TextInput | None = None
        for handler in self.active():
            found = handler(self, state)
        return found


class TokenSeam(FeatureSeam):
    """The input of a text block: ``handler(seam, x, state)`` returns a new x (N, L, d). If the
    :class:`TextInput` has a prefix, x is this prefix; otherwise x has the whole texts of
    ``state.chunk``. The handler may insert tokens after the first one. They get no position, and
    the end tokens move accordingly.

    Widths: ``width``, ``heads``, ``depth`` (number of blocks).
    """


class ProjectionSeam(FeatureSeam):
    """The queries, keys and values of a block's attention, in this order: ``handler(seam, y, x)``
    returns a new y (B, L, 3d); x (B, L, d) are the normed tokens that y is computed from.

    Handlers act only in training, where they may apply dropout to x. In testing the tuner changes
    the weight instead, at ``parameters``, which costs nothing. Widths: ``width``.
    """

    def active(self) -> list[Callable[..., Any]]:
        return [act for tuner, act, _ in self._handlers if tuner.enabled and tuner.training]


class LogitsSeam(FeatureSeam):
    """The logits: ``handler(seam, logits, state)`` returns new ones (B, C).

    Widths: ``width`` e.
    """


class TeacherSeam(Seam):
    """The untuned host as a teacher: no handler acts here, but a tuner can read the features and
    stay close to them.

    The features have no gradient, are not normalised, and have the precision of the parameters.

    Widths: ``width`` e.

    Attributes:
        encode_images: ``state.images`` (B, 3, H, W) to f0 (B, e).
        encode_classes: C class names, and a template (None: the host's), to g0 (C, e). Features of
            several templates are averaged before normalisation. They are cached until names,
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

    This is exact, because the attention is causal: no token after a text's end affects its output.

    Args:
        ids: (N, context).
        ends: (N,) index of each end token.

    Returns:
        (N, L).
    """
    return ids[:, : int(torch.max(ends)) + 1] if len(ends) else ids[:, :1]


def common_tokens(ids: Tensor, ends: Tensor) -> int:
    """Number of leading tokens that all texts (N, L) share, without end tokens."""
    same = (ids == ids[:1]).all(dim=0).long().cumprod(dim=0).sum()
    return min(int(same), int(ends.min()))
