"""Grounding DINO (Liu et al., ECCV 2024) and MM-Grounding-DINO as a tunable host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import GroundingDINO as MMDetGroundingDINO
from mmdet.models.layers import SinePositionalEncoding
from mmdet.registry import MODELS as DETECTION_MODELS
from mmdet.structures import SampleList
from mmengine.runner.amp import autocast
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.hosts.grounding import GroundingMixin, Levels, Text
from mmsdpt.hosts.grounding.cross_attention import MAX_CLAMP_VALUE
from mmsdpt.hosts.images import Images
from mmsdpt.hosts.seams import FeatureSeam, ForwardState, SeamMap
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError

from .decoder import Decoder
from .encoder import Encoder

_GROUPS = {
    "backbone": "image",
    "neck": "neck",
    "language_model": "text",
    "text_feat_map": "text",
    "level_embed": "encoder",
    "encoder.fusion_layers": "fusion",
    "encoder.text_layers": "fused_text",
    "encoder.layers": "encoder",
    "bbox_head": "outputs",
}


@MODELS.register_module()
class GroundingDINO(GroundingMixin, MMDetGroundingDINO):
    """MMDetection's Grounding DINO with slots for tuners; every parameter keeps its name.

    Args:
        language_model: Config of :class:`mmsdpt.BertModel`, with ``use_sub_sentence_represent``.
        tuner, tuners, trainable: See :class:`mmsdpt.hosts.base.TunableMixin`.
        independent_captions: Whether an image's result is independent of the other captions of its
            batch, see :class:`Encoder`. False: as in MMDetection.
        use_autocast: Mixed precision for the image side, as in OneDL's distribution; MMDetection
            3.3.0 has no such setting.
        retention: Must be None; only GLIP supports it.
        kwargs: As in MMDetection; ``encoder.num_cp`` recomputes activations without fairscale.

    Raises:
        InputError: if ``retention`` is given.
        ValueError: if the text encoder does not encode class names separately, or takes longer
            captions than the head.
    """

    # The label embeddings of denoising queries, which the original weights lack. With zeros, these
    # queries still have their boxes.
    starts_at_zero = ("dn_query_generator.label_embedding.weight",)
    _finds_whole_captions = True

    def __init__(
        self,
        language_model: Mapping[str, Any],
        *args,
        tuner: Mapping | None = None,
        tuners: Mapping[str, Mapping] | None = None,
        trainable: Sequence[str] | None = None,
        independent_captions: bool = True,
        use_autocast: bool = False,
        retention: Mapping | None = None,
        **kwargs,
    ) -> None:
        if retention is not None:
            raise InputError(
                "model.retention is for GLIP: it compares two passes place by place, and Grounding"
                " DINO chooses other queries in each; remove it"
            )
        if not language_model.get("use_sub_sentence_represent"):
            raise ValueError(
                "Grounding DINO encodes each class name by itself: set"
                " language_model.use_sub_sentence_represent=True and its special_tokens_list"
            )
        self.independent_captions = independent_captions
        super().__init__(language_model, *args, **kwargs)
        self.use_autocast = use_autocast
        longest, width = self.language_model.max_tokens, self.bbox_head.max_text_len
        if longest > width:
            raise ValueError(
                f"language_model.max_tokens is {longest}, but the head compares with {width} tokens"
                " (bbox_head.contrastive_cfg.max_text_len): lower the one or raise the other"
            )
        self._text_seam = FeatureSeam(
            0, dict(width=self.embed_dims, max_tokens=longest), kind="text_features"
        )
        self._attach(tuner, tuners, trainable)

    def _init_layers(self) -> None:
        # Not MMDetection's: it would build layers that need compiled operators, and would need
        # fairscale for recomputation.
        self.positional_encoding = SinePositionalEncoding(**self.positional_encoding)
        self.encoder = Encoder(**self.encoder, independent_captions=self.independent_captions)
        self.decoder = Decoder(**self.decoder)
        self.embed_dims = self.encoder.embed_dims
        if self.positional_encoding.num_feats * 2 != self.embed_dims:
            raise ValueError(
                f"positional_encoding.num_feats is {self.positional_encoding.num_feats}, expected"
                f" half of the encoder's width of {self.embed_dims}"
            )
        self.query_embedding = nn.Embedding(self.num_queries, self.embed_dims)
        self.level_embed = nn.Parameter(torch.empty(self.num_feature_levels, self.embed_dims))
        nn.init.normal_(self.level_embed)
        self.memory_trans_fc = nn.Linear(self.embed_dims, self.embed_dims)
        self.memory_trans_norm = nn.LayerNorm(self.embed_dims)
        self.language_model = DETECTION_MODELS.build(self.language_model_cfg)
        language_dim = self.language_model.language_backbone.body.language_dim
        self.text_feat_map = nn.Linear(language_dim, self.embed_dims)

    def seams(self) -> SeamMap:
        """Seams by kind. ``text_features`` is after ``text_feat_map`` and has the width of the
        feature enhancer. Seams of the encoders need ``mmsdpt.SwinTransformer`` and
        ``mmsdpt.BertModel``.
        """
        return self._seam_map(
            {}, text_features=[self._text_seam], fusion=self.encoder.fusion_seams()
        )

    def parameter_group(self, name: str) -> str:
        for start, group in _GROUPS.items():
            if name == start or name.startswith(f"{start}."):
                return group
        return "decoder"

    # ------------------------------------------------------------------ encoders

    def extract_feat(self, batch_inputs: Images, state: ForwardState | None = None) -> Levels:
        """(B, 3, H, W) to the pyramid; without gradients if nothing in the image side trains."""
        with autocast(enabled=True) if self.use_autocast else nullcontext():
            return super().extract_feat(batch_inputs, state)

    def _text_is_kept(self, captions: Sequence[str]) -> bool:
        # With MMDetection's masks padding is seen, so captions must be padded before BERT.
        return self.independent_captions or len(set(captions)) == 1

    def _text_for_head(self, text: Text) -> Text:
        """The language model's features with ``embedded`` in the width of the feature enhancer."""
        mapped = self.text_feat_map(text["embedded"])
        if self._text_seam.active():
            given = dict(hidden=mapped, embedded=mapped, masks=text["text_token_mask"])
            mapped = self._text_seam.change(given)["embedded"]
        return {**text, "embedded": mapped}

    # ------------------------------------------------------------------ transformer

    def forward_transformer(
        self,
        img_feats: Levels,
        text_dict: Text,
        batch_data_samples: SampleList,
        denoise: bool = False,
    ) -> dict[str, Any]:
        """Pyramid and text to the inputs of the head.

        Args:
            text_dict: See :class:`Encoder`.
            batch_data_samples: With ``batch_input_shape`` and ``img_shape``.
            denoise: Whether to add denoising queries, made from the ground truth.
        """
        image, shared = self.pre_transformer(img_feats, batch_data_samples)
        real = text_dict["text_token_mask"]
        memory, memory_text = self.encoder(
            query=image["feat"],
            query_pos=image["feat_pos"],
            key_padding_mask=image["feat_mask"],
            spatial_shapes=image["spatial_shapes"],
            valid_ratios=image["valid_ratios"],
            text=text_dict,
        )
        scores, boxes = self._propose(memory, shared, memory_text, real)
        query = self.query_embedding.weight.expand(len(memory), -1, -1)
        references, mask, meta = boxes.detach(), None, None
        if denoise:
            labels, noisy, mask, meta = self.dn_query_generator(batch_data_samples)
            query = torch.cat([labels, query], dim=1)
            references = torch.cat([noisy, references], dim=1)
        states, all_references = self.decoder(
            query=query,
            value=memory,
            key_padding_mask=shared["memory_mask"],
            self_attn_mask=mask,
            reference_points=references.sigmoid(),
            spatial_shapes=shared["spatial_shapes"].tolist(),
            valid_ratios=shared["valid_ratios"],
            reg_branches=self.bbox_head.reg_branches,
            memory_text=memory_text,
            text_attention_mask=~real,
        )
        return dict(
            hidden_states=states,
            references=all_references,
            memory_text=memory_text,
            text_token_mask=real,
            enc_outputs_class=scores,
            enc_outputs_coord=boxes.sigmoid(),
            dn_meta=meta,
        )

    def _propose(
        self, memory: Tensor, shared: Mapping[str, Tensor], memory_text: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The ``num_queries`` positions that match a token best: token logits (B, Q, T) and boxes
        (B, Q, 4) before the sigmoid.
        """
        last = self.decoder.num_layers
        features, anchors = self.gen_encoder_output_proposals(
            memory, shared["memory_mask"], shared["spatial_shapes"]
        )
        logits = self.bbox_head.cls_branches[last](features, memory_text, real)
        if self.num_queries > logits.shape[1]:
            raise ValueError(
                f"the pyramid has {logits.shape[1]} positions for {self.num_queries} queries:"
                " enlarge the images in the pipeline, or set a smaller num_queries"
            )
        best = logits.max(-1)[0].topk(self.num_queries, dim=1)[1].unsqueeze(-1)
        boxes = self.bbox_head.reg_branches[last](features) + anchors
        return (
            logits.gather(1, best.expand(-1, -1, logits.shape[-1])),
            boxes.gather(1, best.expand(-1, -1, 4)),
        )

    # ------------------------------------------------------------------ training and testing

    def _training_prompt(self, sample: Any) -> tuple[str, Tensor]:
        """As for GLIP; a sample may instead have ``tokens_positive``, character spans by label in
        its ``text``, as in MMDetection's data for pre-training.
        """
        spans = _spans(sample)
        if spans is None:
            return super()._training_prompt(sample)
        tokenized = self.language_model.tokenizer([sample.text], return_tensors="pt")
        self._check_length(tokenized, len(spans))
        _, class_map = self.get_positive_map(tokenized, spans)
        return sample.text, class_map.bool().float()

    def _phrases(self, sample: Any) -> Sequence[str]:
        spans = _spans(sample)
        if spans is None:
            return super()._phrases(sample)
        return [" ".join(sample.text[start:end] for start, end in each) for each in spans]

    def _head_losses(
        self, visual: Levels, text: Text, targets: Sequence[Tensor], state: ForwardState
    ) -> dict[str, Tensor]:
        """Losses of the last decoder layer (``loss_cls``, ``loss_bbox``, ``loss_iou``), of the
        layers before it (``d0.loss_cls``, ...), of the proposals (``enc_loss_cls``, ...) and, in
        training mode, of the denoising queries (``dn_loss_cls``, ``d0.dn_loss_cls``, ...).
        """
        width = self.bbox_head.max_text_len
        for i, (sample, target) in enumerate(zip(state.samples, targets, strict=True)):
            truth = sample.gt_instances
            truth.positive_maps = F.pad(target, (0, width - target.shape[1]))
            truth.text_token_mask = text["text_token_mask"][i].expand(len(target), -1)
            self._check_labels(truth.labels)
        # Denoising queries are random. Without them, losses in eval mode are the same each time.
        inputs = self.forward_transformer(visual, text, state.samples, denoise=self.training)
        return self.bbox_head.loss(**inputs, batch_data_samples=state.samples)

    def _check_labels(self, labels: Tensor) -> None:
        count = self.dn_query_generator.num_classes
        if len(labels) and int(labels.max()) >= count:
            raise ValueError(
                f"an image has a box of class {int(labels.max())} of its caption, but the denoising"
                f" queries have {count} label embeddings (bbox_head.num_classes): train with fewer"
                " classes per caption (mmsdpt.SampleCaptionClasses in the pipeline)"
            )

    def _head_predictions(
        self, visual: Levels, text: Text, samples: SampleList, rescale: bool
    ) -> list[InstanceData]:
        inputs = self._outputs(visual, text, samples)
        return self.bbox_head.predict(**inputs, batch_data_samples=samples, rescale=rescale)

    def _head_outputs(self, visual: Levels, text: Text, samples: SampleList) -> tuple:
        """Token logits (n, B, Q, T) and boxes (n, B, Q, 4), cxcywh relative to the image, after
        each of n decoder layers.
        """
        return self.bbox_head(**self._outputs(visual, text, samples))

    def _outputs(self, visual: Levels, text: Text, samples: SampleList) -> dict[str, Any]:
        outputs = self.forward_transformer(visual, text, samples)
        names = ("hidden_states", "references", "memory_text", "text_token_mask")
        return {name: outputs[name] for name in names}

    def token_logits(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Tensor:
        """Logits of every query after the last decoder layer; very low where there is no token."""
        logits = self._forward(batch_inputs, batch_data_samples)[0][-1]
        return logits.nan_to_num(neginf=-MAX_CLAMP_VALUE)


def _spans(sample: Any) -> list | None:
    """Character spans of each label in the sample's text; None: the text is class names."""
    spans = sample.get("tokens_positive", None)
    if isinstance(spans, Mapping):
        return [spans.get(label, []) for label in range(max(spans, default=-1) + 1)]
    return spans
