"""Modulated deformable convolution (DCNv2) without compiled operators.

At output position p, with the place q = p * stride - padding + k * dilation of tap k in the input
(Zhu et al., Deformable ConvNets v2, 2019, equation 1)::

    y[p] = bias + sum_k W_k . ( mask_k[p] * x(q + offset_k[p]) )

x(.) is bilinear, and zero outside the map. A bilinear sample is a weighted sum of four pixels, so
all taps of all positions are one weighted gather of pixel vectors (``embedding_bag``, with the mask
folded into the weights), followed by one matrix product. Against ``grid_sample`` times mask this
loses no precision to normalised coordinates, and autograd keeps four weights and 32-bit indices
per tap instead of its C samples: where the convolution's weights are frozen, the sampled columns
are freed at once.

Letters: B images; C channels in, O out; (H, W) size of the input, (h, w) of the offset and mask
maps, (Ho, Wo) of the output; K taps of the kernel, 9 for 3 x 3.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csc_matrix
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

from mmsdpt.compat import has_compiled_ops
from mmsdpt.utils.errors import InputError


def read_flat(maps: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Read per-position maps with the height and width of the output, as MMCV's kernel does.

    That kernel never looks at the size of the offset and mask maps: it indexes their memory, image
    by image, as (channels, Ho, Wo). GLIP's DyConv gives the maps of one pyramid level to
    convolutions of its neighbours, whose output has another size, and GLIP's weights were trained
    with the values found so: the first ``channels * Ho * Wo`` of the flattened map, neither a crop
    nor a resized map.

    In GLIP the output is never larger than the map: the coarser level is smaller, and the finer
    one, of height H, is convolved with stride 2 to ceil(H / 2), which is the size that patch
    merging (it pads odd sizes) and the neck's stride-2 convolutions give the level itself. A
    pyramid that rounds down breaks this where H is odd, and MMCV then reads on into other memory;
    here it is an error.

    Args:
        maps: (B, channels, h, w).
        channels: number of values per position.
        size: (Ho, Wo).

    Returns:
        (B, channels, Ho, Wo).

    Raises:
        ValueError: another number of channels, or h * w < Ho * Wo.
    """
    if maps.dim() != 4 or maps.shape[1] != channels:
        raise ValueError(
            f"deformable convolution got an offset or mask map of shape {tuple(maps.shape)}, but"
            f" its kernel needs (B, {channels}, h, w)."
        )
    if maps.shape[2:] == size:
        return maps
    h, w = maps.shape[2:]
    height, width = size
    if h * w < height * width:
        raise ValueError(
            f"deformable convolution has {height} x {width} output positions, but an offset or mask"
            f" map of only {h} x {w}; give each pyramid level ceil(size / 2) of the level"
            " before it."
        )
    return maps.flatten(1)[:, : channels * height * width].view(-1, channels, height, width)


_FEW_CORES = 4  # PyTorch's gradient of an embedding runs on all of them


