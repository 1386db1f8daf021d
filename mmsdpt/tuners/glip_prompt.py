r"""GLIP's prompt tuning (Li et al., CVPR 2022, section 5; "language_prompt_v2" in its code).

One vector per caption position is added to the language features after the text encoder and before
the fusion layers:

    hidden_i <- hidden_i + o_i        embedded_i <- embedded_i + o_i        i = 1 ... L

o (max_tokens x d) starts from zero: 768 parameters per position, 196,608 on GLIP-L and GLIP-T. The
released code trains it at a learning rate of 0.05 with weight decay 0.25.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import FeatureSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner


@MODELS.register_module()
class GLIPPrompt(Tuner):
    """An offset to the text features for each position of the caption.

    An offset belongs to a position, not to a word, so it fits only the caption it was trained with:
    one class list in one order. With another caption, or another chunk of a long class list, it
    shifts other words.

    The released code has 1,000 positions, of which only the caption's 256 are used, and also adds
    the offset to padding. No real token depends on padding, so adding the offset only to real
    tokens gives the same detections. Here padding stays zero.
    """

    needs = ("text_features",)
    settings = ()
    zero_init = True

    def __init__(self, *, seams: Seams, **common: Any) -> None:
        super().__init__(seams=seams, **common)
        (features,) = seams["text_features"]
        self.max_tokens, self.width = features.widths["max_tokens"], features.widths["width"]
        self.offset = nn.Parameter(torch.zeros(self.max_tokens, self.width))
        features.connect(self, self._shift)

    @property
    def per_class(self) -> bool:
        return True  # each position of the caption belongs to a class

    def _shift(self, seam: FeatureSeam, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["masks"]  # (B, L)
        offset = self.offset[: mask.shape[1]] * mask.unsqueeze(-1).to(self.offset.dtype)
        shifted = {
            name: features[name] + offset.to(features[name].dtype)
            for name in ("hidden", "embedded")
        }
        return {**features, **shifted}
