r"""Mona: multi-cognitive visual adapter (Yin et al., CVPR 2025, section 3.2), on the image encoder.

Two adapters in every Swin block, one after the attention's residual and one after the feed-forward
network's. Unlike other adapters, each also sees the map around a token. With x (B, L, d):

    u  = gamma LN(x) + gamma_x x                    gamma from 1e-6, gamma_x from 1, each (d)
    v  = Down(u)                                    d to m, as a map (B, m, H, W)
    v  = (DW3(v) + DW5(v) + DW7(v)) / 3 + v         depth-wise 3 x 3, 5 x 5, 7 x 7
    v  = Conv1(v) + v                               1 x 1
    x <- x + Up(Dropout(GELU(v)))                   m to d

All linear layers and convolutions have a bias and start from PyTorch's defaults, as in the authors'
code, so training does not start from the host. The mean of the three depth-wise convolutions plus
the identity equals one 7 x 7 convolution, and this is what runs here.

GLIP needs no change of the method, because the paper also uses Swin detectors. The paper also
trains the detector's neck and head; here the whole host stays frozen, as with other methods. Rows
that other tuners add to a block are not part of the map, and the adapters do not change them.

2 (d (2 m + 5) + m + 83 m + 3 m + m^2 + m) parameters for each block: 5,267,712 on GLIP-L, m = 64.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import MapSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import positive_integer

KERNELS = (3, 5, 7)
PLACES = ("image_attention_maps", "image_ffn_maps")


class MonaAdapter(nn.Module):
    """One adapter of a block.

    Args:
        width: d.
        bottleneck: m.
        dropout: Dropout rate of the m activations, in training.

    Shape:
        (B, L, d) and the map's (H, W), with L = H W, to (B, L, d), in the dtype of the input.
    """

    def __init__(self, width: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.gamma_x = nn.Parameter(torch.ones(width))
        self.down = nn.Linear(width, bottleneck)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(bottleneck, bottleneck, k, padding=k // 2, groups=bottleneck) for k in KERNELS
        )
        self.mix = nn.Conv2d(bottleneck, bottleneck, 1)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        v = self.down(self.norm(x) * self.gamma + x * self.gamma_x)  # (B, L, m)
        v = v.transpose(1, 2).unflatten(2, hw)
        weight, bias = self.joined()
        v = F.conv2d(v, weight, bias, padding=KERNELS[-1] // 2, groups=len(weight))
        v = (self.mix(v) + v).flatten(2).transpose(1, 2)
        return x + self.up(self.dropout(F.gelu(v))).to(x.dtype)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weight (m, 1, 7, 7) and bias (m) of the convolution that equals the mean of the three
        plus the identity.
        """
        side = KERNELS[-1]
        kernels = [
            F.pad(c.weight, [(side - k) // 2] * 4)
            for c, k in zip(self.convolutions, KERNELS, strict=True)
        ]
        mean, middle = sum(kernels) / len(kernels), side // 2
        identity = torch.zeros_like(mean)
        identity[:, :, middle, middle] = 1
        return mean + identity, sum(c.bias for c in self.convolutions) / len(kernels)


@MODELS.register_module()
class Mona(Tuner):
    """Two adapters with convolutions in every image block.

    Args:
        bottleneck: m.
        dropout: Dropout rate of the bottleneck's activations, in training.

    Attributes:
        after_attention, after_ffn: Adapters of each block, in the order of the blocks.

    Raises:
        ValueError: if ``bottleneck`` is not a positive integer.
    """

    needs = PLACES
    settings = ("bottleneck",)

    def __init__(
        self, *, seams: Seams, bottleneck: int = 64, dropout: float = 0.1, **common: Any
    ) -> None:
        super().__init__(seams=seams, **common)
        self.bottleneck = positive_integer("bottleneck", bottleneck)
        self.widths = [seam.widths["width"] for seam in seams[PLACES[0]]]
        self.after_attention, self.after_ffn = (
            nn.ModuleList(MonaAdapter(width, bottleneck, dropout) for width in self.widths)
            for _ in PLACES
        )
        for kind, adapters in zip(PLACES, (self.after_attention, self.after_ffn), strict=True):
            for seam in seams[kind]:
                seam.connect(self, partial(self._adapt, adapters))

    def _adapt(
        self, adapters: nn.ModuleList, seam: MapSeam, x: Tensor, hw: tuple[int, int]
    ) -> Tensor:
        return adapters[seam.index](x, hw)
