r"""CLIP-Adapter (Gao et al., IJCV 2024, section 3.2): a bottleneck on CLIP's image feature.

    f' = ratio ReLU(W_2 ReLU(W_1 f)) + (1 - ratio) f        W_1 (e/4 x e), W_2 (e x e/4), no biases

f (e) is the pooled image feature before it is normalised; with normalised features the ratio would
have another meaning. The texts are the host's, with its template. 2 e e/4 parameters: 131,072 on
ViT-B/16.

As in the authors' code, only the image has an adapter, and the ratio is 0.2 for all data. The paper
also tries an adapter on the text, and searches the ratio for each data set. The published results
are for ResNet-50.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmsdpt.hosts.seams import FeatureSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import positive_integer


@MODELS.register_module()
class CLIPAdapter(Tuner):
    """A bottleneck on the image feature.

    Args:
        ratio: Weight of the adapter's output in the sum.
        reduction: The hidden width is e divided by this.

    Raises:
        ValueError: if the ratio is not above 0 and at most 1, or the hidden width would be less
            than 1.
    """

    needs = ("pooled_image",)
    settings = ("ratio", "reduction")

    def __init__(
        self, *, seams: Seams, ratio: float = 0.2, reduction: int = 4, **common: Any
    ) -> None:
        super().__init__(seams=seams, **common)
        (seam,) = seams["pooled_image"]
        width = seam.widths["width"]
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
        if positive_integer("reduction", reduction) > width:
            raise ValueError(
                f"reduction must be at most {width}, the width of the image feature, got"
                f" {reduction}"
            )
        self.ratio, self.reduction = float(ratio), reduction
        self.down = nn.Linear(width, width // reduction, bias=False)
        self.up = nn.Linear(width // reduction, width, bias=False)
        seam.connect(self, self._adapted)

    def _adapted(self, seam: FeatureSeam, f: Tensor) -> Tensor:
        adapted = self.up(self.down(f.to(self.up.weight.dtype)).relu()).relu()
        return self.ratio * adapted.to(f.dtype) + (1 - self.ratio) * f
