"""Swin's windows: one gather moves a map's tokens into windows, another one moves them back.

Letters as in swin.py: B images; (H, W) size of a map, L = H W its tokens; N tokens of a window, nW
windows of an image, n = nW B.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# As in Swin: added to the scores of tokens that are in one window only because of the shift.
_MASKED = -100.0


@dataclass(frozen=True, eq=False)
class WindowLayout:
    """Positions of a map's tokens in windows. Windows are ordered by kind of mask, place and image.

    Attributes:
        places: (B L,) the row of each token among the n N rows of the windows.
        sources: (n N,) the token of each row; 0 at padding.
        padding: Rows that are padding; None if there are none.
        groups: For each kind of mask its first window, the window after its last one, and the mask
            (N, N), or None if all tokens see each other.
    """

    places: Tensor
    sources: Tensor
    padding: Tensor | None
    groups: tuple[tuple[int, int, Tensor | None], ...]

    def to_windows(self, tokens: Tensor, fill: Tensor | None) -> Tensor:
        """(B L, c) tokens to (n N, c) rows, ``fill`` (c) at padding."""
        return ToWindows.apply(tokens, fill, self)

    def from_windows(self, rows: Tensor) -> Tensor:
        """(n N, c) rows to (B L, c) tokens."""
        return FromWindows.apply(rows, self)


def window_layout(
    batch: int, size: tuple[int, int], window: int, shift: int, device: torch.device
) -> WindowLayout:
    """Layout of ``batch`` maps in windows.

    Args:
        size: (H, W), tokens; padded on the right and at the bottom to multiples of ``window``.
        window: Side of a window, tokens.
        shift: Cyclic shift to the upper left, tokens; 0: none.
    """
    height, width = size
    rows, columns = -(-height // window), -(-width // window)
    # Normal tensors on the CPU in any mode of the caller, because they are used in others later.
    with torch.inference_mode(False), torch.device("cpu"):
        grid = torch.full((rows * window, columns * window), -1)
        grid[:height, :width] = torch.arange(height * width).view(height, width)
        grid = grid.roll((-shift, -shift), (0, 1))
        windows = grid.view(rows, window, columns, window).transpose(1, 2).flatten(2).flatten(0, 1)
        kinds = torch.zeros(rows, columns, dtype=torch.long)
        if shift:
            kinds[-1] += 2
            kinds[:, -1] += 1
        windows = windows[kinds.flatten().argsort(stable=True)]  # (nW, N)
        first_tokens = torch.arange(batch).view(1, -1, 1) * (height * width)
        sources = torch.where(windows[:, None] < 0, -1, windows[:, None] + first_tokens).flatten()
        filled = (sources >= 0).nonzero().flatten()
        places = torch.empty(len(filled), dtype=torch.long)
        places[sources[filled]] = filled
        padding = (sources < 0).nonzero().flatten()

        groups: list[tuple[int, int, Tensor | None]] = []
        wrapped = torch.arange(window) >= window - shift
        for kind, count in enumerate(kinds.flatten().bincount().tolist()):
            if count:
                below, right = wrapped * (kind // 2), wrapped * (kind % 2)
                region = (2 * below[:, None] + right).flatten()
                mask = (region[:, None] != region) * _MASKED
                start = groups[-1][1] if groups else 0
                stop = start + count * batch
                groups.append((start, stop, mask.to(device) if kind else None))
        return WindowLayout(
            places=places.to(device),
            sources=sources.clamp(min=0).to(device),
            padding=padding.to(device) if len(padding) else None,
            groups=tuple(groups),
        )


class ToWindows(torch.autograd.Function):
    """(B L, c) tokens to (n N, c) rows, ``fill`` (c) at padding.

    The inverse is known, so the gradient is a gather, too; autograd would use a slow sum.
    """

    @staticmethod
    def forward(ctx, tokens: Tensor, fill: Tensor | None, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        out = tokens.index_select(0, layout.sources)
        if layout.padding is not None:
            if fill is None:
                out.index_fill_(0, layout.padding, 0)
            else:
                out.index_copy_(0, layout.padding, fill.expand(len(layout.padding), -1))
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        layout, to_fill = ctx.layout, None
        if ctx.needs_input_grad[1] and layout.padding is not None:
            to_fill = grad.index_select(0, layout.padding).sum(0)
        return grad.index_select(0, layout.places), to_fill, None


class FromWindows(torch.autograd.Function):
    """(n N, c) rows to (B L, c) tokens; the inverse of :class:`ToWindows`."""

    @staticmethod
    def forward(ctx, rows: Tensor, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        return rows.index_select(0, layout.places)

    @staticmethod
    def backward(ctx, grad: Tensor):
        layout = ctx.layout
        grad = grad.index_select(0, layout.sources)
        if layout.padding is not None:
            grad.index_fill_(0, layout.padding, 0)
        return grad, None
