"""Rows of prompts in the sequence of a block: B samples, L tokens, P rows in total, d the width."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .seams import PromptRows, Rows


def gather(rows: Iterable[PromptRows], x: Tensor) -> Tensor:
    """Rows of several owners as one tensor: (B, P, d) if any differ by sample, else (1, P, d).

    Args:
        rows: Rows of at least one owner.
        x: (B, L, d), the sequence that they are added to.

    Raises:
        ValueError: if rows do not have the width or the batch size of ``x``.
    """
    batch, _, width = x.shape
    values = []
    for row in rows:
        shape = tuple(row.values.shape)
        if len(shape) < 2 or shape[-1] != width or shape[:-2] not in ((), (batch,)):
            raise ValueError(
                f"rows of prompts have the shape {shape}, but this block takes (p, {width}) or"
                f" ({batch}, p, {width}): size them by the seam's widths and the batch"
            )
        values.append(row.values if len(shape) == 3 else row.values[None])
    if any(len(value) != len(values[0]) for value in values):
        values = [value.expand(batch, -1, -1) for value in values]
    return torch.cat(values, dim=1) if len(values) > 1 else values[0]


def join(x: Tensor, rows: Rows) -> Tensor:
    """x (B, L, d) followed by all rows: (B, L + P, d), in the dtype of x."""
    if not rows:
        return x
    together = gather(rows.values(), x).expand(x.shape[0], -1, -1)
    return torch.cat([x, together.to(x.dtype)], dim=1)


def split(x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
    """The reverse of :func:`join`: (B, L, d), and the rows to keep, each (B, p, d)."""
    if not rows:
        return x, {}
    lengths = [row.values.shape[-2] for row in rows.values()]
    x, *parts = x.split([x.shape[1] - sum(lengths), *lengths], dim=1)
    return x, {
        key: PromptRows(part, keep=True, output=row.output)
        for (key, row), part in zip(rows.items(), parts, strict=True)
        if row.keep
    }
