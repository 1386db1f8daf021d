r"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021) without compiled
operators.

For a query q with reference p, per head h, level l and point j:

    out_h = sum_lj  A_hlj  V_h,l( p_l + o_hlj ),     A = softmax_lj( W_a q ),   o = W_o q

``V_h,l(.)`` samples the level's values bilinearly, zero outside. The unit of offsets is a position
of the level, or, if the reference is a box, 1 / (2 n) of its sides for n points. MMCV's class uses
PyTorch code only on a CPU; on a GPU it calls an operator that may not be compiled.

Letters: B images; N positions of L levels; Q queries; H heads of width d; n points per level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import MultiScaleDeformableAttention as MMCVAttention
from torch import Tensor

Sizes = Sequence[tuple[int, int]]
"""(h, w) of each level."""


class DeformableAttention(MMCVAttention):
    """MMCV's ``MultiScaleDeformableAttention`` with the same parameters and code on all devices."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Sizes | Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Attend, and add the identity.

        Args:
            query: (B, Q, C).
            key: Ignored, as in MMCV.
            value: (B, N, C); None: the query.
            identity: (B, Q, C); None: the query.
            query_pos: (B, Q, C), added to the query.
            key_padding_mask: (B, N), True where the value is padding.
            reference_points: (B, Q, L, 2) xy, or (B, Q, L, 4) cxcywh, relative to the padded map.
            spatial_shapes: (h, w) of each level.
            **kwargs: Ignored, as in MMCV.

        Returns:
            (B, Q, C).
        """
        assert reference_points is not None and spatial_shapes is not None and self.batch_first
        sizes = _sizes(spatial_shapes)
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos

        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))  # (B, N, H, d)
        places = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*places, 2))  # (B, Q, H, L, n, 2)
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, places[1:])  # (B, Q, H, L, n)
        if reference_points.shape[-1] == 2:
            extent = torch.tensor([[w, h] for h, w in sizes]).to(reference_points)
            offsets = offsets / extent[:, None]
        else:
            boxes = reference_points[:, :, None, :, None, 2:]
            offsets = offsets / self.num_points * boxes * 0.5
        locations = reference_points[:, :, None, :, None, :2] + offsets
        attended = sample(value, sizes, locations, weights).to(query.dtype)
        return self.dropout(self.output_proj(attended)) + identity


def _sizes(spatial_shapes: Sizes | Tensor) -> Sizes:
    return spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes


def sample(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the samples at all points.

    Args:
        value: (B, N, H, d).
        sizes: (h, w) of each level; N positions in total.
        locations: (B, Q, H, L, n, 2), xy, 0 to 1 from edge to edge.
        weights: (B, Q, H, L, n).

    Returns:
        (B, Q, H d), in the dtype of ``locations``.
    """
    batch, _, heads, width = value.shape
    value, weights = value.to(locations.dtype), weights.to(locations.dtype)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B H, Q, L, n, 2)
    weights = weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B H, 1, Q, L, n)
    total: Tensor | None = None
    levels = value.split([h * w for h, w in sizes], dim=1)
    for i, (level, (h, w)) in enumerate(zip(levels, sizes, strict=True)):
        maps = level.permute(0, 2, 3, 1).reshape(batch * heads, width, h, w)
        read = F.grid_sample(maps, grids[:, :, i], align_corners=False)  # (B H, d, Q, n)
        part = (read * weights[..., i, :]).sum(-1)
        total = part if total is None else total + part
    assert total is not None
    return total.view(batch, heads * width, -1).transpose(1, 2)
