"""Multi-head attention of the text layers and the decoder.

PyTorch's module uses another kernel if nothing in it needs a gradient, so the last bits of its
output would depend on what trains. In training it also computes all attention weights and their
mean over the heads, which are not used.
"""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiheadAttention as MMCVMultiheadAttention
from torch import Tensor


class MultiheadAttention(MMCVMultiheadAttention):
    """MMCV's, with the same parameters."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Attend, and add the identity.

        Args:
            query: (B, Q, C).
            key: (B, K, C); None: the query.
            value: (B, K, C); None: the key.
            identity: (B, Q, C); None: the query.
            query_pos: (B, Q, C), added to the query.
            key_pos: (B, K, C), added to the key; None: nothing is added. MMCV instead adds
                ``query_pos`` if there are as many keys as queries, even if they are different ones.
            attn_mask: (Q, K) or (B H, Q, K), True where a query does not see a key.
            key_padding_mask: (B, K), True at padding.
            **kwargs: Ignored, as in MMCV.

        Returns:
            (B, Q, C).
        """
        identity = query if identity is None else identity
        key = query if key is None else key
        value = key if value is None else value
        query = query if query_pos is None else query + query_pos
        key = key if key_pos is None else key + key_pos

        weights, biases = self.attn.in_proj_weight.chunk(3), self.attn.in_proj_bias.chunk(3)
        heads = [
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]  # (B, H, n, C / H)
        attended = F.scaled_dot_product_attention(
            *heads,
            attn_mask=_visible(attn_mask, key_padding_mask, len(query)),
            dropout_p=self.attn.dropout if self.training else 0.0,
        )
        out = self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        return identity + self.dropout_layer(self.proj_drop(out))


def _visible(hidden: Tensor | None, padding: Tensor | None, batch: int) -> Tensor | None:
    """(B or 1, H or 1, Q or 1, K), True where a query sees a key; None: all see all."""
    if hidden is not None:
        hidden = hidden[None, None] if hidden.dim() == 2 else hidden.unflatten(0, (batch, -1))
    if padding is not None:
        padding = padding[:, None, None]
        hidden = padding if hidden is None else hidden | padding
    return None if hidden is None else ~hidden
