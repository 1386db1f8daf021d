"""A host that is nothing but fusion layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.grounding.fusion import BiAttentionBlock
from mmsdpt.hosts.seams import SeamMap

IMAGE, TEXT, JOINT, HEADS = 6, 10, 16, 2


class FusionHost(TunableMixin, nn.Module):
    """Fusion layers one after the other.

    Args:
        num_layers: Number of X-MHA layers.
        widths: Image, text and joint width, and heads.
        tuner: Config of one tuner.
        tuners: Configs of several.
        trainable: Patterns of the host's parameters that train, too.
    """

    def __init__(
        self,
        num_layers=3,
        widths=(IMAGE, TEXT, JOINT, HEADS),
        tuner=None,
        tuners=None,
        trainable=None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            BiAttentionBlock(*widths, dropout=0.0, init_values=0.5, index=i)
            for i in range(num_layers)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self._attach_tuners(tuner, tuners, trainable)

    def seams(self) -> SeamMap:
        return SeamMap("FusionHost", dict(fusion=[layer.attn.seam for layer in self.layers]))

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D_image), (B, T, D_text) and the text's mask (B, T) to the same shapes."""
        with self.tuned():
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
