"""The samples of a deformable convolution, and their product with its kernel, without compiled
operators.

A bilinear sample is a weighted sum of four pixels, so all taps of all positions are one weighted
gather of pixel vectors (``embedding_bag``, with the mask folded into the weights), followed by one
matrix product. Compared with ``grid_sample`` times mask, no precision is lost by normalised
coordinates, and autograd keeps four weights and four 32-bit indices per tap instead of its C
samples.

Letters as in :mod:`mmsdpt.hosts.glip.deform_conv`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csc_matrix
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmsdpt.utils.memo import autocast_dtype

_FEW_CORES = 4  # with more, PyTorch's gradient of an embedding is used, which runs on all of them
_BLOCK = 2**22  # values in a block of samples


def _tap_positions(
    offset: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Rows and columns of all taps in the input, (2, B, Ho, Wo, K). The two axes come first, so
    that later operations run over contiguous memory.
    """
    taps = math.prod(kernel_size)
    size = offset.shape[2:]

    def axis(i: int) -> Tensor:
        start, tap = (
            torch.arange(0, n * step, step, device=offset.device, dtype=offset.dtype)
            for n, step in ((size[i], stride[i]), (kernel_size[i], 1))
        )
        return (start - padding[i]).view(-1, *[1] * (3 - i)) + tap.view(-1, *[1] * (1 - i))

    grid = torch.stack(torch.broadcast_tensors(axis(0), axis(1)))  # (2, Ho, Wo, kernel h, kernel w)
    offset = offset.unflatten(1, (taps, 2)).permute(2, 0, 3, 4, 1).contiguous()
    return offset + grid.view(2, 1, *size, taps)


