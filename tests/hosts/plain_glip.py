"""Plain, readable statements of what the GLIP host computes fast: the tests' oracles."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import atss_vlfusion_head as mmdet_head
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

# ---------------------------------------------------------------------- deformable convolution


def plain_sample(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(C, H, W) at one position: bilinear, zero outside; nothing at or beyond -1 and the size."""
    channels, height, width = image.shape
    value = image.new_zeros(channels)
    if not (-1 < y < height and -1 < x < width):
        return value
    top, left = math.floor(y.detach()), math.floor(x.detach())
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            row_weight = 1 - (y - top) if row == top else y - top
            column_weight = 1 - (x - left) if column == left else x - left
            value = value + row_weight * column_weight * image[:, row, column]
    return value


def plain_deform_conv(x, offset, mask, weight, bias, stride: int) -> Tensor:
    """3 x 3, padding 1, from the definition; maps are read through their flattened memory, image by
    image.
    """
    batch, height, width = (
        x.shape[0],
        (x.shape[2] - 1) // stride + 1,
        (x.shape[3] - 1) // stride + 1,
    )
    images = []
    for b in range(batch):
        flat_offset, flat_mask = offset[b].reshape(-1), mask[b].reshape(-1)
        pixels = []
        for row, column in itertools.product(range(height), range(width)):
            value = bias
            for k in range(9):

                def at(channel: int, row: int = row, column: int = column) -> int:
                    return (channel * height + row) * width + column

                y = row * stride - 1 + k // 3 + flat_offset[at(2 * k)]
                x_ = column * stride - 1 + k % 3 + flat_offset[at(2 * k + 1)]
                value = value + weight[:, :, k // 3, k % 3] @ (
                    flat_mask[at(k)] * plain_sample(x[b], y, x_)
                )
            pixels.append(value)
        images.append(torch.stack(pixels, dim=1).view(-1, height, width))
    return torch.stack(images)


# ---------------------------------------------------------------------- dynamic convolution


def plain_conv(
    module: nn.Module, x: Tensor, stride: int, maps: tuple[Tensor, Tensor] | None
) -> Tensor:
    """A ``Conv3x3Norm``; deformable where it gets an offset and a mask map."""
    conv, norm = module.conv, module.bn
    if maps is None:
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
    else:
        height, width = ((s - 1) // stride + 1 for s in x.shape[2:])

        def flat(
            values: Tensor,
        ) -> Tensor:  # the kernel's way: the first values of each image's memory
            count = values.shape[1] * height * width
            return torch.stack([v.reshape(-1)[:count].reshape(-1, height, width) for v in values])

        x = deform_conv2d(
            x, flat(maps[0]), conv.weight, conv.bias, stride=stride, padding=1, mask=flat(maps[1])
        )
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias)


def plain_dyrelu(module: nn.Module, x: Tensor) -> Tensor:
    first, second = module.fc[0], module.fc[2]
    hidden = F.relu(F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), first.weight, first.bias))
    coefficients = F.hardsigmoid(F.linear(hidden, second.weight, second.bias))[..., None, None]
    a1, b1, a2, b2 = coefficients.chunk(4, dim=1)
    return torch.max(x * ((a1 - 0.5) * 2 + 1) + (b1 - 0.5), x * ((a2 - 0.5) * 2) + (b2 - 0.5))


def plain_dyconv(module: nn.Module, levels: list[Tensor]) -> list[Tensor]:
    """As in GLIP's own code: stack, weigh, mean, activate."""
    outs = []
    for i, feature in enumerate(levels):
        maps = None
        if module.offset is not None:
            both = F.conv2d(feature, module.offset.weight, module.offset.bias, padding=1)
            maps = both[:, :18], both[:, 18:].sigmoid()
        terms = [plain_conv(module.dyconvs[1], feature, 1, maps)]
        if i > 0:
            terms.append(plain_conv(module.dyconvs[2], levels[i - 1], 2, maps))
        if i < len(levels) - 1:
            coarse = plain_conv(module.dyconvs[0], levels[i + 1], 1, maps)
            terms.append(
                F.interpolate(coarse, feature.shape[2:], mode="bilinear", align_corners=True)
            )
        stacked = torch.stack(terms)
        if module.attnconv is not None:
            scale = module.attnconv[1]
            scales = [
                F.relu(F.conv2d(F.adaptive_avg_pool2d(t, 1), scale.weight, scale.bias))
                for t in terms
            ]
            stacked = stacked * F.hardsigmoid(torch.stack(scales))
        mean = stacked.mean(dim=0)
        outs.append(
            F.relu(mean) if isinstance(module.relu, nn.ReLU) else plain_dyrelu(module.relu, mean)
        )
    return outs


def correct_mmdetection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make MMDetection's own GLIP an oracle: the installed DyConv may resize by nearest neighbour,
    and its deformable convolution needs compiled operators.
    """

    def forward(self: nn.Module, inputs: dict) -> dict:
        return {"visual": plain_dyconv(self, inputs["visual"]), "lang": inputs["lang"]}

    monkeypatch.setattr(mmdet_head.DyConv, "forward", forward)
