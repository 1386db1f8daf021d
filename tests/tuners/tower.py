"""A host that is nothing but fusion layers, and SDPT on it in its plain form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.glip.fusion import BiAttentionBlock
from mmsdpt.hosts.seams import SeamMap

IMAGE, TEXT, JOINT, HEADS = 6, 10, 16, 2


class Tower(TunableMixin, nn.Module):
    """Fusion layers one after the other.

    Args:
        num_layers: Number of X-MHA layers.
        widths: Image, text and joint width, and heads.
        tuner: Config of one tuner.
        tuners: Configs of several.
    """

    def __init__(
        self, num_layers=3, widths=(IMAGE, TEXT, JOINT, HEADS), tuner=None, tuners=None
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            BiAttentionBlock(*widths, dropout=0.0, init_values=0.5, index=i)
            for i in range(num_layers)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self._attach_tuners(tuner, tuners, None)

    def seams(self) -> SeamMap:
        return SeamMap("Tower", dict(fusion=[layer.attn.seam for layer in self.layers]))

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D_image), (B, T, D_text) and the text's mask (B, T) to the same shapes."""
        for layer in self.layers:
            (level,), text = layer([image.transpose(1, 2).unsqueeze(-1)], text, mask)
            image = level.squeeze(-1).transpose(1, 2)
        return image, text


def inputs(dtype=torch.float64, batch=2, positions=7, words=5):
    """Features of both sides and a mask with ragged captions."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(batch, positions, IMAGE, generator=generator, dtype=dtype)
    text = torch.randn(batch, words, TEXT, generator=generator, dtype=dtype)
    mask = torch.ones(batch, words, dtype=torch.long)
    mask[-1, -2:] = 0
    return image, text, mask


def plain_inverse(tokens: Tensor, projection: nn.Linear) -> Tensor:
    """P = (Z - b) (W^T)^+, the pseudo-inverse by NumPy's least squares."""
    weight = projection.weight.detach().numpy()
    columns = np.linalg.lstsq(weight, np.eye(len(weight)), rcond=None)[0]  # (D, E)
    return (tokens - projection.bias.detach()) @ torch.from_numpy(columns.T)


def plain_layer(block, image, text, mask, image_tokens=None, text_tokens=None, hide=False):
    """X-MHA as MMDetection writes it, with tokens appended behind the layer norms.

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
