"""Parts of GLIP as ONNX operations, for images of any size.

The host uses cached indices and embedding bags. These parts compute from the sizes instead, so a
traced graph is valid for every size. Values are the same up to rounding.

Letters are defined in ``hosts/grounding/swin_windows.py`` and ``deform_conv.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmsdpt.hosts.glip import GLIP, SwinTransformer
from mmsdpt.hosts.glip.deform_conv import ModulatedDeformConv2d
from mmsdpt.hosts.glip.dyconv import DyConv
from mmsdpt.utils.errors import InputError

_MASKED = -100.0


class KnownShapes(TorchFunctionMode):
    """Gives the exporter shape information: sizes in ``unflatten`` vary, but the exporter would
    take them as constants; convolution weights computed by a tuner have a constant shape.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.unflatten:
            x, dim, sizes = args
            dim = dim % x.dim()
            shape = list(x.shape)
            return x.reshape(*shape[:dim], *sizes, *shape[dim + 1 :])
        if func is torch.conv2d and not isinstance(args[1], nn.Parameter):
            args = (args[0], args[1].reshape([int(n) for n in args[1].shape]), *args[2:])
        return func(*args, **(kwargs or {}))


# ---------------------------------------------------------------------------------- windows


@dataclass(frozen=True, eq=False)
class ComputedLayout:
    """A :class:`~mmsdpt.hosts.grounding.swin_windows.WindowLayout` of one image, in a graph.

    Attributes:
        sources: (nW N,) the token of each row of the windows, L at padding.
        places: (L,) the row of each token.
        groups: All windows, with their masks (nW, 1, N, N); None without a shift.
    """

    sources: Tensor
    places: Tensor
    groups: tuple[tuple[int, None, Tensor | None]]
    padding = True  # there may be padding, so its value is always needed

    def to_windows(self, tokens: Tensor, fill: Tensor | None) -> Tensor:
        fill = tokens.new_zeros(tokens.shape[1]) if fill is None else fill
        return torch.cat([tokens, fill[None]]).index_select(0, self.sources)

    def from_windows(self, rows: Tensor) -> Tensor:
        return rows.index_select(0, self.places)