def _corners(position: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each position on each axis.

    A pixel outside the map has weight zero. For positions up to -1 and from the size on, weights
    and gradients are zero, as in the DCN kernel, so even an infinite offset does no harm; NaN stays
    NaN.

    Args:
        position: (2, ...).
        size: (H, W).

    Returns:
        Valid indices (2 axes, 2 pixels, ...); whether a pixel has no weight, same shape; and the
        weight of the second of the two pixels (2, ...).
    """
    limit = position.new_tensor(tuple(size)).view(2, *[1] * (position.dim() - 1))
    position = torch.minimum(position.clamp(min=-1), limit)
    low = position.floor()
    fraction = position - low
    outside = torch.stack(
        ((low < 0).logical_or_(low >= limit), (position <= -1).logical_or_(low >= limit - 1)), dim=1
    )
    first = low.int()
    indices = torch.stack((first, first + 1), dim=1)
    for axis, length in zip(indices, size, strict=True):
        axis.clamp_(0, length - 1)
    return indices, outside, fraction


def _axis_weights(outside: Tensor, fraction: Tensor) -> Tensor:
    """Linear weights (2 axes, 2 pixels, ...)."""
    return torch.stack((1 - fraction, fraction), dim=1).masked_fill_(outside, 0)


def _four_last(pairs: Tensor) -> Tensor:
    """(2, 2, ...) to (M, 4), copied in the order that is fast for a narrow matrix."""
    out = pairs.new_empty(pairs[0, 0].numel(), 4)
    out.t().copy_(pairs.view(4, -1))
    return out


class _PixelWeights(torch.autograd.Function):
    """Weights (M, 4) of the four pixels of each sample, with its own backward pass: autograd would
    store and run about twelve steps.

    ``position`` (2, ...) is only an input for the gradient; the values come from ``outside`` and
    ``fraction``, which are computed from it before.
    """

    @staticmethod
    def forward(
        ctx: Any, position: Tensor, mask: Tensor, outside: Tensor, fraction: Tensor
    ) -> Tensor:
        ctx.save_for_backward(mask, outside, fraction)
        rows, columns = _axis_weights(outside, fraction)
        return _four_last((rows * mask).unsqueeze(1) * columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        mask, outside, fraction = ctx.saved_tensors
        rows, columns = _axis_weights(outside, fraction)
        grad = grad.t().view(2, 2, *mask.shape)
        of_rows = torch.addcmul(grad[:, 0] * columns[0], grad[:, 1], columns[1])
        of_mask = torch.addcmul(of_rows[0] * rows[0], of_rows[1], rows[1])
        of_columns = torch.addcmul(grad[0] * rows[0], grad[1], rows[1])
        slopes = torch.stack((of_rows, of_columns)).mul_(mask).masked_fill_(outside, 0)
        return slopes[:, 1] - slopes[:, 0], of_mask, None, None


def tap_weights(
    offset: Tensor,
    mask: Tensor,
    size: tuple[int, int],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The four pixels of each tap's sample, and their weights.

    Args:
        offset: (B, 2K, Ho, Wo), pixels, ordered dy_1, dx_1, dy_2, ...
        mask: (B, K, Ho, Wo).
        size: (H, W) of the input.
        kernel_size: (height, width).
        stride: vertical, horizontal.
        padding: vertical, horizontal.

    Returns:
        Indices into the pixels of all images and weights, (B Ho Wo K, 4).
    """
    H, W = size
    position = _tap_positions(offset, kernel_size, stride, padding)
    mask = mask.permute(0, 2, 3, 1).contiguous()
    (rows, columns), outside, fraction = _corners(position.detach(), size)
    weights = _PixelWeights.apply(position, mask, outside, fraction)
    first = torch.arange(len(mask), device=mask.device, dtype=rows.dtype).view(-1, 1, 1, 1)
    return _four_last(((rows + H * first) * W).unsqueeze(1) + columns), weights


def sampled_product(
    x: Tensor, pixels: Tensor, weights: Tensor, kernel: Tensor, bias: Tensor | None
) -> Tensor:
    """One matrix product over taps and channels of the samples: y_p = W [s_p1 ... s_pK] + b.

    Args:
        x: (P, C), all pixels.
        pixels: (n K, 4), indices of the four pixels of each sample.
        weights: (n K, 4), their weights.
        kernel: W, (O, K C).
        bias: b, (O,), or None.

    Returns:
        (n, O), in the dtype of ``kernel``, or of autocast.
    """
    device = x.device.type
    on_few_cores = device == "cpu" and torch.get_num_threads() <= _FEW_CORES
    if not on_few_cores or torch.jit.is_tracing() or len(x) < pixels.shape[1]:
        samples = _samples(x, pixels, weights).view(-1, kernel.shape[1])
        return F.linear(samples.to(kernel.dtype), kernel, bias)
    if dtype := autocast_dtype(x.device):
        kernel, bias = kernel.to(dtype), None if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return _SampledProduct.apply(x, pixels, weights, kernel, bias)


def _samples(x: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Sums of weighted pixels (M, C)."""
    return F.embedding_bag(pixels, x, per_sample_weights=weights, mode="sum")


class _SampledProduct(torch.autograd.Function):
    """:func:`sampled_product` in blocks of positions, so that the samples of a large map, nine
    times its size, are never all in memory.

    The samples are the product S x with a sparse matrix S (M, P). With their gradient g, the
    gradient of x is S^T g, and that of the weights is g x^T at the entries of S. PyTorch's gradient
    of an embedding first sorts the indices and computes the dot products one by one, which is
    several times slower on one core.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, pixels: Tensor, weights: Tensor, kernel: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, pixels, weights, kernel)
        taps = kernel.shape[1] // x.shape[1]
        out = kernel.new_empty(len(pixels) // taps, len(kernel))
        for places, taken in _blocks(len(out), taps, x.shape[1]):
            samples = _samples(x, pixels[taken], weights[taken]).view(-1, kernel.shape[1])
            samples = samples.to(kernel.dtype)
            if bias is None:
                torch.mm(samples, kernel.t(), out=out[places])
            else:
                torch.addmm(bias, samples, kernel.t(), out=out[places])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, pixels, weights, kernel = ctx.saved_tensors
        of_x, _, of_weights, of_kernel, of_bias = ctx.needs_input_grad
        d_x = torch.zeros_like(x) if of_x else None
        d_weights = torch.empty_like(weights) if of_weights else None
        d_kernel = torch.zeros_like(kernel, dtype=x.dtype) if of_kernel else None
        taps = kernel.shape[1] // x.shape[1]
        for places, taken in _blocks(len(grad), taps, x.shape[1]):
            if d_kernel is not None:
                samples = _samples(x, pixels[taken], weights[taken]).view(-1, kernel.shape[1])
                d_kernel += grad[places].t() @ samples.to(grad.dtype)
            if of_x or of_weights:
                d_samples = (grad[places] @ kernel).view(-1, x.shape[1]).to(x.dtype)
                band, sparse = _band(pixels[taken], len(x))
                if d_x is not None:
                    values = weights[taken].reshape(-1)
                    parts = (values.numpy(), *(part.numpy() for part in sparse))
                    shape = (band.stop - band.start, len(d_samples))
                    d_x[band] += torch.from_numpy(csc_matrix(parts, shape) @ d_samples.numpy())
                if d_weights is not None:
                    d_weights[taken] = _dot_products(sparse, d_samples, x[band])
        d_bias = grad.sum(0) if of_bias else None
        return d_x, None, d_weights, None if d_kernel is None else d_kernel.to(kernel.dtype), d_bias


def _blocks(positions: int, taps: int, channels: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the positions of each block, and of their samples."""
    samples = taps * channels
    size = max(1, _BLOCK // samples)
    for start in range(0, positions, size):
        stop = min(start + size, positions)
        yield slice(start, stop), slice(start * taps, stop * taps)


def _band(pixels: Tensor, count: int) -> tuple[slice, tuple[Tensor, Tensor]]:
    """The range of pixels, out of ``count``, that samples (M, 4) use, and the sparse matrix of M
    rows that selects them from this range: its columns, and the start of each row.
    """
    low, high = (int(x) for x in pixels.aminmax())
    low = max(0, min(low, count - pixels.shape[1]))  # a sparse row needs four columns
    band = slice(low, max(high + 1, low + pixels.shape[1]))
    starts = torch.arange(0, pixels.numel() + 1, pixels.shape[1], dtype=torch.int32)
    return band, ((pixels - low).int().view(-1), starts)


def _dot_products(sparse: tuple[Tensor, Tensor], grad: Tensor, x: Tensor) -> Tensor:
    """Dot products (M, 4) of each sample's gradient (M, C) with its four pixels of x (P, C)."""
    columns, starts = sparse
    values = grad.new_zeros(len(columns))
    shape = (len(grad), len(x))
    places = torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(places, grad, x.t(), beta=0.0).values().view(len(grad), -1)