def _tap_positions(
    offset: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Rows and columns of all taps in the input, (2, B, Ho, Wo, K). The axes come first, so that
    what follows runs through long stretches of memory.
    """
    taps = math.prod(kernel_size)
    size = offset.shape[2:]

    def axis(i: int) -> Tensor:
        start, tap = (
            torch.arange(0, n * step, step, device=offset.device, dtype=offset.dtype)
            for n, step in ((size[i], stride[i]), (kernel_size[i], dilation[i]))
        )
        return (start - padding[i]).view(-1, *[1] * (3 - i)) + tap.view(-1, *[1] * (1 - i))

    grid = torch.stack(torch.broadcast_tensors(axis(0), axis(1)))  # (2, Ho, Wo, kernel h, kernel w)
    offset = offset.unflatten(1, (taps, 2)).permute(2, 0, 3, 4, 1).contiguous()
    return offset + grid.view(2, 1, *size, taps)


def _corners(position: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each position on each axis.

    A pixel outside has weight zero. At and beyond -1 and the size weights and gradients are zero,
    as in the DCN kernel, so that even an infinite offset is harmless; NaN stays NaN.

    Args:
        position: (2, ...).
        size: (H, W).

    Returns:
        Legal indices (2 axes, 2 pixels, ...), whether a pixel has no weight, of the same shape, and
        the weight of the second pixel among the two (2, ...).
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
    """(2, 2, ...) to (M, 4), in the order that is fast for so narrow a matrix."""
    out = pairs.new_empty(pairs[0, 0].numel(), 4)
    out.t().copy_(pairs.view(4, -1))
    return out


class _PixelWeights(torch.autograd.Function):
    """Weights (M, 4) of the four pixels of each sample, with the gradient written out: autograd
    would keep, and run through, each of a dozen steps.

    ``position`` (2, ...) is where the gradient goes; what follows from it, ``outside`` and
    ``fraction``, is given as well.
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


def sample_taps(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Modulated bilinear samples of all taps at all output positions.

    Args:
        x: (B, C, H, W).
        offset: (B, 2K, Ho, Wo), pixels, ordered dy_1, dx_1, dy_2, ...
        mask: (B, K, Ho, Wo).
        kernel_size: (height, width); this and the following as in :func:`modulated_deform_conv2d`.
        stride: vertical, horizontal.
        padding: vertical, horizontal.
        dilation: vertical, horizontal.

    Returns:
        (B, Ho, Wo, K, C), of the type of ``x``.
    """
    B, C, H, W = x.shape
    position = _tap_positions(offset.to(x.dtype), kernel_size, stride, padding, dilation)
    mask = mask.to(x.dtype).permute(0, 2, 3, 1).contiguous()
    (rows, columns), outside, fraction = _corners(position.detach(), (H, W))
    weights = _PixelWeights.apply(position, mask, outside, fraction)
    first = torch.arange(B, device=x.device, dtype=rows.dtype).view(-1, 1, 1, 1)
    pixels = _four_last(((rows + H * first) * W).unsqueeze(1) + columns)
    samples = weighted_rows(
        x.permute(0, 2, 3, 1)
        .contiguous()
        .view(B * H * W, C),  # a strided view gathers many times slower
        pixels,
        weights,
    )
    return samples.view(*mask.shape, C)


def weighted_rows(rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sums of weighted rows: y_m = sum_j w_mj x_(i_mj).

    Args:
        rows: x (P, C).
        indices: i (M, n).
        weights: w (M, n).

    Returns:
        (M, C).
    """
    on_few_cores = rows.device.type == "cpu" and torch.get_num_threads() <= _FEW_CORES
    if on_few_cores and len(rows) >= indices.shape[1]:  # a sparse matrix has no place twice
        return _WeightedRows.apply(rows, indices, weights)
    return F.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")


class _WeightedRows(torch.autograd.Function):
    """:func:`weighted_rows` as the product S x with a sparse S (M, P): the gradients are S^T g, and
    g x^T where S has weights. PyTorch's own for an embedding sorts the indices first and takes the
    dot products one by one, which is several times slower on one core.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, indices, weights)
        return F.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        rows, indices, weights = ctx.saved_tensors
        shape, grad = (len(indices), len(rows)), grad.contiguous()
        starts = torch.arange(0, indices.numel() + 1, indices.shape[1], dtype=torch.int32)
        columns, values = indices.int().view(-1), weights.reshape(-1)
        of_rows = of_weights = None
        if ctx.needs_input_grad[0]:
            parts = (values.numpy(), columns.numpy(), starts.numpy())
            of_rows = torch.from_numpy(csc_matrix(parts, shape=shape[::-1]) @ grad.numpy())
        if ctx.needs_input_grad[2]:
            places = torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)
            products = torch.sparse.sampled_addmm(places, grad, rows.t(), beta=0.0)
            of_weights = products.values().view_as(weights)
        return of_rows, None, of_weights


def modulated_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Modulated deformable convolution; arguments and results of
    ``mmcv.ops.modulated_deform_conv2d``, without groups.

    Precision: positions and samples are float32 at least, whatever the inputs (a bfloat16 position
    cannot tell 256 from 257). The matrix product and the output have the type of ``weight``, or
    autocast's where that is on. A sample is a convex combination of pixels times the mask, so it
    cannot overflow. The operators that :func:`chosen_form` may name compute in float32 throughout.

    Args:
        x: (B, C, H, W).
        offset: (B, 2K, h, w), pixels, ordered dy_1, dx_1, dy_2, ...; read by :func:`read_flat`.
        mask: (B, K, h, w); read by :func:`read_flat`.
        weight: (O, C, kernel height, kernel width).
        bias: (O,) or None.
        stride: step of the output positions in the input; one number, or vertical and horizontal.
        padding: zeros around the input.
        dilation: step of the taps.

    Returns:
        (B, O, Ho, Wo), in channels-last memory.

    Raises:
        ValueError: shapes that do not fit, or maps smaller than the output.
    """
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"deformable convolution got {x.shape[1]} input channels, but its weights need"
            f" {weight.shape[1]}."
        )
    steps, pads, tap_steps = _pair(stride), _pair(padding), _pair(dilation)
    kernel_size = (weight.shape[2], weight.shape[3])
    Ho, Wo = (
        (x.shape[2 + i] + 2 * pads[i] - tap_steps[i] * (kernel_size[i] - 1) - 1) // steps[i] + 1
        for i in (0, 1)
    )
    if Ho < 1 or Wo < 1:
        raise ValueError(
            f"deformable convolution has no output position for an input of {tuple(x.shape)}."
        )
    taps = math.prod(kernel_size)
    offset, mask = read_flat(offset, 2 * taps, (Ho, Wo)), read_flat(mask, taps, (Ho, Wo))
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    form = chosen_form(x.device.type)
    if form != "gather":
        maps = (part.to(x.dtype).contiguous() for part in (offset, mask))
        parameters = (weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        with torch.autocast(x.device.type, enabled=False):
            return _OPERATORS[form](x.contiguous(), *maps, *parameters, steps, pads, tap_steps)
    samples = sample_taps(x, offset, mask, kernel_size, steps, pads, tap_steps)
    # One product over taps and channels; the kernel is brought to the order of the samples, (K, C).
    out = F.linear(samples.flatten(3).to(weight.dtype), weight.permute(0, 2, 3, 1).flatten(1), bias)
    return out.permute(0, 3, 1, 2)


def chosen_form(device: str) -> str:
    """Which form computes deformable convolutions on a type of device: that of the environment
    variable ``MMSDPT_DEFORM_CONV``, else the fastest known (:data:`_FASTEST`).

    Raises:
        InputError: for a form that does not exist, or MMCV's without compiled operators.
    """
    form = os.environ.get("MMSDPT_DEFORM_CONV") or _FASTEST.get(device, "gather")
    if form not in ("gather", *_OPERATORS):
        raise InputError(
            "MMSDPT_DEFORM_CONV must be gather, torchvision or mmcv, the form of deformable"
            f" convolution, got {form!r}"
        )
    if form == "mmcv" and not has_compiled_ops():
        raise InputError(
            "MMSDPT_DEFORM_CONV=mmcv needs MMCV with compiled operators, and this one has none: use"
            " gather or torchvision"
        )
    return form


def _by_torchvision(*inputs: Tensor | tuple[int, int] | None) -> Tensor:
    x, offset, mask, weight, bias, *steps = inputs
    return deform_conv2d(x, offset, weight, bias, *steps, mask=mask)


def _by_mmcv(*inputs: Tensor | tuple[int, int] | None) -> Tensor:
    from mmcv.ops import modulated_deform_conv2d as compiled

    return compiled(*inputs)


# By type of device, where another form than ours, ``gather``, is the fastest: projects/benchmark/
# gpu.sh measures it. On the CPU ours is, by far (docs/performance.md).
_FASTEST: dict[str, str] = {}
_OPERATORS = dict(torchvision=_by_torchvision, mmcv=_by_mmcv)


class ModulatedDeformConv2d(nn.Module):
    """Layer around :func:`modulated_deform_conv2d` with the parameters of
    ``mmcv.ops.ModulatedDeformConv2d``: ``weight`` (O, C, kernel height, kernel width) and ``bias``
    (O,).

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: one number, or height and width.
        stride: see :func:`modulated_deform_conv2d`.
        padding: zeros around the input.
        dilation: step of the taps.
        bias: whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.init_weights()

    def init_weights(self) -> None:
        """Uniform weights within 1 / sqrt(C * K) and zero bias, as in MMCV."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(B, C, H, W) with maps (B, 2K, h, w) and (B, K, h, w) to (B, O, Ho, Wo)."""
        return modulated_deform_conv2d(
            x, offset, mask, self.weight, self.bias, self.stride, self.padding, self.dilation
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size},"
            f" stride={self.stride}, padding={self.padding}, dilation={self.dilation},"
            f" bias={self.bias is not None}"
        )
