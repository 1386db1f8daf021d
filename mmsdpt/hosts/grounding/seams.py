"""Seams of detectors that read a caption (GLIP, Grounding DINO).

The kinds in addition to those of :mod:`mmsdpt.hosts.seams`:

==========================  ===============  =======================================================
kind                        class            a handler
==========================  ===============  =======================================================
``image_attention_maps``,   MapSeam          changes the map after the residual of the attention, or
``image_ffn_maps``                           of the feed-forward network
``text_embeddings``         WordSeam         appends word vectors to every caption
``encoder_pairs``           PairSeam         runs an image block and a text block together
``encoder_outputs``         PairedSeam       changes both encoders' outputs
``fusion``                  FusionSeam       gives extra keys and values to X-MHA
==========================  ===============  =======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import FeatureSeam, ForwardState, RowSeam, RunBlock, Seam, SeamUser


class MapSeam(FeatureSeam):
    """The tokens of a map, after a residual of a block: ``handler(seam, x, hw)`` returns new ones.

    x is (B, L, d), hw is (H, W) of the map, L = H W. Rows of prompts are not among the tokens.
    Widths: ``width``, ``stage``.
    """


class WordSeam(RowSeam):
    """The word vectors of the text encoder.

    Rows come after the caption, at the positions after its last token. Like words, they get
    position and type embeddings and the layer norm of the embeddings. Their outputs are not part of
    the text features. With ``keep`` they go on through the encoder.

    ``word_vectors(text)`` gives the (n, d) vectors of a text's tokens, for prompts that start as
    words. Call it only after the base weights are loaded.
    """

    def __init__(
        self,
        index: int,
        widths: Mapping[str, int],
        word_vectors: Callable[[str], Tensor],
        kind: str | None = None,
    ) -> None:
        super().__init__(index, widths, kind)
        self.word_vectors = word_vectors


class PairSeam(Seam):
    """The last blocks of both encoders in pairs; the last pair has the last block of each encoder.

    Widths: ``image``, ``text`` and their ``image_heads``, ``text_heads``. A handler is called as
    ``handler(seam, run_image, run_text, image, text, mask, state)`` with image (B, N, d_image),
    text (B, L, d_text) and mask (B, L), 1 at real tokens; it returns both features after the
    blocks. ``run_image(x, rows)`` and ``run_text(x, rows)`` are as in :class:`BlockSeam`.
    """

    def run(
        self,
        run_image: RunBlock,
        run_text: RunBlock,
        image: Tensor,
        text: Tensor,
        mask: Tensor,
        state: ForwardState,
    ) -> tuple[Tensor, Tensor]:
        """Run both blocks with the active handler, of which there must be one only."""
        (handler,) = self.active()
        return handler(self, run_image, run_text, image, text, mask, state)


class PairedSeam(Seam):
    """The outputs of both encoders: ``handler(seam, image, text, mask, state)`` returns new ones.

    Widths: ``image``, ``text``. Image is the last stage's normed output (B, N, d_image), text the
    last layer's (B, L, d_text), mask (B, L), 1 at real tokens.
    """

    def change(
        self, image: Tensor, text: Tensor, mask: Tensor, state: ForwardState
    ) -> tuple[Tensor, Tensor]:
        """Both outputs after every active handler."""
        for handler in self.active():
            image, text = handler(self, image, text, mask, state)
        return image, text


@dataclass(frozen=True)
class FusionTokens:
    """Extra keys and values for one X-MHA layer; their own outputs are dropped.

    Attributes:
        image: (k, D_image) rows appended to the layer-normed image features: extra keys for the
            text queries.
        text: (k, D_text) rows appended to the layer-normed text features: extra keys for the image
            queries.
        groups: Those of the tokens that act only for a part of the caption.
    """

    image: Tensor | None = None
    text: Tensor | None = None
    groups: tuple[TokenGroup, ...] = ()


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that act only for some words of the caption. Other words do not attend to them, and
    the attention of an image position to them is scaled by its attention to these words.

    Attributes:
        image: Rows of the tokens in ``FusionTokens.image``.
        text: Rows of the tokens in ``FusionTokens.text``.
        words: (B, L) bool, the tokens of the captions that they act for.
    """

    image: slice
    text: slice
    words: Tensor


class FusionSeam(Seam):
    """A cross-modality attention (X-MHA) layer.

    Widths: ``image``, ``text``, ``joint`` and ``heads``. ``projections`` maps ``image`` and
    ``text`` to the linear layers that project each modality into the joint space, W (joint x width)
    and b; tuners may read them, but must not change them.
    """

    kind = "fusion"

    def __init__(
        self, index: int, widths: Mapping[str, int], projections: Mapping[str, nn.Linear]
    ) -> None:
        super().__init__(index, widths)
        self.projections = dict(projections)

    def tokens(self, own_words: OwnWords | None = None) -> FusionTokens:
        """Tokens of all active tuners, concatenated in the order of the slots.

        Args:
            own_words: For each tuner that acts only for its own words, which tokens of the captions
                these are. A tuner without an entry has no words there and gives no tokens.
        """
        offers: list[FusionTokens] = []
        groups: list[TokenGroup] = []
        ends = [0, 0]
        for tuner, handler, _ in self._handlers:
            restricted = tuner.own_words_only
            if not tuner.enabled or (restricted and tuner not in (own_words or {})):
                continue
            offers.append(handler(self))
            starts, sizes = ends, map(_count, (offers[-1].image, offers[-1].text))
            ends = [start + size for start, size in zip(starts, sizes, strict=True)]
            if restricted and own_words is not None:
                image, text = map(slice, starts, ends)
                groups.append(TokenGroup(image, text, own_words[tuner]))
        return FusionTokens(
            image=_concatenate(offer.image for offer in offers),
            text=_concatenate(offer.text for offer in offers),
            groups=tuple(groups),
        )


OwnWords = Mapping[SeamUser, Tensor]
"""By tuner, the tokens of the captions (B, L) that belong to classes that it was trained on."""


def _count(tokens: Tensor | None) -> int:
    return 0 if tokens is None else len(tokens)


def _concatenate(parts: Iterable[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    return torch.cat(present, dim=0)
