"""The text tower: MMPreTrain's modules and parameter names, run with seams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import ProjectionSeam, TokenSeam
from mmsdpt.hosts.seams import BranchSeam, ForwardState

TextPartSeams = tuple[TokenSeam, ProjectionSeam, BranchSeam]
"""The seams of a block: ``text_block_inputs``, ``text_projections``, ``text_block_branches``."""
_UNUSED: TextPartSeams = TokenSeam(0, {}), ProjectionSeam(0, {}), BranchSeam(0, {})


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm in the precision of its parameters; the result has the precision of x.

    MMPreTrain's module always computes in float32, so it fails with float64 parameters.
    """
    weight = norm.weight
    return F.layer_norm(x.to(weight.dtype), norm.normalized_shape, weight, norm.bias, norm.eps).to(
        x.dtype
    )


def text_blocks(
    blocks: Sequence[nn.Module],
    prefix: Tensor,
    rest: Tensor,
    ends: Tensor,
    seams: Sequence[TextPartSeams],
    state: ForwardState,
) -> Tensor:
    """All blocks of MMPreTrain's ``CLIPTransformer``, on texts that begin with the same tokens.

    The attention is causal, so the outputs for the common tokens are the same in all texts. They
    are computed once, and the rest of each text uses them as keys and values. In "a photo of a {}."
    half of the tokens are common; in a learned context with a name, nearly all are. In the last
    block only the outputs at the end tokens are computed, because the others are not used. Padding
    of shorter texts goes only through the attention.

    Args:
        blocks: Its ``resblocks``.
        prefix: (G, P, d) embeddings of the common tokens of each of G groups of texts; P may be 0.
        rest: (C, K, d) embeddings of the rest of the C texts of each group.
        ends: (C,) index of each end token in the rest.
        seams: Those of each block; empty if no tuner is to act. ``text_block_inputs`` act on the
            prefix, or on the texts if P is 0.
        state: State of the forward pass.

    Returns:
        (G, C, d), the outputs at the end tokens.
    """
    G, P, d = prefix.shape
    C, K, _ = rest.shape
    packing = _Packing(ends, K) if P else None
    x = packing.collect(rest).repeat(G, 1, 1) if packing else rest.repeat(G, 1, 1)
    for i, block in enumerate(blocks):
        tokens, projection, branch = seams[i] if seams else _UNUSED
        last = i + 1 == len(blocks)
        if P:
            prefix = tokens.change(prefix, state)
            P = prefix.shape[1]
        else:
            x = tokens.change(x, state)
            ends, K = ends + x.shape[1] - K, x.shape[1]
        # (K, P + K): each token of the rest sees the prefix and what precedes it.
        mask = torch.ones(K, P + K, dtype=torch.bool, device=rest.device).tril(P)
        normed = layer_norm(block.ln_1, x)
        if not last or projection.active():
            q, k, v = _heads(block.attn, normed, "qkv", projection, packing)
        else:
            k, v = _heads(block.attn, normed, "kv", packing=packing)
        if last:
            index = ends.repeat(G)[:, None, None].expand(-1, 1, d)  # (G C, 1, d)
            x, asking = (packing.at_ends(y) if packing else y.gather(1, index) for y in (x, normed))
            if projection.active():
                q = q.gather(2, index[:, None, :, : q.shape[-1]].expand(-1, q.shape[1], -1, -1))
            else:
                (q,) = _heads(block.attn, asking, "q")
            mask = mask[ends].repeat(G, 1)[:, None, None]  # (G C, 1, 1, P + K)
            normed = asking
        if P:
            normed_prefix = layer_norm(block.ln_1, prefix)
            q_prefix, k_prefix, v_prefix = _heads(block.attn, normed_prefix, "qkv", projection)
            k = torch.cat([k_prefix.repeat_interleave(C, dim=0), k], dim=2)
            v = torch.cat([v_prefix.repeat_interleave(C, dim=0), v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = x + _output(block.attn, packing.collect(y) if packing and not last else y)
        x = branch.add(x + block.mlp(layer_norm(block.ln_2, x)), normed)
        if P and not last:
            y = F.scaled_dot_product_attention(q_prefix, k_prefix, v_prefix, is_causal=True)
            prefix = prefix + _output(block.attn, y.transpose(1, 2).flatten(2))
            prefix = branch.add(prefix + block.mlp(layer_norm(block.ln_2, prefix)), normed_prefix)
    return x.reshape(G, C, d)


class _Packing:
    """Texts of different lengths without padding: G groups of n rows, all tokens of the C texts.

    Only the attention needs C texts of K tokens. The padding does not affect any output that is
    used: the attention is causal, and the padding comes after the end token.

    Args:
        ends: (C,) index of each text's end token.
        length: K.
    """

    def __init__(self, ends: Tensor, length: int) -> None:
        real = torch.arange(length, device=ends.device) <= ends[:, None]  # (C, K)
        self.length = length
        self.places = real.flatten().nonzero().flatten()  # (n,) of C K
        self.rows = real.flatten().cumsum(0) - 1  # (C K,) of n; padding repeats the end token
        self.ends = real.sum(1).cumsum(0) - 1  # (C,) of n

    def collect(self, x: Tensor) -> Tensor:
        """(G C, K, d) to (G, n, d)."""
        return x.reshape(-1, len(self.rows), x.shape[-1]).index_select(1, self.places)

    def spread(self, x: Tensor) -> Tensor:
        """(G, n, d) to (G C, K, d)."""
        return x.index_select(1, self.rows).view(-1, self.length, x.shape[-1])

    def at_ends(self, x: Tensor) -> Tensor:
        """(G, n, d) to the end tokens (G C, 1, d)."""
        return x.index_select(1, self.ends).view(-1, 1, x.shape[-1])


def _heads(
    attention: nn.MultiheadAttention,
    x: Tensor,
    which: str,
    projection: ProjectionSeam | None = None,
    packing: _Packing | None = None,
) -> Tensor:
    """Queries, keys or values, or several of them: (N, L, d) to (n, N, heads, L, d / heads).

    Uses the parameters of torch's module but not its forward pass, which takes sequences first,
    forms the attention map, and gets a mask of the full context from MMPreTrain.

    Args:
        which: ``q``, ``kv`` or ``qkv``; n is its length.
        projection: With ``qkv``: the seam that acts on it.
        packing: Packing of x; the result is spread.
    """
    d = x.shape[-1]
    rows = slice("qkv".index(which[0]) * d, ("qkv".index(which[-1]) + 1) * d)
    y = F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
    y = y if projection is None else projection.change(y, x)
    y = y if packing is None else packing.spread(y)
    return y.unflatten(-1, (len(which), attention.num_heads, -1)).permute(2, 0, 3, 1, 4)


def _output(attention: nn.MultiheadAttention, y: Tensor) -> Tensor:
    """The output projection of the joined heads (N, L, d)."""
    return F.linear(y, attention.out_proj.weight, attention.out_proj.bias)


def pool(x: Tensor, norm: nn.LayerNorm, projection: Tensor) -> Tensor:
    """Text features: the outputs at the end tokens, normed and projected.

    Args:
        x: (..., d).
        projection: ``text_projection``, (d, e).

    Returns:
        (..., e), not normalised, in the precision of the parameters, also under autocast.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer_norm(norm, x.to(projection.dtype)) @ projection
