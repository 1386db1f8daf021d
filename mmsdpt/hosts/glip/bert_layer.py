"""The BERT layer on GLIP's fused text, without transformers' internals.

    a = LN(h + W_o · softmax(clamp(QKᵀ/√d_h) + m) V)        h' = LN(a + clamp(W_2 · gelu(clamp(W_1
    a))))

with m = 0 at valid tokens and the dtype's minimum at padding. Parameter names and shapes are those
of ``mmdet.models.utils.vlfuse_helper.BertEncoderLayer`` (from microsoft/GLIP,
``modeling_bert.py``). Like there, initial values are torch's defaults. Shapes: B captions, L
tokens, d the width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig

from .fusion import MAX_CLAMP_VALUE

# MMDetection also clamps what cannot exceed half precision: the activation of a clamped value, and
# the output of a layer norm (at most sqrt(d) times its weight).

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, L, d/H)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (self._heads(f(hidden)) for f in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, L, L)
        scores = scores.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
        if mask is not None:
            scores = scores + mask
        probabilities = self.dropout(scores.softmax(-1))
        return (probabilities @ value).transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """LN(residual + dropout(dense(x)))."""

    def __init__(self, config: BertConfig, width: int, clamp: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.clamp = clamp

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        x = self.dropout(self.dense(x))
        if self.clamp:
            x = x.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
        return self.LayerNorm(x + residual)


class _Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Output(config, config.hidden_size, clamp=False)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(hidden, mask), hidden)


class _Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = _ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x).clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE))


class BertEncoderLayer(nn.Module):
    """One BERT layer on the fused text features.

    Args:
        config: Width, heads, activation, dropout.

    Raises:
        ValueError: The configuration asks for what GLIP's layer does not have.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ValueError(
                f"BERT's hidden_size is {config.hidden_size}, expected a multiple of its "
                f"{config.num_attention_heads} heads."
            )
        if config.hidden_act not in _ACTIVATIONS:
            raise ValueError(
                f"BERT's hidden_act is '{config.hidden_act}', expected one of"
                f" {sorted(_ACTIVATIONS)}."
            )
        if getattr(config, "position_embedding_type", "absolute") != "absolute":
            raise ValueError(
                f"BERT's position_embedding_type is '{config.position_embedding_type}', expected"
                " 'absolute'."
            )
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config, config.intermediate_size, clamp=True)

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
        attended = self.attention(hidden, mask)
        return self.output(self.intermediate(attended), attended)

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Replace ``lang['hidden']`` (B, L, d); the dicts that come in stay as they are.

        Args:
            inputs: ``visual`` (anything, passed on) and ``lang``, a dict with ``hidden`` and
                ``masks``.
        """
        lang = inputs["lang"]
        hidden = self.forward_features(lang["hidden"], lang["masks"])
        return {"visual": inputs["visual"], "lang": {**lang, "hidden": hidden}}
