"""GLIP's dynamic convolution over a feature pyramid (Dai et al., Dynamic Head, 2021), with
MMDetection's parameter names.

For level l, with offsets and masks predicted from F_l and shared by all its terms::

    t = [ conv1(F_l), conv2(F_{l-1}) with stride 2, resize(conv0(F_{l+1})) ]    terms that exist
    G_l = DyReLU( mean_j( s_j * t_j ) ),    s_j = hard_sigmoid( relu( w . avgpool(t_j) + b ) )

``resize`` is bilinear with ``align_corners=True``, as GLIP's weights were trained. MMDetection's
own class may resize by nearest neighbour, which gives other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deform_conv import ModulatedDeformConv2d


class Conv3x3Norm(nn.Module):
    """3 x 3 convolution, deformable or not, and a group norm.

    Args:
        in_channels: C.
        out_channels: O.
        stride: 1 or 2.
        use_dcn: Whether it is deformable: ``forward`` then needs ``offset`` and ``mask``.
        num_groups: Groups of the norm.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, use_dcn: bool, num_groups: int
    ) -> None:
        super().__init__()
        conv_type = ModulatedDeformConv2d if use_dcn else nn.Conv2d
        self.conv = conv_type(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.bn = nn.GroupNorm(num_groups, out_channels)

    def forward(self, x: Tensor, **kwargs: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, ceil(H / stride), ceil(W / stride)); ``offset``, ``mask`` if
        deformable.
        """
        return self.bn(self.conv(x, **kwargs))


class DyReLU(nn.Module):
    """max(a1 x + b1, a2 x + b2), coefficients per channel from the pooled map (Chen et al., DyReLU,
    2020).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(),
            nn.Linear(channels // 4, 4 * channels),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        coefficients = self.fc(x.mean((2, 3)))[:, :, None, None]
        a1, b1, a2, b2 = coefficients.chunk(4, dim=1)
        a1 = (a1 - 0.5) * 2 + 1.0
        a2 = (a2 - 0.5) * 2
        lines = x, a1, b1 - 0.5, a2, b2 - 0.5
        if any(part.requires_grad for part in lines):
            return _UpperLine.apply(*lines)
        return torch.maximum(*_lines(*lines))


def _lines(x: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    return torch.addcmul(b1, x, a1), torch.addcmul(b2, x, a2)


class _UpperLine(torch.autograd.Function):
    """max(a1 x + b1, a2 x + b2), which keeps x and a byte per value instead of x and both lines.

    x is (B, C, H, W), the coefficients (B, C, 1, 1). If both lines have the same value, the first
    one gets the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> Tensor:
        first, second = _lines(x, a1, b1, a2, b2)
        ctx.save_for_backward(x, a1, a2, first >= second)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x, a1, a2, upper = ctx.saved_tensors
        on_first = gradient * upper
        on_second = gradient - on_first
        of_x = torch.addcmul(on_first * a1, on_second, a2)
        slopes = ((part * x).sum((2, 3), keepdim=True) for part in (on_first, on_second))
        shifts = (part.sum((2, 3), keepdim=True) for part in (on_first, on_second))
        (of_a1, of_a2), (of_b1, of_b2) = slopes, shifts
        return of_x, of_a1, of_b1, of_a2, of_b2


class DyConv(nn.Module):
    """Dynamic convolution of all pyramid levels; the language features pass through.

    Args:
        in_channels: C.
        out_channels: O.
        dynamic: Whether to use deformable convolutions, weighted terms and :class:`DyReLU`;
            otherwise plain convolutions, the mean of the terms and ReLU.
        num_groups: Groups of the norms.

    Attributes:
        dyconvs: The convolutions that all levels share: for the coarser level, for the level
            itself, and with stride 2 for the finer level.
    """

    def __init__(
        self, in_channels: int, out_channels: int, dynamic: bool = True, num_groups: int = 16
    ) -> None:
        super().__init__()
        self.dyconvs = nn.ModuleList(
            Conv3x3Norm(in_channels, out_channels, stride, dynamic, num_groups)
            for stride in (1, 1, 2)
        )
        self.attnconv = self.offset = None
        if dynamic:
            self.attnconv = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, 1, kernel_size=1), nn.ReLU()
            )
        self.relu = DyReLU(out_channels) if dynamic else nn.ReLU()
        if dynamic:
            self.offset = nn.Conv2d(in_channels, 27, kernel_size=3, padding=1)
        self.init_weights()

    def init_weights(self) -> None:
        """Normal weights (std 0.01) and zero biases of plain convolutions, as in MMDetection."""
        for module in (*self.dyconvs.modules(), *(self.attnconv or ())):
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _terms(self, levels: Sequence[Tensor], index: int) -> list[Tensor]:
        """The terms of level ``index``, each (B, O, H, W) of that level."""
        feature = levels[index]
        maps = {}
        if self.offset is not None:
            offset, mask = self.offset(feature).split((18, 9), dim=1)
            maps = {"offset": offset, "mask": mask.sigmoid()}
        terms = [self.dyconvs[1](feature, **maps)]
        if index > 0:
            terms.append(self.dyconvs[2](levels[index - 1], **maps))
        if index < len(levels) - 1:
            coarser = self.dyconvs[0](levels[index + 1], **maps)
            terms.append(
                F.interpolate(coarser, size=feature.shape[2:], mode="bilinear", align_corners=True)
            )
        return terms

    def _fuse(self, terms: list[Tensor]) -> Tensor:
        """Mean of the (weighted) terms, summed one by one instead of over a stack of them."""
        if self.attnconv is None:
            return sum(terms[1:], terms[0]) / len(terms)
        scales = [F.hardsigmoid(self.attnconv(term)) / len(terms) for term in terms]
        fused = terms[0] * scales[0]
        for term, scale in zip(terms[1:], scales[1:], strict=True):
            fused = torch.addcmul(fused, term, scale)
        return fused

    def forward(self, inputs: dict) -> dict:
        """Convolve the pyramid.

        Args:
            inputs: ``visual``, levels (B, C, H, W) from fine to coarse, each ceil(size / 2) of the
                one before; ``lang``, anything.

        Returns:
            A new dict with ``visual``, levels (B, O, H, W), and the same ``lang``.
        """
        levels = inputs["visual"]
        if self.offset is not None:
            # Each level is sampled up to three times, and sampling needs this memory format.
            levels = [level.contiguous(memory_format=torch.channels_last) for level in levels]
        visual = [self.relu(self._fuse(self._terms(levels, index))) for index in range(len(levels))]
        return {"visual": visual, "lang": inputs["lang"]}
