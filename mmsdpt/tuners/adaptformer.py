r"""AdaptFormer (Chen et al., NeurIPS 2022, section 3.2) on the image encoder.

A bottleneck parallel to every block's feed-forward network, on the same residual:

    x <- x + MLP(LN(x)) + s Up(Dropout(ReLU(Down(x))))          Down: d to m, Up: m to d

The bottleneck reads x before the norm. Each block has 2 d m + m + d parameters: in all 2,329,728 on
GLIP-L with m = 64.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from mmsdpt.hosts.seams import BranchSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.bottleneck import Bottleneck


@MODELS.register_module()
class AdaptFormer(Tuner):
    """A scaled bottleneck parallel to the feed-forward network of every image block.

    Down starts from Kaiming's uniform distribution with a = sqrt(5), Up and the biases from zero,
    so training starts from the host.

    The paper's image models are plain vision transformers. On Swin, every block of every stage gets
    a bottleneck with the same m, whatever the block's width. The block's stochastic depth does not
    drop the branch; it is off in a frozen host anyway.

    Args:
        bottleneck: m.
        scale: s.
        dropout: Dropout rate of the bottleneck's activations, in training.

    Raises:
        ValueError: if ``bottleneck`` is not a positive integer, or the scale is zero.
    """

    needs = ("image_ffns",)
    settings = ("bottleneck", "scale")
    zero_init = True

    def __init__(
        self,
        *,
        seams: Seams,
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        if scale == 0:
            raise ValueError("scale must not be 0: nothing of AdaptFormer would train")
        self.bottleneck, self.scale = bottleneck, scale
        self.widths = [seam.widths["width"] for seam in seams["image_ffns"]]
        self.adapters = nn.ModuleList(
            Bottleneck(width, bottleneck, nn.ReLU(), dropout) for width in self.widths
        )
        for adapter in self.adapters:
            nn.init.kaiming_uniform_(adapter.down.weight, a=math.sqrt(5))
            nn.init.zeros_(adapter.up.weight)
        for seam in seams["image_ffns"]:
            seam.connect(self, self._branch)

    def _branch(self, seam: BranchSeam, x: Tensor) -> Tensor:
        return self.scale * self.adapters[seam.index](x)
