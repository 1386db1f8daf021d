r"""Adapter (Houlsby et al., ICML 2019, section 2.1) on the text encoder.

A bottleneck after both dense outputs of every BERT layer, before the residual and the norm:

    h <- h + Up(GELU(Down(h)))          Down: d to m, Up: m to d
    x <- LN(x + h)                      LN's weight and bias also train

The released code also trains the norm of the word embeddings and uses the tanh approximation of
GELU: ``embedding_norm=True, activation="gelu_tanh"``.

Parameters per layer: 2 (2 d m + m + d) in the bottlenecks and 4 d in the norms. On GLIP-L with
m = 64 these are 2,379,264 and 36,864, together 2,416,128.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import FeatureSeam, ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.bottleneck import Bottleneck
from .layers.common import key_of

KINDS = ("text_attention_outputs", "text_ffn_outputs")
ACTIVATIONS = dict(gelu="none", gelu_tanh="tanh")
_LAYER_NORM = re.compile(r"\.layer\.\d+\..*LayerNorm\.(weight|bias)$")
_EMBEDDING_NORM = re.compile(r"\.embeddings\.LayerNorm\.(weight|bias)$")


@MODELS.register_module()
class Adapter(Tuner):
    """Trains bottlenecks in every layer of the text encoder, and its layer norms.

    Weights are drawn from N(0, 0.001^2), truncated at two standard deviations, as in the released
    code; biases start from zero. So the adapted layers start close to the host's, but not equal to
    them.

    The norms train as offsets from the host's values. The offsets start from zero. This is the same
    as training copies, but a second Adapter can be stacked on a trained one, and weight decay pulls
    towards the host. The fused text layers in GLIP's head are not part of the language model and do
    not change.

    Args:
        bottleneck: m.
        layer_norms: Whether the layer norms of the layers train.
        embedding_norm: Whether the norm of the word embeddings trains.
        activation: ``gelu``, or ``gelu_tanh``, its tanh approximation.
        init_std: Standard deviation of the bottlenecks' weights.

    Raises:
        ValueError: if ``bottleneck`` is not a positive integer, ``init_std`` is not positive, or
            the host's text encoder has none of the norms that are to train.
    """

    needs = (*KINDS, "parameters")
    settings = ("bottleneck", "layer_norms", "embedding_norm", "activation")
    added = dict(embedding_norm=False, activation="gelu")

    def __init__(
        self,
        *,
        seams: Seams,
        bottleneck: int = 64,
        layer_norms: bool = True,
        embedding_norm: bool = False,
        activation: str = "gelu",
        init_std: float = 1e-3,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        if init_std <= 0:
            raise ValueError(f"init_std must be positive, got {init_std}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of gelu, gelu_tanh, got {activation!r}")
        self.bottleneck, self.activation = bottleneck, activation
        self.layer_norms, self.embedding_norm = layer_norms, embedding_norm
        self.widths = {kind: [seam.widths["width"] for seam in seams[kind]] for kind in KINDS}
        self.adapters = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    Bottleneck(width, bottleneck, nn.GELU(ACTIVATIONS[activation]))
                    for width in widths
                )
                for kind, widths in self.widths.items()
            }
        )
        for name, parameter in self.adapters.named_parameters():
            if name.endswith("weight"):
                nn.init.trunc_normal_(parameter, std=init_std, a=-2 * init_std, b=2 * init_std)
        for kind in KINDS:
            for seam in seams[kind]:
                seam.connect(self, self._adapt)
        self.norm_offsets = nn.ParameterDict()
        if layer_norms:
            self._connect_norms(seams, _LAYER_NORM, "layer_norms")
        if embedding_norm:
            self._connect_norms(seams, _EMBEDDING_NORM, "embedding_norm")

    def _connect_norms(self, seams: Seams, names: re.Pattern[str], setting: str) -> None:
        parameters = cast(Sequence[ParameterSeam], seams["parameters"])
        norms = [s for s in parameters if s.group == "text" and names.search(s.name)]
        if not norms:
            raise ValueError(
                f"Adapter finds no layer norms for {setting}=True in the host's text encoder"
                f" (parameters whose names match {names.pattern!r}): set {setting}=False"
            )
        for seam in norms:
            self.norm_offsets[key_of(seam.name)] = nn.Parameter(torch.zeros(seam.shape))
            seam.connect(self, self._offset)

    def _adapt(self, seam: FeatureSeam, features: Tensor) -> Tensor:
        return features + self.adapters[seam.kind][seam.index](features)

    def _offset(self, seam: ParameterSeam, value: Tensor) -> Tensor:
        return value + self.norm_offsets[key_of(seam.name)].to(value.dtype)
