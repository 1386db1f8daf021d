"""The BERT layer on GLIP's fused text.

    a  = LN(h + W_o · softmax(clamp(QKᵀ/√d_h) + m) V)
    h' = LN(a + clamp(W_2 · gelu(clamp(W_1 a))))

with m = 0 at valid tokens and the dtype's minimum at padding. Parameter names and shapes are those
of ``mmdet.models.utils.vlfuse_helper.BertEncoderLayer`` (from microsoft/GLIP,
``modeling_bert.py``). As there, initial values are torch's defaults. MMDetection also clamps values
that cannot exceed half precision: the activation of a clamped value, and the output of a layer norm
(at most sqrt(d) times its weight). This is left out here. Shapes: B captions, L tokens, d the
width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmsdpt.hosts.grounding.bert_modules import BertConfig, Layer


class BertEncoderLayer(Layer):
    """One BERT layer on the fused text features.

    Args:
        config: Width, heads, activation, dropout.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, clamp=True)

    def forward_features(self, hidden: Tensor, masks: Tensor | None) -> Tensor:
        """Apply the layer.

        Args:
            hidden: Text features (B, L, d).
            masks: 1 at valid tokens, 0 at padding: (B, L), or (B, L, L) with a row per query. None:
                all are valid.

        Returns:
            Text features (B, L, d).
        """
        mask: Tensor | None = None
        if masks is not None:
            valid = masks[:, None, None] if masks.dim() == 2 else masks[:, None]
            mask = (1 - valid.to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        return super().forward(hidden, mask)

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        """Replace ``lang['hidden']`` (B, L, d), in new dicts.

        Args:
            inputs: ``visual`` (anything, passed on) and ``lang``, a dict with ``hidden`` and
                ``masks``.
        """
        lang = inputs["lang"]
        hidden = self.forward_features(lang["hidden"], lang["masks"])
        return {"visual": inputs["visual"], "lang": {**lang, "hidden": hidden}}
