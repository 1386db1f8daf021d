r"""Both directions of attention between image rows and words, in blocks of rows.

Letters: B images, R image rows, H heads, T words, M words and extra tokens, D the image width.

With the scores S = x K^T + b of all heads (B, R, H, M) and their first T columns S_T, the output of
the rows is softmax_M(S) V, and that of the words is softmax_R(S_T)^T x. A block of rows fits in the
processor's cache, so operations on its scores add little to the cost of the matrix products. Over
the blocks, the words' softmax keeps a maximum and a sum of exponentials (Milakov and Gimelshein,
https://arxiv.org/abs/1805.02867). No scores are kept for the backward pass: they are computed again
(Dao et al., https://arxiv.org/abs/2205.14135).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmsdpt.utils.memo import autocast_dtype

# Half precision overflows at 65,504; MMDetection clamps scores and class logits to this value.
MAX_CLAMP_VALUE = 50000
# Scores of a block: they fit in a processor's cache, or are enough work for a kernel of a GPU.
_ON_CPU, _ELSEWHERE = 2**20, 2**26
# Below this number of scores, keeping them is faster than computing them again.
FEW_SCORES = 2**23


def cross_attention(
    rows: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    num_words: int,
    hidden_words: Tensor | None = None,
    hidden_rows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend in both directions, with scores that are clamped to +-50,000.

    Under autocast, matrix products have its precision; the softmax has at least float32.

    Args:
        rows: x, (B, R, D).
        keys: K, (B, H, M, D), with the scale.
        key_bias: b, (B, H, M).
        values: V, (B, H, M, D_out).
        num_words: T. The extra tokens, T to M, are keys for the rows, but not queries.
        hidden_words: (B, M) bool, True at words that the rows do not see.
        hidden_rows: (B, R) bool, True at rows that the words do not see.

    Returns:
        The outputs of the rows, summed over heads (B, R, D_out), and of the words (B, H, T, D).
    """
    dtype = autocast_dtype(rows.device) or rows.dtype
    with torch.autocast(rows.device.type, enabled=False):
        return _CrossAttention.apply(
            *(rows.to(dtype), keys.to(dtype), key_bias, values.to(dtype)),
            *(num_words, hidden_words, hidden_rows),
        )


def is_without_values(x: Tensor) -> bool:
    """Whether values must not be read: a graph is traced for other inputs, or x is on the meta
    device, where operations are counted.
    """
    return torch.jit.is_tracing() or x.is_meta


def may_pass_bound(rows: Tensor, keys: Tensor, key_bias: Tensor) -> bool:
    """Whether a score may exceed the bound, as |x k + b| <= |x| |k| + |b|. Usually none can, and
    then the scores need not be clamped.
    """
    if is_without_values(rows):
        return True
    precise = torch.promote_types(rows.dtype, torch.float32)
    with torch.no_grad():
        x, k = (each.norm(dim=-1, dtype=precise).max() for each in (rows, keys))
        return not bool(x * k + key_bias.abs().max() <= MAX_CLAMP_VALUE)


