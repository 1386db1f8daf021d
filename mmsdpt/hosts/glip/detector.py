"""GLIP as a tunable host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmsdpt.hosts.grounding import GroundingMixin, Levels, Text
from mmsdpt.hosts.images import Images
from mmsdpt.hosts.seams import ForwardState, SeamMap
from mmsdpt.hosts.stages import why_not_constant
from mmsdpt.registry import MODELS

from .bert_layer import BertEncoderLayer
from .dyconv import DyConv
from .fusion import VLFuse
from .retention import Retention

_HINTS = {"fusion": "GLIP has fusion layers only with early_fuse=True"}
_HEAD_GROUPS = {VLFuse: "fusion", BertEncoderLayer: "fused_text", DyConv: "dyconv"}


@MODELS.register_module()
class GLIP(GroundingMixin, MMDetGLIP):
    """MMDetection's GLIP with slots for tuners; every parameter keeps its name.

    Args:
        tuner, tuners, trainable: See :class:`mmsdpt.hosts.base.TunableMixin`.
        retention: ``dict(phrases=..., weight=...)``: additional losses, so that the detector does
            not forget other phrases while tuners train; see
            :class:`mmsdpt.hosts.glip.retention.Retention`. None: no such losses.
    """

    _pyramid_of_all: Levels | None = None

    def __init__(
        self,
        *args,
        tuner: Mapping | None = None,
        tuners: Mapping[str, Mapping] | None = None,
        trainable: Sequence[str] | None = None,
        retention: Mapping[str, Any] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.retention = Retention.from_config(retention)
        self._attach(tuner, tuners, trainable)

    def seams(self) -> SeamMap:
        """Seams by kind. Those of the encoders need ``mmsdpt.SwinTransformer`` and
        ``mmsdpt.BertModel``; ``fusion`` needs a head with ``early_fuse=True``.
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

    def loss(self, batch_inputs: Images, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """As :meth:`GroundingMixin.loss`, with the losses of ``retention``."""
        trained = [slot for slot, tuner in self.tuners.items() if not tuner.frozen]
        if self.retention is None or not trained:
            return super().loss(batch_inputs, batch_data_samples)
        images = self._known_images(batch_inputs, batch_data_samples)
        samples = self.retention.samples(batch_data_samples)
        with self._one_pyramid(images):
            losses = super().loss(images, batch_data_samples)
            with torch.no_grad(), self.tuners_off(*trained):
                before = self._forward(images, samples)
            tuned = self._forward(images, samples)
        maps = [self._training_prompt(each)[1].to(images.device) for each in samples]
        return {**losses, **self.retention.losses(tuned, before, maps)}

    @contextmanager
    def _one_pyramid(self, images: Images) -> Iterator[None]:
        """Temporarily use one pyramid for all passes over these images, if nothing that trains acts
        on it. A feature cache would keep the pyramid anyway.
        """
        if self.features is None and not why_not_constant(self, self.stages()[0]):
            with torch.no_grad():
                self._pyramid_of_all = self.extract_feat(images)
        try:
            yield
        finally:
            self._pyramid_of_all = None

    def extract_feat(self, batch_inputs: Images, state: ForwardState | None = None) -> Levels:
        """As :meth:`GroundingMixin.extract_feat`."""
        if self._pyramid_of_all is not None:
            return tuple(level.clone() for level in self._pyramid_of_all)
        return super().extract_feat(batch_inputs, state)

    def _head_losses(
        self, visual: Levels, text: Text, targets: Sequence[Tensor], state: ForwardState
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and ``loss_centerness``."""
        # The targets must be as wide as the logits, which are as wide as the text features.
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
        """Token logits of every position of the pyramid."""
        return torch.cat(self._forward(batch_inputs, batch_data_samples)[0], dim=1)
