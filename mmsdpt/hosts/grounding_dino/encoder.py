"""The feature enhancer of Grounding DINO: X-MHA, self-attention of the text, deformable
self-attention of the image, layer by layer.

Parameter names are those of ``mmdet.models.layers.transformer.grounding_dino_layers``. Letters: B
images, N positions of all levels, T text tokens, C the common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.layers.transformer.deformable_detr_layers import (
    DeformableDetrTransformerEncoder,
    DeformableDetrTransformerEncoderLayer,
)
from mmdet.models.layers.transformer.detr_layers import DetrTransformerEncoderLayer
from mmdet.models.layers.transformer.utils import get_text_sine_pos_embed
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmsdpt.hosts.grounding.fusion import BiAttentionBlock
from mmsdpt.hosts.grounding.seams import FusionSeam, OwnWords
from mmsdpt.hosts.recompute import recompute

from .attention import MultiheadAttention
from .deform_attn import DeformableAttention, Sizes


class ImageLayer(DeformableDetrTransformerEncoderLayer):
    """Deformable self-attention over the pyramid, and a feed-forward network."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.self_attn = DeformableAttention(**self.self_attn_cfg)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        reference_points: Tensor,
        sizes: Sizes,
    ) -> Tensor:
        """(B, N, C) to (B, N, C); see :class:`DeformableAttention`."""
        query = self.self_attn(
            query,
            query_pos=query_pos,
            key_padding_mask=key_padding_mask,
            reference_points=reference_points,
            spatial_shapes=sizes,
        )
        return self.norms[1](self.ffn(self.norms[0](query)))


class TextLayer(DetrTransformerEncoderLayer):
    """Self-attention of the text within its sub-sentences, and a feed-forward network."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)


class FusionLayer(BiAttentionBlock):
    """X-MHA on a flat pyramid (B, N, C) and the text (B, T, C)."""

    def forward(  # type: ignore[override]
        self,
        visual: Tensor,
        lang: Tensor,
        padding: Tensor | None,
        real_text: Tensor | None,
        own_words: OwnWords | None,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`BiAttentionBlock.fuse`."""
        return self.fuse(visual, lang, padding, real_text, own_words)


class Encoder(DeformableDetrTransformerEncoder):
    """``num_layers`` times X-MHA, a text layer and an image layer.

    Args:
        independent_captions: Whether an image's result is independent of the other captions of its
            batch. False: as in MMDetection, whose masks are inverted and not in the order of the
            heads, so padding is attended to, and the sub-sentences of one caption may mask those of
            another one. If all captions of a batch are the same, both give the same result.
        num_cp: Number of first layers whose activations are recomputed in the backward pass.
    """

    def __init__(
        self,
        text_layer_cfg: Mapping[str, Any],
        fusion_layer_cfg: Mapping[str, Any],
        independent_captions: bool = True,
        num_cp: int = -1,
        **kwargs: Any,
    ) -> None:
        self.text_layer_cfg, self.fusion_layer_cfg = text_layer_cfg, fusion_layer_cfg
        self.independent_captions = independent_captions
        super().__init__(**kwargs)
        self.num_cp = num_cp  # set after _init_layers, which would need fairscale for it

    def _init_layers(self) -> None:
        count = range(self.num_layers)
        self.layers = ModuleList([ImageLayer(**self.layer_cfg) for _ in count])
        self.text_layers = ModuleList([TextLayer(**self.text_layer_cfg) for _ in count])
        self.fusion_layers = ModuleList(
            [FusionLayer(**self.fusion_layer_cfg, index=i) for i in count]
        )
        self.embed_dims = self.layers[0].embed_dims

    def fusion_seams(self) -> list[FusionSeam]:
        """Seams of the X-MHA layers, first to last."""
        return [layer.attn.seam for layer in self.fusion_layers]

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Tensor,
        valid_ratios: Tensor,
        text: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """Enhance both features.

        Args:
            query: (B, N, C).
            query_pos: (B, N, C).
            key_padding_mask: (B, N), True at padding; None without any.
            spatial_shapes: (L, 2), h and w of each level.
            valid_ratios: (B, L, 2), the part of each level's width and height that is not padding.
            text: ``embedded`` (B, T, C), ``masks`` (B, T, T) true where a token sees another,
                ``position_ids`` and ``text_token_mask`` (B, T), true at real tokens; optionally
                ``own_words``, see :meth:`mmsdpt.hosts.grounding.seams.FusionSeam.tokens`.

        Returns:
            Both, in the same shapes.
        """
        references = self.get_encoder_reference_points(
            spatial_shapes, valid_ratios, device=query.device
        )
        sizes = spatial_shapes.tolist()
        lang = text["embedded"]
        lang_pos = get_text_sine_pos_embed(
            text["position_ids"][..., None], num_pos_feats=self.embed_dims, exchange_xy=False
        )
        hidden, real = self._text_masks(text)
        for i, (fuse, text_layer, layer) in enumerate(
            zip(self.fusion_layers, self.text_layers, self.layers, strict=True)
        ):
            run = recompute if i < self.num_cp and torch.is_grad_enabled() else _call
            query, lang = run(fuse, query, lang, key_padding_mask, real, text.get("own_words"))
            lang = text_layer(
                query=lang, query_pos=lang_pos, attn_mask=hidden, key_padding_mask=None
            )
            query = run(layer, query, query_pos, key_padding_mask, references, sizes)
        return query, lang

    def _text_masks(self, text: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Masks of what a text token does not see, (B H, T, T), and of the tokens that the image
        sees, (B, T), None: all.
        """
        heads = self.text_layers[0].self_attn.num_heads
        hidden = ~text["masks"].bool()
        if self.independent_captions:
            return hidden.repeat_interleave(heads, dim=0), text["text_token_mask"]
        return hidden.repeat(heads, 1, 1), None


def _call(module: nn.Module, *args: Any) -> Any:
    return module(*args)
