"""GLIP's detection head: fusion layers, prediction layers, and ATSS training on token targets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.dense_heads import ATSSVLFusionHead as MMDetATSSVLFusionHead
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.hosts.grounding.bert_folder import bert_config
from mmsdpt.hosts.grounding.cross_attention import MAX_CLAMP_VALUE
from mmsdpt.hosts.grounding.seams import FusionSeam
from mmsdpt.hosts.recompute import recompute
from mmsdpt.registry import MODELS

from .bert_layer import BertEncoderLayer
from .dyconv import DyConv
from .fusion import VLFuse


class VLFusionModule(nn.Module):
    """The fusion and prediction layers. Parameter names as in MMDetection.

    ``dyhead_tower`` repeats: X-MHA (:class:`VLFuse`), a BERT layer on the fused text, a dynamic
    convolution on the pyramid. Without ``early_fuse`` it has only the dynamic convolutions.

    Args:
        in_channels: Width of the pyramid.
        feat_channels: Width inside the head.
        num_base_priors: Anchors per position; GLIP has one.
        early_fuse, num_dyhead_blocks, lang_model_name, fusion, use_checkpoint: See
            :class:`ATSSVLFusionHead`.
        num_levels: Levels of the pyramid.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        num_base_priors: int = 1,
        early_fuse: bool = False,
        num_dyhead_blocks: int = 6,
        lang_model_name: str = "bert-base-uncased",
        fusion: dict | None = None,
        num_levels: int = 5,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if num_base_priors != 1:
            raise ValueError(f"GLIP's head has one anchor per position, got {num_base_priors}")
        self.early_fuse = early_fuse
        self.lang_cfg = bert_config(lang_model_name)
        self.lang_dim = self.lang_cfg.hidden_size
        layers: list[nn.Module] = []
        for i in range(num_dyhead_blocks):
            width = in_channels if i == 0 else feat_channels
            if early_fuse:
                layers.append(VLFuse(width, self.lang_dim, index=i, **(fusion or {})))
                layers.append(BertEncoderLayer(self.lang_cfg))
            # MMDetection switches the dynamic parts off if the first block's input has another
            # width.
            layers.append(DyConv(width, feat_channels, dynamic=width == feat_channels))
        self.dyhead_tower = nn.Sequential(*layers)
        self.use_checkpoint = use_checkpoint

        self.bbox_pred = nn.Conv2d(feat_channels, num_base_priors * 4, kernel_size=1)
        self.centerness = nn.Conv2d(feat_channels, num_base_priors, kernel_size=1)
        self.dot_product_projection_text = nn.Linear(self.lang_dim, num_base_priors * feat_channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(self.lang_dim))
        self.bias0 = nn.Parameter(torch.full((1,), -math.log((1 - 0.01) / 0.01)))
        self.scales = nn.ModuleList([Scale(1.0) for _ in range(num_levels)])

    def fusion_seams(self) -> list[FusionSeam]:
        """Seams of the X-MHA layers, first to last; empty without early fusion."""
        return [layer.seam for layer in self.dyhead_tower if isinstance(layer, VLFuse)]

    def forward(
        self, visual_feats: Sequence[Tensor], language_feats: dict
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Predict boxes, centerness and token logits.

        The text is first trimmed to the longest real caption. This is exact: padding has weight
        zero in X-MHA and in the fused BERT layers, and its own logits are never used. The logits
        are padded back to their width with the lowest value that MMDetection allows.

        Args:
            visual_feats: Levels (B, C, h, w).
            language_feats: ``hidden`` and ``embedded`` (B, L, D), ``masks`` (B, L), right-padded,
                and optionally ``own_words`` for :class:`VLFuse`; not changed.

        Returns:
            Per level: box deltas (B, 4, h, w), centerness (B, 1, h, w), logits (B, h w, L).
        """
        masks = language_feats["masks"]
        width, length = masks.shape[1], int(masks.sum(dim=1).max())
        lang = {name: language_feats[name][:, :length] for name in ("hidden", "embedded", "masks")}
        lang["own_words"] = language_feats.get("own_words")
        boxes, centerness, logits = self.predict(visual_feats, lang)
        padding = (0, width - length)
        return boxes, centerness, [F.pad(x, padding, value=-MAX_CLAMP_VALUE) for x in logits]

    def predict(
        self, visual_feats: Sequence[Tensor], lang: dict
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """As :meth:`forward`, for a text that is already trimmed; ``masks`` None: there is no
        padding.
        """
        fused: dict = dict(visual=list(visual_feats), lang=lang)
        for layer in self.dyhead_tower:
            saves = self.use_checkpoint and torch.is_grad_enabled()
            fused = recompute(layer, fused) if saves else layer(fused)
        embedding = fused["lang"]["hidden"] if self.early_fuse else lang["embedded"]
        embedding = F.normalize(embedding, p=2, dim=-1)
        words = self.dot_product_projection_text(embedding / 2.0)  # (B, T, C)
        bias = (torch.matmul(embedding, self.bias_lang) + self.bias0).unsqueeze(1)  # (B, 1, T)

        bbox_preds, centerness, cls_logits = [], [], []
        precise = self.bias0.dtype
        for level, scale in zip(fused["visual"], self.scales, strict=True):
            # Losses are computed in float32, also under autocast.
            bbox_preds.append(scale(self.bbox_pred(level)).to(precise))
            centerness.append(self.centerness(level).to(precise))
            queries = level.flatten(2).transpose(1, 2)  # (B, h w, C)
            logits = torch.matmul(queries, words.transpose(1, 2)) / self.log_scale.exp() + bias
            cls_logits.append(logits.to(precise).clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE))
        return bbox_preds, centerness, cls_logits


def phrase_contrast(logits: Tensor, targets: Tensor, phrase_maps: Sequence[Tensor]) -> Tensor:
    """Cross-entropy over the phrases of each image's caption, at the positive anchors.

    A phrase's logit is the mean over its tokens. GLIP's own focal loss trains every token
    separately: as long as the model only learns that *something* is there, it changes all words in
    the same way. The gradient of the softmax sums to zero over the phrases, so this common part
    cancels.

    Args:
        logits: (B, N, T) token logits.
        targets: (B, N, T) token targets; anchors with a target are positive.
        phrase_maps: Per image (C, T), 1 where a token belongs to a phrase.

    Returns:
        The mean over all positive anchors; zero if there are none.
    """
    losses = []
    for image_logits, image_targets, phrase_map in zip(logits, targets, phrase_maps, strict=True):
        positive = image_targets.sum(-1) > 0
        phrases = torch.matmul(image_logits[positive], phrase_map.T) / phrase_map.sum(1)
        wanted = torch.matmul(image_targets[positive], phrase_map.T).argmax(1)
        losses.append(F.cross_entropy(phrases, wanted, reduction="none"))
    loss = torch.cat(losses)
    return loss.mean() if len(loss) else logits.sum() * 0.0


@MODELS.register_module()
class ATSSVLFusionHead(MMDetATSSVLFusionHead):
    """ATSS head with fusion layers; replaces MMDetection's class of the same name.

    Differences: faster and corrected layers, any text width (MMDetection uses ``feat_channels``),
    any number of levels, and the seams.

    Args:
        early_fuse: Whether there are fusion layers (GLIP-T(A) has none).
        use_checkpoint: Recompute the layers of the head in the backward pass.
        num_dyhead_blocks: Number of blocks of ``dyhead_tower``.
        lang_model_name: Hub name or folder of the BERT.
        fusion: Overrides for :class:`VLFuse`: ``embed_dim``, ``num_heads``, ``dropout``,
            ``drop_path``.
        phrase_loss_weight: Weight of :func:`phrase_contrast`, which is added to ``loss_cls`` to
            train the grounding from scratch; 0: as in GLIP.
    """

    def __init__(
        self,
        *args,
        early_fuse: bool = False,
        use_checkpoint: bool = False,
        num_dyhead_blocks: int = 6,
        lang_model_name: str = "bert-base-uncased",
        fusion: dict | None = None,
        phrase_loss_weight: float = 0.0,
        init_cfg=None,
        **kwargs,
    ) -> None:
        # MMDetection's own constructor would first build 120 million parameters that are not used.
        ATSSHead.__init__(self, *args, init_cfg=init_cfg, **kwargs)
        self.head = VLFusionModule(
            in_channels=self.in_channels,
            feat_channels=self.feat_channels,
            num_base_priors=self.num_base_priors,
            early_fuse=early_fuse,
            num_dyhead_blocks=num_dyhead_blocks,
            lang_model_name=lang_model_name,
            fusion=fusion,
            num_levels=self.prior_generator.num_levels,
            use_checkpoint=use_checkpoint,
        )
        self.text_masks = None
        self.phrase_loss_weight = phrase_loss_weight
        self.phrase_maps: list[Tensor] = []

    def loss(
        self, visual_feats: Sequence[Tensor], language_feats: dict, batch_data_samples: SampleList
    ) -> dict:
        """As in MMDetection; with a phrase loss the samples must have ``phrase_map`` (C, L)."""
        if self.phrase_loss_weight:
            self.phrase_maps = [sample.phrase_map for sample in batch_data_samples]
        return super().loss(visual_feats, language_feats, batch_data_samples)

    def _loss_by_feat(
        self,
        anchors: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        centerness: Tensor,
        labels: Tensor,
        *args,
        **kwargs,
    ) -> tuple:
        loss_cls, *others = super()._loss_by_feat(
            anchors, cls_score, bbox_pred, centerness, labels, *args, **kwargs
        )
        if self.phrase_loss_weight:
            contrast = phrase_contrast(cls_score, labels, self.phrase_maps)
            loss_cls = loss_cls + self.phrase_loss_weight * contrast
        return loss_cls, *others

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        num_level_anchors: list[int],
        gt_instances: InstanceData,
        img_meta: dict,
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple:
        """ATSS targets of one image, as in MMDetection, but with token targets as wide as
        ``positive_maps`` (G, L).

        Args:
            flat_anchors: (N, 4) anchors of all levels; changed in place to GLIP's convention.
            valid_flags: Not used: GLIP keeps the anchors outside the image.
            gt_instances: ``bboxes`` (G, 4), ``labels`` (G,) and ``positive_maps`` (G, L).

        Returns:
            Anchors (N, 4), token targets (N, L), their weights (N,), box targets (N, 4), their
            weights (N, 4), indices of positives and negatives, the sampling result.
        """
        anchors = flat_anchors
        anchors[:, 2:] -= 1  # the convention of GLIP's weights: a box reaches from x to x + w - 1
        priors = InstanceData(priors=anchors)
        assigned = self.assigner.assign(
            priors, num_level_anchors, gt_instances, gt_instances_ignore
        )
        sampled = self.sampler.sample(assigned, priors, gt_instances)
        positives, negatives = sampled.pos_inds, sampled.neg_inds

        positive_maps = gt_instances.positive_maps
        labels = anchors.new_zeros((len(anchors), positive_maps.shape[1]), dtype=torch.float32)
        label_weights = anchors.new_zeros(len(anchors), dtype=torch.float32)
        bbox_targets = torch.zeros_like(anchors)
        bbox_weights = torch.zeros_like(anchors)
        if len(positives):
            bbox_targets[positives] = (
                sampled.pos_gt_bboxes
                if self.reg_decoded_bbox
                else self.bbox_coder.encode(sampled.pos_priors, sampled.pos_gt_bboxes)
            )
            bbox_weights[positives] = 1.0
            labels[positives] = positive_maps[sampled.pos_assigned_gt_inds]
            weight = self.train_cfg["pos_weight"]
            label_weights[positives] = weight if weight > 0 else 1.0
        label_weights[negatives] = 1.0
        return (
            anchors,
            labels,
            label_weights,
            bbox_targets,
            bbox_weights,
            positives,
            negatives,
            sampled,
        )
