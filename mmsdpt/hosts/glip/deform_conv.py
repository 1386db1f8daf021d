"""Modulated deformable convolution (DCNv2) without compiled operators.

For output position p, tap k of the kernel is at q = p * stride - padding + k in the input (Zhu et
al., Deformable ConvNets v2, 2019, equation 1)::

    y[p] = bias + sum_k W_k . ( mask_k[p] * x(q + offset_k[p]) )

x(.) is bilinear, and zero outside the map. :mod:`mmsdpt.hosts.glip.deform_sampling` has the
arithmetic.

Letters: B images; C channels in, O out; (H, W) size of the input, (h, w) of the offset and mask
maps, (Ho, Wo) of the output; K taps of the kernel, 9 for 3 x 3.
"""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

from mmsdpt.compat import has_compiled_ops
from mmsdpt.utils.errors import InputError

from .deform_sampling import sampled_product, tap_weights


def read_flat(maps: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Read per-position maps with the height and width of the output, as MMCV's kernel does.

    That kernel ignores the size of the offset and mask maps: it indexes their memory, image by
    image, as (channels, Ho, Wo). GLIP's DyConv uses the maps of one pyramid level for convolutions
    of its neighbours, whose output has another size, and GLIP's weights were trained with the
    values that are read this way: the first ``channels * Ho * Wo`` of the flattened map, which is
    neither a crop nor a resized map.

    In GLIP the output is never larger than the map: the coarser level is smaller, and the finer
    one, of height H, is convolved with stride 2 to ceil(H / 2), which is the size that patch
    merging (it pads odd sizes) and the neck's stride-2 convolutions give the level itself. A
    pyramid that rounds down breaks this if H is odd. MMCV then reads memory outside the map; here
    it is an error.

    Args:
        maps: (B, channels, h, w).
        channels: number of values per position.
        size: (Ho, Wo).

    Returns:
        (B, channels, Ho, Wo).

    Raises:
        ValueError: if the number of channels is different, or h * w < Ho * Wo.
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


def modulated_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Modulated deformable convolution; arguments and results of
    ``mmcv.ops.modulated_deform_conv2d``, without dilation and groups.

    Precision: positions and samples are at least float32 for all inputs (in bfloat16, positions 256
    and 257 are the same). The matrix product and the output have the dtype of ``weight``, or of
    autocast if it is on. A sample is a convex combination of pixels times the mask, so it cannot
    overflow. The other forms of :func:`chosen_form` compute everything in at least float32.

    Args:
        x: (B, C, H, W).
        offset: (B, 2K, h, w), pixels, ordered dy_1, dx_1, dy_2, ...; read by :func:`read_flat`.
        mask: (B, K, h, w); read by :func:`read_flat`.
        weight: (O, C, kernel height, kernel width).
        bias: (O,) or None.
        stride: step of the output positions in the input; one number, or vertical and horizontal.
        padding: zeros around the input.

    Returns:
        (B, O, Ho, Wo), from the form ``gather`` in channels-last memory.

    Raises:
        ValueError: if shapes do not fit, or maps are smaller than the output.
    """
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"deformable convolution got {x.shape[1]} input channels, but its weights need"
            f" {weight.shape[1]}."
        )
    steps, pads = _pair(stride), _pair(padding)
    kernel_size = (weight.shape[2], weight.shape[3])
    Ho, Wo = ((x.shape[2 + i] + 2 * pads[i] - kernel_size[i]) // steps[i] + 1 for i in (0, 1))
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
            return _OPERATORS[form](x.contiguous(), *maps, *parameters, steps, pads)
    B, C, H, W = x.shape
    offset, mask = offset.to(x.dtype), mask.to(x.dtype)
    pixels, weights = tap_weights(offset, mask, (H, W), kernel_size, steps, pads)
    rows = x.permute(0, 2, 3, 1).contiguous()  # a gather from a strided view is many times slower
    # The kernel gets the order of the samples, (K, C).
    kernel = weight.permute(0, 2, 3, 1).flatten(1)
    out = sampled_product(rows.view(B * H * W, C), pixels, weights, kernel, bias)
    out = out.view(B, Ho, Wo, -1)
    return out.permute(0, 3, 1, 2)


def chosen_form(device: str) -> str:
    """The form that computes deformable convolutions on a type of device: that in the environment
    variable ``MMSDPT_DEFORM_CONV`` if it is set, else the fastest one known (:data:`_FASTEST`).

    Raises:
        InputError: if the form does not exist, or is MMCV's and MMCV has no compiled operators.
    """
    form = os.environ.get("MMSDPT_DEFORM_CONV") or _FASTEST.get(device, "gather")
    if form not in ("gather", *_OPERATORS):
        raise InputError(
            "MMSDPT_DEFORM_CONV must be gather, torchvision or mmcv, the form of deformable"
            f" convolution, got {form!r}"
        )
    if form == "mmcv" and not has_compiled_ops():
        raise InputError(
            "MMSDPT_DEFORM_CONV=mmcv needs MMCV with compiled operators, but this one has none: use"
            " gather or torchvision"
        )
    return form


def _by_torchvision(*inputs: Tensor | tuple[int, int] | None) -> Tensor:
    x, offset, mask, weight, bias, *steps = inputs
    return deform_conv2d(x, offset, weight, bias, *steps, mask=mask)


def _by_mmcv(*inputs: Tensor | tuple[int, int] | None) -> Tensor:
    from mmcv.ops import modulated_deform_conv2d as compiled

    return compiled(*inputs)


# Types of device on which ``gather`` is not the fastest form, with the form that is:
# projects/benchmark/gpu.sh measures it. On the CPU ``gather`` is the fastest by far
# (docs/performance.md).
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
        bias: whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
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
            x, offset, mask, self.weight, self.bias, self.stride, self.padding
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size},"
            f" stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )
