"""Text features of single captions, kept until something that they depend on changes.

Shapes: L tokens of a caption (special tokens included), d the width of BERT.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import Seam
from mmsdpt.utils.versions import autocast_dtype, tensor_versions

if TYPE_CHECKING:
    from mmsdpt.tuners.base import Tuner

CaptionFeatures = tuple[Tensor, Tensor]
"""``embedded`` and ``hidden`` of one caption without padding, each (L, d)."""


class CaptionCache:
    """Features by caption. A copy of a cache, by ``copy`` or ``pickle``, is empty."""

    def __init__(self) -> None:
        self._features: OrderedDict[str, CaptionFeatures] = OrderedDict()
        self._key: tuple | None = None

    def __reduce__(self) -> tuple:
        return CaptionCache, ()

    def clear(self) -> None:
        """Forget everything."""
        self._features.clear()
        self._key = None

    def lookup(
        self,
        captions: Sequence[str],
        encode: Callable[[str], CaptionFeatures],
        tensors: Sequence[Tensor],
        others: Hashable,
        limit: int,
    ) -> list[CaptionFeatures]:
        """Features of each caption, encoded where they are not known.

        Args:
            captions: B captions.
            encode: Gives a caption's features.
            tensors: All that the features are computed from.
            others: What else they depend on. A change of either empties the cache.
            limit: Captions to keep; the one unused for longest goes first.
        """
        key = (tensor_versions(tensors), others, autocast_dtype(tensors[0].device))
        if key != self._key:
            self.clear()
            self._key = key
        for caption in dict.fromkeys(captions):
            if caption not in self._features:
                self._features[caption] = encode(caption)
            self._features.move_to_end(caption)
        found = [self._features[caption] for caption in captions]
        while len(self._features) > limit:
            self._features.popitem(last=False)
        return found


def check_constant(
    encoder: nn.Module, seams: Iterable[Seam]
) -> tuple[list[Tensor], tuple[tuple[str, int, Tuner], ...]]:
    """Refuse to cache what is not the same the next time.

    Args:
        encoder: The text encoder.
        seams: Those inside of it.

    Returns:
        All tensors that the features are computed from, and the tuners that act, with their places.

    Raises:
        ValueError: if the encoder or a tuner in it draws dropout or takes a gradient.
    """
    acting = tuple((seam.kind, seam.index, tuner) for seam in seams for tuner in seam.tuners())
    tensors = _tensors("the text encoder", encoder)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise ValueError(
            "cache=True would cut the gradient of the text encoder, whose parameters require"
            " one; freeze them, use torch.no_grad(), or pass cache=False."
        )
    for tuner in dict.fromkeys(tuner for _, _, tuner in acting):
        name = f"{type(tuner).__name__}, which acts in the text encoder,"
        if torch.is_grad_enabled() and not tuner.frozen:
            raise ValueError(
                f"cache=True would cut the gradient of {name} and is not frozen; use"
                " torch.no_grad(), or pass cache=False."
            )
        tensors += _tensors(name, tuner)
    return tensors, acting


def _tensors(name: str, side: nn.Module) -> list[Tensor]:
    """All buffers, and all parameters or what a tuner has put in their place."""
    found: list[Tensor | None] = []
    for module in side.modules():
        if module.training:
            raise ValueError(
                f"cache=True would keep one draw of dropout: {name} is in training mode; call"
                " eval()."
            )
        found += module._parameters.values()
        found += module._buffers.values()
    return [tensor for tensor in found if tensor is not None]


def join_captions(features: Sequence[CaptionFeatures], length: int) -> dict[str, Tensor]:
    """Pad B captions' features with zeros to ``length`` tokens.

    Returns:
        ``embedded`` and ``hidden`` (B, length, d), and ``masks`` (B, length), int64: new memory, so
        that in-place work on the result cannot reach the cached features.
    """
    like = features[0][1]
    shape = (len(features), length, like.shape[-1])
    embedded = torch.zeros(shape, dtype=like.dtype, device=like.device)
    hidden = torch.zeros_like(embedded)
    masks = torch.zeros(shape[:2], dtype=torch.long, device=like.device)
    for i, (one_embedded, one_hidden) in enumerate(features):
        embedded[i, : len(one_embedded)] = one_embedded
        hidden[i, : len(one_hidden)] = one_hidden
        masks[i, : len(one_hidden)] = 1
    return {"embedded": embedded, "masks": masks, "hidden": hidden}
