"""Text features, kept until something that they depend on changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from mmsdpt.utils.versions import autocast_dtype, tensor_versions

_KEPT = 4  # sets of class names: training, validation, base and new classes


class TextFeatureCache:
    """Features by set of texts. A copy of a cache, by ``copy`` or ``pickle``, is empty."""

    def __init__(self) -> None:
        self._features: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._key: tuple | None = None

    def __reduce__(self) -> tuple:
        return TextFeatureCache, ()

    def clear(self) -> None:
        """Forget everything."""
        self._features.clear()
        self._key = None

    def lookup(
        self,
        texts: Hashable,
        compute: Callable[[], Tensor],
        tensors: Sequence[Tensor],
        others: Hashable,
    ) -> Tensor:
        """Features of a set of texts, computed where they are not known, without gradients.

        Args:
            texts: What names the set.
            compute: Gives its features.
            tensors: All that the features are computed from. A training step, a loaded checkpoint
                or another device changes them.
            others: What else they depend on. A change of either empties the cache.
        """
        key = (tensor_versions(tensors), others, autocast_dtype(tensors[0].device))
        if key != self._key:
            self.clear()
            self._key = key
        if texts not in self._features:
            # What is made in inference mode could not serve a training step later.
            with torch.inference_mode(False), torch.no_grad():
                self._features[texts] = compute()
        self._features.move_to_end(texts)
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)
        return self._features[texts]
