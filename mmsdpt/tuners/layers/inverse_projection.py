r"""Closed-form inverse of a linear projection into a wider space.

A frozen projection y = x W^T + b carries x (width D) into the joint space (width E >= D). The
inverse projection of joint tokens Z is the least-squares solution

    P = (Z - b) (W^T)^+,    (W^T)^+ = W (W^T W)^{-1}    (E x D)

It needs no training. It is an inverse only on the image of the projection: projecting P back gives
the component of Z - b in the row space of W^T (rank D of E), plus b, and not Z itself.

Source: Zhou et al., SDPT: Synchronous Dual Prompt Tuning for Fusion-based Visual-Language
Pre-trained Models, ECCV 2024.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsdpt.registry import MODELS
from mmsdpt.utils.versions import tensor_versions


@MODELS.register_module()
class InverseProjection(BaseModule):
    """The inverse projection of one linear layer, kept current as the layer's weights change.

    The pseudo-inverse is computed once in float64, at the first use after the weights are loaded,
    and again whenever they change. It is a constant of the base model: a buffer outside the state
    dict.

    Args:
        in_features: E, width of the joint space.
        out_features: D, width of the modality.
    """

    pinv: Tensor
    bias: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if in_features < out_features:
            raise ValueError(
                f"a projection from width {out_features} into width {in_features} has no inverse"
                " projection: the joint width must be at least the modality's"
            )
        self.register_buffer("pinv", torch.zeros(in_features, out_features), persistent=False)
        self.register_buffer("bias", torch.zeros(in_features), persistent=False)
        self._versions: tuple = ()

    def forward(self, tokens: Tensor, projection: nn.Linear) -> Tensor:
        """Send joint tokens to a modality.

        Args:
            tokens: (k, E).
            projection: The modality's layer into the joint space, weight (E, D).

        Returns:
            (k, D), differentiable in ``tokens``.

        Raises:
            ValueError: if the weight does not have full rank D.
        """
        if tokens.is_meta:  # without values there is nothing to invert, but there is a shape
            return torch.matmul(tokens.to(self.pinv.dtype), self.pinv)
        self._refresh(projection)
        with torch.autocast(
            tokens.device.type, enabled=False
        ):  # a least-squares solution is no place for 8 bits
            return torch.matmul(tokens.to(self.pinv.dtype) - self.bias, self.pinv)

    @torch.no_grad()
    def _refresh(self, projection: nn.Linear) -> None:
        versions = tensor_versions((projection.weight, projection.bias, self.pinv))
        if versions == self._versions:
            return
        weight = projection.weight.double()
        rank = int(torch.linalg.matrix_rank(weight))
        if rank < weight.shape[1]:
            raise ValueError(
                f"the projection's weight {tuple(weight.shape)} has rank {rank}, so that its"
                " inverse projection is not unique: load the pre-trained weights (load_from)"
                " before the tuner is used, or use projection='learnable'"
            )
        # pinv(W^T) by SVD equals W (W^T W)^-1 at full rank, without squaring the condition number.
        self.pinv.copy_(torch.linalg.pinv(weight.T))
        self.bias.copy_(projection.bias)
        self._versions = tensor_versions((projection.weight, projection.bias, self.pinv))
