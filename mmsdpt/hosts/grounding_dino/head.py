"""Grounding DINO's head: token logits by comparison with the text, boxes by small networks."""

from __future__ import annotations

import copy

import torch
from mmdet.models.dense_heads import GroundingDINOHead as MMDetGroundingDINOHead
from mmdet.models.dense_heads.grounding_dino_head import ContrastiveEmbed as MMDetContrastiveEmbed
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.registry import MODELS


class ContrastiveEmbed(MMDetContrastiveEmbed):
    """As in MMDetection, but with the precision of its inputs (at least float32)."""

    def forward(self, visual_feat: Tensor, text_feat: Tensor, text_token_mask: Tensor) -> Tensor:
        """Token logits.

        Args:
            visual_feat: (B, Q, C).
            text_feat: (B, T, C).
            text_token_mask: (B, T), True at real tokens.

        Returns:
            (B, Q, ``max_text_len``), -inf where there is no real token.
        """
        logits = visual_feat @ text_feat.transpose(-1, -2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if isinstance(self.log_scale, Tensor):
            logits = logits * self.log_scale.exp()
        elif self.log_scale == "auto":
            logits = logits / visual_feat.shape[-1] ** 0.5
        if self.bias is not None:
            logits = logits + self.bias
        logits = logits.masked_fill(~text_token_mask[:, None, :], -torch.inf)
        every = logits.new_full((*logits.shape[:-1], self.max_text_len), -torch.inf)
        every[..., : logits.shape[-1]] = logits
        return every


@MODELS.register_module()
class GroundingDINOHead(MMDetGroundingDINOHead):
    """MMDetection's head of the same name, in any precision."""

    def _init_layers(self) -> None:
        super()._init_layers()
        embed = ContrastiveEmbed(**self.contrastive_cfg)
        self.cls_branches = nn.ModuleList(
            embed if self.share_pred_layer else copy.deepcopy(embed)
            for _ in range(self.num_pred_layer)
        )

    @staticmethod
    def split_outputs(
        all_layers_cls_scores: Tensor, all_layers_bbox_preds: Tensor, dn_meta: dict | None
    ) -> tuple[Tensor | None, ...]:
        """As in MMDetection, but ``dn_meta`` may be None: without denoising queries all outputs
        are matched.
        """
        if dn_meta is None:
            return all_layers_cls_scores, all_layers_bbox_preds, None, None
        return MMDetGroundingDINOHead.split_outputs(
            all_layers_cls_scores, all_layers_bbox_preds, dn_meta
        )

    def _predict_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        token_positive_maps: dict | None,
        *args,
        **kwargs,
    ) -> InstanceData:
        """As in MMDetection, which fails if queries and classes give fewer than ``max_per_img``
        boxes.
        """
        possible = len(cls_score) * (1 if token_positive_maps is None else len(token_positive_maps))
        whole = self.test_cfg
        limit = min(whole.get("max_per_img", len(cls_score)), possible)
        self.test_cfg = {**whole, "max_per_img": limit}
        try:
            return super()._predict_by_feat_single(
                cls_score, bbox_pred, token_positive_maps, *args, **kwargs
            )
        finally:
            self.test_cfg = whole
