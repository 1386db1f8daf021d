r"""LoRA (Hu et al., ICLR 2022): low-rank changes of weight matrices.

    W' = W + (alpha / r) B A        A (r x in), B (out x r)

A starts from Kaiming's uniform distribution with a = sqrt(5), B from zero, so training starts from
the host. The changed weight is computed before the forward pass. Then the host may use a weight in
any order of products, as the re-associated X-MHA does, and inference costs nothing more. For the
same reason there is no dropout on the input of A.

If query, key and value are one fused weight (3d x d), as in Swin and in CLIP, they share one A, and
B has 3d rows: r (d + 3d) parameters. loralib has a pair A, B for each of the three: 6 r d.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .host_parameters import Merging
from .layers.common import positive_integer

# Weights by part of the host and role; query, key and value are one weight in Swin and in CLIP.
ENCODERS = {
    "image": ("qkv.weight",),
    "text": ("query.weight", "key.weight", "value.weight", "attn.in_proj_weight"),
}
FUSION = {
    "fusion": (
        "v_proj.weight",
        "l_proj.weight",
        "values_v_proj.weight",
        "values_l_proj.weight",
        "out_v_proj.weight",
        "out_l_proj.weight",
    )
}


@MODELS.register_module()
class LoRA(Merging):
    """Low-rank changes of the attention's query, key and value weights in both encoders.

    r (in + out) parameters per matrix: 2,039,808 on GLIP-L with r = 16 (the SDPT poster: 2.03 M).
    The paper changes query and value; GLIP's image encoder has query, key and value in one matrix,
    so the key is changed in both encoders.

    Args:
        rank: r.
        alpha: Numerator of the scale; by default r, so that the scale is 1.

    Raises:
        ValueError: if the host has none of the weights, the rank is not less than all their widths,
            or alpha is 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("parameters",)
    zero_init: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("rank", "alpha")
    targets: ClassVar[Mapping[str, Collection[str]]] = ENCODERS

    def __init__(
        self,
        *,
        seams: Seams,
        rank: int = 16,
        alpha: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.rank = positive_integer("rank", rank)
        self.alpha = float(rank if alpha is None else alpha)
        parameters = cast(Sequence[ParameterSeam], seams["parameters"])
        self.chosen = [seam for seam in parameters if seam.role in self.targets.get(seam.group, ())]
        if not self.chosen:
            raise ValueError(
                f"{type(self).__name__} finds no weight to change in this host: it looks for"
                f" {', '.join(role for roles in self.targets.values() for role in roles)}"
            )
        smallest = min(min(seam.shape) for seam in self.chosen)
        if rank >= smallest:
            raise ValueError(f"rank must be from 1 to {smallest - 1} on this host, got {rank}")
        if self.alpha == 0:
            raise ValueError(f"alpha must not be 0: nothing of {type(self).__name__} would train")
        self.down = nn.ParameterList()
        self.up = nn.ParameterList()
        for i, seam in enumerate(self.chosen):
            down, up = self._pair(seam)
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(up))
            seam.connect(self, partial(self._changed, i))

    def _pair(self, seam: ParameterSeam) -> tuple[Tensor, Tensor]:
        """Initial A and B of a weight."""
        width_out, width_in = seam.shape
        like = seam.value()
        down = like.new_empty(self.rank, width_in, dtype=torch.float32)
        up = like.new_zeros(width_out, self.rank, dtype=torch.float32)
        return nn.init.kaiming_uniform_(down, a=math.sqrt(5)), up

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank

    def change(self, i: int) -> Tensor:
        """(alpha / r) B A of the i-th weight, (out, in)."""
        return self.scale * (self.up[i] @ self.down[i])

    def factors(self, i: int) -> tuple[Tensor, Tensor]:
        """A (r, in) and B (out, r) of the i-th change, which is ``scale`` times B A."""
        return self.down[i], self.up[i]

    @staticmethod
    def from_factors(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """A weight's entries of ``down`` and ``up``, from A and B as :meth:`factors` gives them.

        Raises:
            ValueError: if the method cannot represent A and B.
        """
        return down, up

    def _changed(self, i: int, seam: ParameterSeam, value: Tensor) -> Tensor:
        return value + self.change(i).to(value.dtype)


@MODELS.register_module()
class LoRAXMHA(LoRA):
    """LoRA on the six Linears of every fusion layer: 1,966,080 on GLIP-L with r = 16 (the SDPT
    poster prints 1.58 M).

    Args: see :class:`LoRA`.
    """

    needs = ("parameters", "fusion")
    targets = FUSION
