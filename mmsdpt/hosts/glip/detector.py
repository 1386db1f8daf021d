"""GLIP as a tunable host."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmsdpt.hosts.grounding import GroundingMixin, Levels, Text
from mmsdpt.hosts.seams import ForwardState, SeamMap
from mmsdpt.registry import MODELS

from .bert_layer import BertEncoderLayer
from .dyconv import DyConv
from .fusion import VLFuse

_HINTS = {"fusion": "GLIP has fusion layers only with early_fuse=True"}
_HEAD_GROUPS = {VLFuse: "fusion", BertEncoderLayer: "fused_text", DyConv: "dyconv"}


@MODELS.register_module()
class GLIP(GroundingMixin, MMDetGLIP):
    """MMDetection's GLIP with slots for tuners; every parameter keeps its name.

    Args:
        tuner: Config of one tuner; short for ``tuners=dict(default=...)``.
        tuners: Configs of several tuners by slot name.
        trainable: Regular expressions over the host's parameter names that train, too. None: all of
            them without a tuner, none with one.
        kwargs: As MMDetection's :class:`mmdet.models.GLIP`.
    """

    def __init__(
        self,
        *args,
        tuner: Mapping | None = None,
        tuners: Mapping[str, Mapping] | None = None,
        trainable: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._attach(tuner, tuners, trainable)

    def seams(self) -> SeamMap:
        """Seams by kind. Those of the encoders are there where the encoders have them: use
        ``mmsdpt.SwinTransformer`` and ``mmsdpt.BertModel``; ``fusion`` where the head fuses early.
        """
        return self._seam_map(_HINTS, fusion=self.bbox_head.head.fusion_seams())

    def parameter_group(self, name: str) -> str:
        part, _, rest = name.partition(".")
        if part != "bbox_head":
            return dict(backbone="image", neck="neck", language_model="text").get(part, part)
        layer = re.match(r"head\.dyhead_tower\.(\d+)\.", rest)
        if layer is None:
            return "outputs"
        return _HEAD_GROUPS[type(self.bbox_head.head.dyhead_tower[int(layer[1])])]

    def _head_losses(
        self, visual: Levels, text: Text, targets: Sequence[Tensor], state: ForwardState
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and ``loss_centerness``."""
        # The logits are as wide as the text features; so must be the targets.
        width = text["masks"].shape[1]
        for sample, target, class_map in zip(state.samples, targets, state.class_maps, strict=True):
            sample.gt_instances.positive_maps = target[:, :width]
            sample.phrase_map = class_map[:, :width]
        return self.bbox_head.loss(visual, text, state.samples)

    def _head_predictions(
        self, visual: Levels, text: Text, samples: SampleList, rescale: bool
    ) -> list[InstanceData]:
        return self.bbox_head.predict(visual, text, samples, rescale=rescale)

    def _head_outputs(self, visual: Levels, text: Text, samples: SampleList) -> tuple:
        """Box deltas, centerness and logits, see :class:`VLFusionModule`."""
        return self.bbox_head(visual, text)

    def token_logits(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Tensor:
        """Of every position of the pyramid."""
        return torch.cat(self._forward(batch_inputs, batch_data_samples)[0], dim=1)
