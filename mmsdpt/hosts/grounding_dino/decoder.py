"""The decoder of Grounding DINO: queries attend to each other, to the text and to the image.

Parameter names are those of ``mmdet.models.layers.transformer.grounding_dino_layers``. The forward
pass is our own: MMDetection in the OneDL distribution encodes each coordinate of a reference with
as many features as the width of a query, but Grounding DINO's layers take half as many (as in
MMDetection 3.3.0, for which the public weights were made).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.layers import inverse_sigmoid
from mmdet.models.layers.transformer.grounding_dino_layers import (
    GroundingDinoTransformerDecoder,
    GroundingDinoTransformerDecoderLayer,
)
from mmdet.models.layers.transformer.utils import coordinate_to_encoding
from mmengine.model import ModuleList
from torch import Tensor, nn

from .attention import MultiheadAttention
from .deform_attn import DeformableAttention


class DecoderLayer(GroundingDinoTransformerDecoderLayer):
    """MMDetection's layer with our own attention, which needs no compiled operators."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn_text = MultiheadAttention(**self.cross_attn_text_cfg)
        self.cross_attn = DeformableAttention(**self.cross_attn_cfg)


class Decoder(GroundingDinoTransformerDecoder):
    """``num_layers`` layers, each of which refines the boxes of the one before."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.layers = ModuleList([DecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)])

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        self_attn_mask: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        valid_ratios: Tensor,
        reg_branches: Sequence[nn.Module],
        memory_text: Tensor,
        text_attention_mask: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode queries.

        Args:
            query: (B, Q, C).
            value: (B, N, C), the encoded image.
            key_padding_mask: (B, N), True at padding; None without any.
            self_attn_mask: (Q, Q), True where a query does not see another one; None: all see all.
            reference_points: (B, Q, 4), cxcywh relative to the image.
            spatial_shapes: (h, w) of each level.
            valid_ratios: (B, L, 2), the part of each level's width and height that is not padding.
            reg_branches: Box predictors, one per layer.
            memory_text: (B, T, C), the encoded text.
            text_attention_mask: (B, T), True at padding.

        Returns:
            The normed output of each layer (n, B, Q, C), and the references: the initial ones and
            those after each layer, with gradients of only that layer.
        """
        states, references = [], [reference_points]
        ratios = torch.cat([valid_ratios, valid_ratios], -1)[:, None]  # (B, 1, L, 4)
        for layer, branch in zip(self.layers, reg_branches, strict=False):
            boxes = reference_points[:, :, None] * ratios  # (B, Q, L, 4)
            encoded = coordinate_to_encoding(boxes[:, :, 0], num_feats=self.embed_dims // 2)
            query = layer(
                query,
                query_pos=self.ref_point_head(encoded.to(query.dtype)),
                value=value,
                key_padding_mask=key_padding_mask,
                self_attn_mask=self_attn_mask,
                spatial_shapes=spatial_shapes,
                reference_points=boxes,
                memory_text=memory_text,
                text_attention_mask=text_attention_mask,
            )
            refined = branch(query) + inverse_sigmoid(reference_points, eps=1e-3)
            refined = refined.sigmoid()
            reference_points = refined.detach()
            states.append(self.norm(query))
            references.append(refined)
        return torch.stack(states), references
