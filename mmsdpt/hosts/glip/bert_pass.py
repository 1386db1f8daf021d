"""What one pass of the text encoder is made of: masks, progress, and a layer with its seams.

Shapes: B captions, L tokens of the longest one (special tokens included), d the width, p rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.seams import FeatureSeam, ForwardState, Rows


class AttentionMasks:
    """Additive masks, 0 at valid keys and the dtype's minimum elsewhere, by number of rows.

    Rows are valid keys for every query. As queries they see all real tokens and all rows.

    Args:
        mask: 1 at valid keys: (B, L), or (B, L, L) with a row per query.
        token_mask: (B, L), 1 at real tokens.
        dtype: Of the features.
    """

    def __init__(self, mask: Tensor, token_mask: Tensor, dtype: torch.dtype) -> None:
        self.mask, self.token_mask = mask.to(dtype), token_mask.to(dtype)
        # Attention has faster kernels without a mask.
        self.all_valid = bool(mask.all() & token_mask.all())
        self._made: dict[int, Tensor] = {}

    def with_rows(self, count: int) -> Tensor | None:
        """Mask (B, 1, L + p, L + p) for ``count`` = p rows; None where everything is valid."""
        if self.all_valid:
            return None
        if count not in self._made:
            keys = F.pad(self.token_mask, (0, count), value=1).unsqueeze(1)  # (B, 1, L + p)
            valid = keys
            if self.mask.dim() == 3:
                tokens = F.pad(self.mask, (0, count), value=1)  # (B, L, L + p)
                valid = torch.cat([tokens, keys.expand(-1, count, -1)], dim=1)
            added = (1 - valid.unsqueeze(1)) * torch.finfo(valid.dtype).min
            self._made[count] = added.expand(-1, -1, keys.shape[-1], -1)
        return self._made[count]


class TextProgress:
    """How far the encoder has come with a batch.

    Args:
        inputs: See :meth:`BertEncoder.begin`.
        state: For the handlers.
        x: Embeddings (B, L, d).
        rows: Rows behind them.

    Attributes:
        rows: Rows that travel into the next layer.
        outputs: What the layers have put out so far, each (B, L, d).
        first: Index of the layer that :meth:`BertEncoder.run_block` counts from.
    """

    def __init__(self, inputs: dict[str, Any], state: ForwardState, x: Tensor, rows: Rows) -> None:
        self.inputs, self.state, self.rows = inputs, state, rows
        self.attention = AttentionMasks(inputs["attention_mask"], self.mask, x.dtype)
        self.outputs: list[Tensor] = []
        self.first = 0
        self._embeddings = x

    @property
    def mask(self) -> Tensor:
        """(B, L), 1 at real tokens."""
        return self.inputs["token_mask"]

    @property
    def x(self) -> Tensor:
        """(B, L, d), the next layer's input. To be set to each layer's output, once."""
        return self.outputs[-1] if self.outputs else self._embeddings

    @x.setter
    def x(self, output: Tensor) -> None:
        self.outputs.append(output)


class SeamedLayer(nn.Module):
    """A layer of Hugging Face's BERT with its feature seams.

    Made anew in each pass: the recomputation in the backward pass must meet the handlers that were
    active in the forward pass.
    """

    def __init__(
        self, layer: nn.Module, after_attention: FeatureSeam, after_ffn: FeatureSeam
    ) -> None:
        super().__init__()
        self.layer = layer
        self.after_attention = [partial(f, after_attention) for f in after_attention.active()]
        self.after_ffn = [partial(f, after_ffn) for f in after_ffn.active()]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        layer = cast(Any, self.layer)
        attended = layer.attention.self(x, mask)[0]
        x = self._add(layer.attention.output, attended, x, self.after_attention)
        return self._add(layer.output, layer.intermediate(x), x, self.after_ffn)

    @staticmethod
    def _add(
        output: Any, x: Tensor, residual: Tensor, changes: Sequence[Callable[[Tensor], Tensor]]
    ) -> Tensor:
        x = output.dropout(output.dense(x))
        for change in changes:
            x = change(x)
        return output.LayerNorm(x + residual)


def per_sample(values: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """Rows (p, d) or (B, p, d) as (B, p, d)."""
    return values.expand(batch, -1, -1).to(dtype)
