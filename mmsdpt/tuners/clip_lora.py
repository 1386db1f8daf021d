r"""CLIP-LoRA (Zanella and Ben Ayed, CVPR Workshops 2024): low-rank changes of CLIP's attention.

Query, key and value of every block in both towers each have their own pair A, B:

    W' = W + (alpha / sqrt(r)) B A          A (r x d), B (d x r)

Biases and the output layers do not change. A starts from U(-1/sqrt(d), 1/sqrt(d)), B from zero, so
training starts from the host. In training, the change is applied to the input after dropout,

    y = W x + b + (alpha / sqrt(r)) B A dropout(x)

with a separate mask for query, key and value. In testing, the changed weights are computed once.
Tokens at the start that all texts share are computed once for all classes, so they have one mask.
6 r d parameters per block: 184,320 on ViT-B/16 with r = 2.

As in the authors' code, the scale is alpha / sqrt(r), 0.7071 with r = 2, not LoRA's alpha / r.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import ProjectionSeam
from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .lora import LoRA


@MODELS.register_module()
class CLIPLoRA(LoRA):
    """Low-rank changes of CLIP's query, key and value weights, one pair for each.

    Args:
        rank: r.
        alpha: Numerator of the scale.
        dropout: Dropout rate of the input of A, in training.

    Attributes:
        down: A of each block, (3, r, d): query, key, value.
        up: B, (3, d, r).

    Raises:
        ValueError: if the rank is not less than the widths, or the dropout is not in [0, 1).
    """

    needs = ("parameters", "text_projections", "image_projections")
    targets = {"image": ("qkv.weight",), "text": ("attn.in_proj_weight",)}  # noqa: RUF012

    def __init__(
        self,
        *,
        seams: Seams,
        rank: int = 2,
        alpha: float = 1.0,
        dropout: float = 0.25,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, rank=rank, alpha=alpha, **common)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {dropout}")
        self.dropout = nn.Dropout(dropout)
        for kind, group in (("text_projections", "text"), ("image_projections", "image")):
            chosen = [i for i, seam in enumerate(self.chosen) if seam.group == group]
            places = cast(Sequence[ProjectionSeam], seams[kind])
            for i, place in zip(chosen, places, strict=True):
                place.connect(self, partial(self._project, i))

    def _pair(self, seam: ParameterSeam) -> tuple[Tensor, Tensor]:
        d = seam.shape[1]
        like = partial(torch.empty, dtype=torch.float32, device=seam.value().device)
        down, up = like(3, self.rank, d), like(3, d, self.rank)
        return down.uniform_(-(d**-0.5), d**-0.5), up.zero_()

    @property
    def scale(self) -> float:
        """alpha / sqrt(r)."""
        return self.alpha / self.rank**0.5

    def change(self, i: int) -> Tensor:
        """(alpha / sqrt(r)) B A of the i-th block, (3d, d)."""
        return self.scale * (self.up[i] @ self.down[i]).flatten(0, 1)

    def factors(self, i: int) -> tuple[Tensor, Tensor]:
        """The three pairs as one pair of rank 3r: A (3r, d) stacked, B (3d, 3r) block-diagonal."""
        return self.down[i].flatten(0, 1), torch.block_diag(*self.up[i])

    @staticmethod
    def from_factors(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        blocks = up.unflatten(0, (3, -1)).unflatten(2, (3, -1))  # (3, d, 3, r)
        own = torch.stack([blocks[j, :, j] for j in range(3)])  # (3, d, r)
        if not torch.equal(torch.block_diag(*own), up):
            raise ValueError("query, key and value share A, but CLIPLoRA has a separate A for each")
        return down.unflatten(0, (3, -1)), own

    def _drops(self) -> bool:
        return self.training and self.dropout.p > 0

    def _changed(self, i: int, seam: ParameterSeam, value: Tensor) -> Tensor:
        return value if self._drops() else super()._changed(i, seam, value)

    def _project(self, i: int, seam: ProjectionSeam, y: Tensor, x: Tensor) -> Tensor:
        if not self._drops():
            return y
        dropped = self.dropout(x.to(self.up[i].dtype).expand(3, *x.shape))  # (3, B, L, d)
        low = torch.einsum("cbld,crd->cblr", dropped, self.down[i])
        change = torch.einsum("cblr,cdr->blcd", low, self.up[i]).flatten(2)  # (B, L, 3d)
        return y + self.scale * change.to(y.dtype)
