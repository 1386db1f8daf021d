"""GLIP's parts from their definitions. The benchmark has the plain dynamic convolution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn


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


def plain_inverse(tokens: Tensor, projection: nn.Linear) -> Tensor:
    """P = (Z - b) (W^T)^+, the pseudo-inverse by NumPy's least squares."""
    weight = projection.weight.detach().numpy()
    columns = np.linalg.lstsq(weight, np.eye(len(weight)), rcond=None)[0]  # (D, E)
    return (tokens - projection.bias.detach()) @ torch.from_numpy(columns.T)


def plain_fusion(block, image, text, mask, image_tokens=None, text_tokens=None, hide=False):
    """X-MHA as MMDetection writes it, with tokens appended after the layer norms.

    Args:
        block: Layer whose weights are used.
        image: (B, N, D_image).
        text: (B, T, D_text).
        mask: (B, T).
        image_tokens: (k, D_image), or None.
        text_tokens: (k, D_text), or None.
        hide: Mask the text's tokens out of the attention of the image.
    """
    attention = block.attn
    image, text = block.layer_norm_v(image), block.layer_norm_l(text)
    count, words = image.shape[1], text.shape[1]
    long_image, long_text, long_mask = image, text, mask
    if image_tokens is not None:
        long_image = torch.cat([image, image_tokens.expand(len(image), -1, -1)], dim=1)
    if text_tokens is not None:
        long_text = torch.cat([text, text_tokens.expand(len(text), -1, -1)], dim=1)
        shown = mask.new_full((len(mask), len(text_tokens)), 0 if hide else 1)
        long_mask = torch.cat([mask, shown], dim=1)

    def heads(x):  # (B, n, E) to (B, H, n, d)
        return x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    queries = heads(attention.v_proj(long_image) * attention.scale)
    keys = heads(attention.l_proj(long_text))
    scores = queries @ keys.transpose(-1, -2)  # (B, H, N + k, T + k)

    offset = torch.where(long_mask == 0, -9e15, 1.0).to(scores)[:, None, None, :]
    to_text = torch.softmax(scores + offset, dim=-1)
    transposed = scores.transpose(-1, -2)
    to_image = torch.softmax(transposed - transposed.amax(-1, keepdim=True), dim=-1)

    def merge(x):  # (B, H, n, d) to (B, n, E)
        return x.transpose(1, 2).flatten(2)

    new_image = attention.out_v_proj(merge(to_text @ heads(attention.values_l_proj(long_text))))
    new_text = attention.out_l_proj(merge(to_image @ heads(attention.values_v_proj(long_image))))
    return (
        image + block.gamma_v * new_image[:, :count],
        text + block.gamma_l * new_text[:, :words],
    )
