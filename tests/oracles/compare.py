"""Is it the same, up to rounding: outputs and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Of a sum in which every element of the outputs has another weight."""
    weights = [torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o) for o in outputs]
    total = sum((o * w).sum() for o, w in zip(outputs, weights, strict=True))
    return torch.autograd.grad(total, inputs, allow_unused=True)


def assert_close(
    found: Sequence[Tensor | None], expected: Sequence[Tensor | None], relative: float = 1e-9
) -> None:
    """Each error against the largest magnitude, which counts as at least one."""
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a is None) == (b is None), i
        if a is not None:
            assert a.shape == b.shape, i
            error = (a - b).abs().max() / b.abs().max().clamp_min(1)
            assert error <= relative, f"{i}: {error:.1e}"
