r"""DoRA (Liu et al., ICML 2024): weight-decomposed low-rank adaptation.

Each row of a weight is split into a length m and a direction. LoRA changes the direction, and m is
learned:

    W' = m (W + (alpha / r) B A) / |W + (alpha / r) B A|       m (out), |.| per row

m starts from |W| and B from zero, so training starts exactly from the host, bit for bit. On top of
another tuner, W is the weight that this tuner gives. As in section 4.3 of the paper and the
authors' code, the length in the denominator gets no gradient (``detach_norm``). This changes the
gradient a little and saves memory.

The weights are those of LoRA, with r (in + out) + out parameters each: on GLIP-L with r = 16,
2,121,600 in the encoders and 2,039,808 in the fusion layers. For GLIP, the changed weight is
computed before the forward pass, as with LoRA, because the re-associated X-MHA multiplies weights
in another order than a linear layer; so there is no dropout on the input of A. If query, key and
value are one weight, they share one A, and each of the 3d rows has its own length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .lora import FUSION, LoRA


@MODELS.register_module()
class DoRA(LoRA):
    """LoRA of the direction of weight rows, with learned lengths, on the attention's query, key and
    value weights in both encoders.

    Args:
        detach_norm: Whether the length in the denominator gets no gradient.
        settings: ``rank`` and ``alpha`` of :class:`LoRA`.

    Attributes:
        magnitude: m of each weight, (out,).

    Raises:
        ValueError: if the host has none of the weights, or the rank is not less than all their
            widths.
    """

    def __init__(self, *, seams: Seams, detach_norm: bool = True, **settings: Any) -> None:
        super().__init__(seams=seams, **settings)
        self.detach_norm = detach_norm
        self.magnitude = nn.ParameterList(nn.Parameter(up.new_ones(up.shape[0])) for up in self.up)

    @torch.no_grad()
    def start_from_host(self) -> None:
        for magnitude, seam in zip(self.magnitude, self.chosen, strict=True):
            magnitude.copy_(_lengths(seam.before(self).to(magnitude.dtype)))

    def _changed(self, i: int, seam: ParameterSeam, value: Tensor) -> Tensor:
        magnitude = self.magnitude[i]
        direction = value.to(magnitude.dtype) + self.change(i).to(magnitude.dtype)
        lengths = _lengths(direction)
        if self.detach_norm:
            lengths = lengths.detach()
        return ((magnitude / lengths).unsqueeze(1) * direction).to(value.dtype)


@MODELS.register_module()
class DoRAXMHA(DoRA):
    """DoRA on the six Linears of every fusion layer: 2,039,808 on GLIP-L with r = 16.

    Args: see :class:`DoRA`.
    """

    needs = ("parameters", "fusion")
    targets = FUSION


def _lengths(weight: Tensor) -> Tensor:
    """Length of each row, (out,), at least 1e-12: then a row of zeros stays zero."""
    return weight.norm(dim=1).clamp_min(1e-12)