class _CrossAttention(torch.autograd.Function):
    """See :func:`cross_attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        num_words: int,
        hidden_words: Tensor | None,
        hidden_rows: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        B, H, M, _ = keys.shape
        precise = torch.promote_types(rows.dtype, torch.float32)
        flat_values = values.flatten(1, 2)
        # Hidden rows have -inf. The maximum must be finite, because -inf minus -inf is NaN.
        top = rows.new_full((B, 1, H, num_words), torch.finfo(precise).min, dtype=precise)
        total = torch.zeros_like(top)
        seen = rows.new_zeros((B, H * num_words, rows.shape[2]), dtype=precise)
        bounded = ctx.bounded = may_pass_bound(rows, keys, key_bias)
        of_rows = []
        for x, hidden in _blocks(rows, hidden_rows, H * M):
            scores = _scores(x, keys, key_bias, precise)
            if bounded:
                scores = scores.clamp_(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
            scores = scores.unflatten(2, (H, M))
            to_words = _without(scores[..., :num_words], hidden, rows=True)
            before, top = top, torch.maximum(top, to_words.amax(1, keepdim=True))
            weights, kept = (to_words - top).exp_(), (before - top).exp_()
            total.mul_(kept).add_(weights.sum(1, keepdim=True))
            seen.mul_(kept.flatten(2).transpose(1, 2))
            seen += torch.bmm(weights.flatten(2).transpose(1, 2).to(x.dtype), x)
            attention = _without(scores, hidden_words).softmax(-1).flatten(2)
            of_rows.append(torch.bmm(attention.to(x.dtype), flat_values))
        seen /= total.flatten(2).transpose(1, 2)
        ctx.save_for_backward(
            *(rows, keys, key_bias, values, hidden_words, hidden_rows),
            *(top + total.log(), seen),
        )
        return torch.cat(of_rows, dim=1), seen.unflatten(1, (H, num_words)).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor, of_seen: Tensor) -> tuple[Tensor | None, ...]:
        rows, keys, key_bias, values, hidden_words, hidden_rows, log_total, seen = ctx.saved_tensors
        _, H, M, _ = keys.shape
        T, precise = log_total.shape[3], log_total.dtype
        flat_keys, flat_values = keys.flatten(1, 2), values.flatten(1, 2)
        of_seen = of_seen.flatten(1, 2)
        # The gradient of softmax is p (dp - sum(p dp)). The sum over all rows is seen . of_seen.
        shared = (of_seen * seen).sum(-1).view_as(log_total)
        d_keys, d_bias, d_values = (
            torch.zeros_like(x, dtype=precise) for x in (flat_keys, key_bias, flat_values)
        )
        d_rows = []
        start = 0
        for x, hidden in _blocks(rows, hidden_rows, H * M):
            scores = _scores(x, keys, key_bias, precise)
            if ctx.bounded:
                clamped = scores.abs() > MAX_CLAMP_VALUE
                scores = scores.clamp_(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
            scores = scores.unflatten(2, (H, M))
            p_words = _without(scores[..., :T], hidden, rows=True).sub(log_total).exp_()
            d_words = torch.bmm(x, of_seen.transpose(1, 2)).to(precise).view_as(p_words)
            d_words = d_words.sub_(shared).mul_(p_words)

            given = of_rows[:, start : start + x.shape[1]]
            start += x.shape[1]
            p_rows = _without(scores, hidden_words).softmax(-1)
            d_values += torch.bmm(p_rows.flatten(2).to(x.dtype).transpose(1, 2), given)
            d_scores = torch.bmm(given, flat_values.transpose(1, 2)).to(precise).view_as(p_rows)
            d_scores = torch.ops.aten._softmax_backward_data(d_scores, p_rows, -1, precise)
            d_scores[..., :T] += d_words
            d_scores = d_scores.flatten(2)
            if ctx.bounded:
                d_scores.masked_fill_(clamped, 0)

            d_bias += d_scores.sum(1).view_as(d_bias)
            d_scores = d_scores.to(x.dtype)
            d_keys += torch.bmm(d_scores.transpose(1, 2), x)
            if ctx.needs_input_grad[0]:
                d_x = torch.bmm(d_scores, flat_keys)
                d_rows.append(d_x.baddbmm_(p_words.flatten(2).to(x.dtype), of_seen))
        return (
            torch.cat(d_rows, dim=1) if d_rows else None,
            d_keys.view_as(keys).to(keys.dtype),
            d_bias.to(key_bias.dtype),
            d_values.view_as(values).to(values.dtype),
            *(None, None, None),
        )


def _blocks(
    rows: Tensor, hidden: Tensor | None, columns: int
) -> list[tuple[Tensor, Tensor | None]]:
    """For each block, its rows (B, r, D), and which of them are hidden (B, r)."""
    limit = _ON_CPU if rows.device.type == "cpu" else _ELSEWHERE
    count = -(-len(rows) * rows.shape[1] * columns // limit)
    size = -(-rows.shape[1] // max(count, 1))
    parts = rows.split(size, dim=1)
    of_hidden = [None] * len(parts) if hidden is None else hidden.split(size, dim=1)
    return list(zip(parts, of_hidden, strict=True))


def _scores(x: Tensor, keys: Tensor, key_bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Scores (B, r, H M) of a block, not clamped."""
    scores = torch.bmm(x, keys.flatten(1, 2).transpose(1, 2)).to(dtype)
    return scores.add_(key_bias.flatten(1).unsqueeze(1))


def _without(scores: Tensor, hidden: Tensor | None, rows: bool = False) -> Tensor:
    """Scores (B, r, H, M) with -inf at hidden words (B, M), or hidden rows (B, r)."""
    if hidden is None:
        return scores
    hidden = hidden[:, :, None, None] if rows else hidden[:, None, None, :]
    return scores.masked_fill(hidden, float("-inf"))