def computed_layout(size: tuple[Any, Any], window: int, shift: int) -> ComputedLayout:
    """Layout of a map of (H, W) tokens; during tracing, H and W may be tensors."""
    height, width = size
    rows, columns = (height + window - 1) // window, (width + window - 1) // window

    def axis(length: Any, padded: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The token at each padded place, the place of each token, and regions of the mask."""
        place, token = torch.arange(padded), torch.arange(length)
        source, target = place + shift, token - shift
        source = torch.where(source >= padded, source - padded, source)
        target = torch.where(target < 0, target + padded, target)
        region = (place >= padded - window).long() + (place >= padded - shift).long()
        return source, target, region

    def windows(x: Tensor) -> Tensor:  # (Hp, Wp) to (nW, N)
        x = x.reshape(rows, window, columns, window).transpose(1, 2)
        return x.reshape(rows * columns, window**2)

    row, to_row, row_region = axis(height, rows * window)
    column, to_column, column_region = axis(width, columns * window)
    inside = (row < height)[:, None] & (column < width)[None]
    tokens = torch.where(inside, row[:, None] * width + column[None], height * width)
    which = (to_row // window)[:, None] * columns + (to_column // window)[None]
    places = which * window**2 + (to_row % window)[:, None] * window + (to_column % window)[None]
    mask = None
    if shift:
        region = windows(3 * row_region[:, None] + column_region[None])
        mask = (region[:, :, None] != region[:, None]).float()[:, None] * _MASKED
    return ComputedLayout(windows(tokens).reshape(-1), places.reshape(-1), ((0, None, mask),))


class _Layouts:
    """Replaces the encoder's cached layouts; the blocks of a stage share them."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int, int], tuple[Any, ComputedLayout]] = {}

    def get(self, key: tuple, _: Callable[[], Any]) -> ComputedLayout:
        _, size, window, shift, _ = key
        own = (id(size), window, shift)
        if own not in self._made:  # storing the size keeps its id unique
            self._made[own] = size, computed_layout(size, window, shift)
        return self._made[own][1]


class _Merging(nn.Module):
    """MMDetection's ``PatchMerging`` of maps with even sizes."""

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.norm, self.reduction = built.norm, built.reduction

    def forward(self, x: Tensor, size: tuple[Any, Any]) -> tuple[Tensor, tuple[Any, Any]]:
        half, width = (size[0] // 2, size[1] // 2), x.shape[-1]
        x = x.reshape(1, half[0], 2, half[1], 2, width).permute(0, 1, 3, 5, 2, 4)
        return self.reduction(self.norm(x.reshape(1, half[0] * half[1], 4 * width))), half


# ---------------------------------------------------------------------------------- convolution


class _DeformConv(nn.Module):
    """Modulated deformable 3 x 3 convolution with ONNX's GridSample.

    Args:
        built: The host's convolution.
        coarser: The maps belong to a finer level than the input, and are read flat; see
            :func:`~mmsdpt.hosts.glip.deform_conv.read_flat`.
    """

    def __init__(self, built: ModulatedDeformConv2d, coarser: bool) -> None:
        super().__init__()
        # The module, not its parameters, which tuners replace during a forward pass.
        self.built = built
        self.stride, self.coarser = built.stride[0], coarser

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[2:]
        h, w = (height, width) if self.stride == 1 else offset.shape[2:]
        if self.coarser:
            offset, mask = (
                maps.reshape(-1).index_select(0, torch.arange(count * h * w))
                for maps, count in ((offset, 18), (mask, 9))
            )
        offset, mask = offset.reshape(9, 2, h * w), mask.reshape(1, 1, 9, h * w)
        taps = torch.arange(3, dtype=x.dtype)

        def places(count: Any) -> Tensor:  # positions of the first tap
            return torch.arange(count).to(x.dtype) * self.stride - 1

        y = (offset[:, 0].reshape(3, 3, h, w) + taps.view(3, 1, 1, 1)) + places(h)[:, None]
        x_ = (offset[:, 1].reshape(3, 3, h, w) + taps.view(1, 3, 1, 1)) + places(w)
        grid = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        sampled = F.grid_sample(x, grid.reshape(1, 9, h * w, 2), align_corners=False)
        weight, bias = self.built.weight, self.built.bias
        out = weight.flatten(1) @ (sampled * mask).reshape(-1, h * w)
        return (out if bias is None else out + bias[:, None]).reshape(1, -1, h, w)


def with_onnx_parts(host: GLIP) -> GLIP:
    """A copy of a detector that can be traced, with batch size 1 and padded image sizes.

    Raises:
        InputError: if it has parts that cannot be traced.
    """
    host = copy.deepcopy(host).eval()
    backbone = host.backbone
    if not isinstance(backbone, SwinTransformer) or backbone.use_abs_pos_embed:
        raise InputError("the export needs a backbone mmsdpt.SwinTransformer without positions")
    merges = [stage.downsample for stage in backbone.stages if stage.downsample is not None]
    stride = backbone.patch_embed.projection.stride[0] * 2 ** len(merges)
    divisor = host.data_preprocessor.pad_size_divisor
    if divisor % stride or any(merging.sampler.kernel_size != (2, 2) for merging in merges):
        raise InputError(
            f"the export needs images padded to a multiple of the backbone's stride {stride}, and"
            f" pad_size_divisor is {divisor}"
        )
    backbone._layouts = _Layouts()  # type: ignore[assignment]
    backbone.patch_embed.adap_padding = None  # nothing to pad at these sizes
    for stage in backbone.stages:
        if stage.downsample is not None:
            stage.downsample = _Merging(stage.downsample)
    for module in host.bbox_head.modules():
        if isinstance(module, DyConv):
            for i, part in enumerate(module.dyconvs):
                if isinstance(part.conv, ModulatedDeformConv2d):
                    part.conv = _DeformConv(part.conv, coarser=i == 0)
    return host
