"""The text tower: MMPreTrain's modules and parameter names, run with seams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.hosts.two_tower_seams import TokenSeam


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """The norm in its parameters' precision, back in that of x.

    MMPreTrain's module computes in float32 always, and so refuses float64.
    """
    weight = norm.weight
    return F.layer_norm(x.to(weight.dtype), norm.normalized_shape, weight, norm.bias, norm.eps).to(
        x.dtype
    )


def causal_attention(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Causal self-attention with the parameters of torch's module, (N, L, d) to (N, L, d).

    The module itself keeps sequences first, makes the attention map, and MMPreTrain hands it a mask
    of the full context.
    """
    N, L, d = x.shape
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.view(N, L, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y = y.transpose(1, 2).reshape(N, L, d)
    return F.linear(y, attention.out_proj.weight, attention.out_proj.bias)


def text_blocks(
    blocks: Sequence[nn.Module], x: Tensor, seams: Sequence[TokenSeam], state: ForwardState
) -> Tensor:
    """All blocks of MMPreTrain's ``CLIPTransformer``.

    Args:
        blocks: Its ``resblocks``.
        x: (N, L, d) embeddings with positions.
        seams: One per block; none where no tuner is to act.
        state: Of the forward pass.

    Returns:
        (N, L, d).
    """
    for i, block in enumerate(blocks):
        if seams:
            x = seams[i].change(x, state)
        x = x + causal_attention(block.attn, layer_norm(block.ln_1, x))
        x = x + block.mlp(layer_norm(block.ln_2, x))
    return x


def pool(x: Tensor, ends: Tensor, norm: nn.LayerNorm, projection: Tensor) -> Tensor:
    """Text features: the outputs at the end tokens, normed and projected.

    Args:
        x: (N, L, d) output of the blocks.
        ends: (N,).
        norm: ``ln_final``.
        projection: ``text_projection``, (d, e).

    Returns:
        (N, e), not normalised.
    """
    rows = x[torch.arange(len(x), device=x.device), ends]
    return layer_norm(norm, rows) @ projection
