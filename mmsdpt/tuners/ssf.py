r"""SSF (Lian et al., NeurIPS 2022): scaling and shifting features of the image encoder.

After every linear layer, every norm and the patch convolution of the image encoder:

    y' = gamma y + beta          gamma, beta (d), d the layer's output width

gamma starts from N(1, 0.02^2) and beta from N(0, 0.02^2), as in the paper and the authors' code, so
training does not start exactly from the host. With y = W x + b this is the layer with the weight
gamma W and the bias gamma b + beta; for a norm, its own scale and shift change in the same way. So
here the changed parameters are computed before the forward pass, and merging is exact.

Swin's layers between the stages (``downsample.reduction``) and CLIP's patch convolution have no
bias. The merged model would have no place for beta, so only gamma acts there. In Swin, the query,
key and value of window padding equal their bias, which is also scaled and shifted.

2 d parameters for every layer, d if it has no bias: 416,640 on GLIP-L.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .host_parameters import Merging
from .layers.common import INIT_STD, drawn


@MODELS.register_module()
class SSF(Merging):
    """A scale and a shift of every linear layer's and norm's output in the image encoder.

    Args:
        init_std: Standard deviation of the scales around 1 and of the shifts around 0. 0: training
            starts from the host.

    Attributes:
        scales: gamma of each layer, (d,).
        shifts: beta of each layer with a bias, (d,).

    Raises:
        ValueError: if the host's image encoder has no such layer, or ``init_std`` is negative.
    """

    needs = ("parameters",)
    settings = ()

    def __init__(self, *, seams: Seams, init_std: float = INIT_STD, **common: Any) -> None:
        super().__init__(seams=seams, **common)
        if init_std < 0:
            raise ValueError(f"init_std must be at least 0, got {init_std}")
        parameters = cast(Sequence[ParameterSeam], seams["parameters"])
        own = {seam.name: seam for seam in parameters if seam.group == "image"}
        weights = [seam for name, seam in own.items() if name.endswith(".weight")]
        if not weights:
            raise ValueError("SSF finds no linear layer or norm in the image encoder of this host")
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        self.chosen: list[ParameterSeam] = []
        for weight in weights:
            self.scales.append(nn.Parameter(1 + init_std * torch.randn(weight.shape[0])))
            self._act(weight, len(self.scales) - 1, None)
            bias = own.get(f"{weight.name.removesuffix('.weight')}.bias")
            if bias is not None:
                self.shifts.append(drawn(*bias.shape, std=init_std))
                self._act(bias, len(self.scales) - 1, len(self.shifts) - 1)

    def _act(self, seam: ParameterSeam, scale: int, shift: int | None) -> None:
        self.chosen.append(seam)
        seam.connect(self, partial(self._changed, scale, shift))

    def _changed(self, scale: int, shift: int | None, seam: ParameterSeam, value: Tensor) -> Tensor:
        gamma = self.scales[scale].to(value.dtype)
        if shift is None:
            return gamma.view(-1, *[1] * (value.dim() - 1)) * value
        return gamma * value + self.shifts[shift].to(value.dtype)
