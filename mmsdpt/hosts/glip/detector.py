"""GLIP as a tunable host."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.seams import ForwardState, LossSeam, Seam, SeamMap
from mmsdpt.registry import MODELS
from mmsdpt.utils.memo import Memo

from .bert_layer import BertEncoderLayer
from .dyconv import DyConv
from .fusion import VLFuse
from .lockstep import Lockstep
from .prompts import PromptMixin, label_names

_IMAGE = "the backbone must be of type mmsdpt.SwinTransformer"
_TEXT = "the language_model must be of type mmsdpt.BertModel"
_HINTS = {
    **dict.fromkeys(("image_blocks", "image_ffns"), _IMAGE),
    **dict.fromkeys(
        (
            "text_blocks",
            "text_attention_outputs",
            "text_ffn_outputs",
            "text_embeddings",
            "text_features",
        ),
        _TEXT,
    ),
    **dict.fromkeys(("encoder_pairs", "encoder_outputs"), f"{_IMAGE}, and {_TEXT}"),
    "fusion": "GLIP has fusion layers only with early_fuse=True",
}
_HEAD_GROUPS = {VLFuse: "fusion", BertEncoderLayer: "fused_text", DyConv: "dyconv"}


@MODELS.register_module()
class GLIP(TunableMixin, PromptMixin, MMDetGLIP):
    """MMDetection's GLIP with slots for tuners; every parameter keeps its name.

    Args:
        tuner: Config of one tuner; short for ``tuners=dict(default=...)``.
        tuners: Configs of several tuners by slot name.
        trainable: Regular expressions over the host's parameter names that train, too. None: all of
            them without a tuner, none with one.
        kwargs: As MMDetection's :class:`mmdet.models.GLIP`.

    The image side (backbone, neck) and the text side run without gradients where nothing in them
    trains, and the text side's output is then cached per caption.
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
        self._prompts = Memo(1024)
        self._losses = LossSeam(0, {})
        self._lockstep = Lockstep(
            _seams_of(self.backbone),
            _seams_of(self.language_model),
            getattr(self.backbone, "out_indices", ()),
        )
        self._attach_tuners(tuner, tuners, trainable)

    def seams(self) -> SeamMap:
        """Seams by kind. Those of the encoders are there where the encoders have them: use
        ``mmsdpt.SwinTransformer`` and ``mmsdpt.BertModel``; ``fusion`` where the head fuses early.
        """
        return SeamMap(
            type(self).__name__,
            {
                **_seams_of(self.backbone),
                **_seams_of(self.language_model),
                "encoder_pairs": self._lockstep.pairs,
                "encoder_outputs": self._lockstep.outputs,
                "fusion": self.bbox_head.head.fusion_seams(),
                "parameters": self._parameter_seams,
                "losses": [self._losses],
            },
            hints=_HINTS,
        )

    def parameter_group(self, name: str) -> str:
        part, _, rest = name.partition(".")
        if part != "bbox_head":
            return dict(backbone="image", neck="neck", language_model="text").get(part, part)
        layer = re.match(r"head\.dyhead_tower\.(\d+)\.", rest)
        if layer is None:
            return "outputs"
        return _HEAD_GROUPS[type(self.bbox_head.head.dyhead_tower[int(layer[1])])]

    # ------------------------------------------------------------------ features

    def encode(
        self, images: Tensor, state: ForwardState
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Both encoders, the text first.

        Args:
            images: (B, 3, H, W).
            state: Its ``captions`` are encoded; ``text`` is filled in.

        Returns:
            The pyramid, and ``hidden`` and ``embedded`` (B, L, D) and ``masks`` (B, L), L the
            longest caption's tokens.
        """
        with self.tuned():
            if self._lockstep.active():
                maps, text = self._lockstep.encode(
                    self.backbone, self.language_model, images, state
                )
                return self._pyramid(maps), text
            state.text = self.encode_text(state.captions, state)
            return self.extract_feat(images, state), state.text

    def extract_feat(
        self, batch_inputs: Tensor, state: ForwardState | None = None
    ) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the pyramid; without gradients where nothing in it trains."""
        with self.tuned():
            seams = [seam for kind in _seams_of(self.backbone).values() for seam in kind]
            trains = any(seam.trains() for seam in seams)
            with _grad_if(trains or _trains(self.backbone) or _trains(self.neck)):
                if not seams:
                    return super().extract_feat(batch_inputs)
                return self._pyramid(self.backbone(batch_inputs, state or ForwardState()))

    def _pyramid(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.with_neck:
            return maps
        in_bfloat16 = maps[0].device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (in_bfloat16 and _trains(self.neck)):
            return self.neck(maps)
        # On a CPU, the gradient that bfloat16 convolutions give their weights holds memory that was
        # never written where maps are as small as the pyramid's last ones (PyTorch 2.14).
        with torch.autocast("cpu", enabled=False):
            return self.neck(tuple(features.float() for features in maps))

    def encode_text(self, captions: Sequence[str], state: ForwardState | None = None) -> dict:
        """Captions to ``hidden`` and ``embedded`` (B, L, D) and ``masks`` (B, L), L the longest
        caption's tokens. What cannot change is computed once per caption.
        """
        with self.tuned():
            inside = [
                seam
                for kind, seams in _seams_of(self.language_model).items()
                for seam in seams
                if kind != "text_features"
            ]
            trains = any(seam.trains() for seam in inside) or _trains(self.language_model)
            random = self.language_model.training or any(
                tuner.training for seam in inside for tuner in seam.tuners()
            )
            # What takes a gradient, or draws dropout, is not the same the next time.
            constant = not (trains and torch.is_grad_enabled()) and not random
            return self.language_model(captions, cache=constant, state=state)

    # ------------------------------------------------------------------ training and testing

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text`` (class names of the image's caption),
                ``gt_instances.labels`` that index into it, and optionally ``caption_prompt``,
                which MMDetection reads in testing alone.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_centerness``.

        Raises:
            ValueError: if a sample has no ``text``, its caption is too long, or a label is not in
                it.
        """
        captions, targets, class_maps = [], [], []
        for sample in batch_data_samples:
            caption, class_map = self._training_prompt(sample)
            labels = sample.gt_instances.labels
            if len(labels) and int(labels.max()) >= len(class_map):
                raise ValueError(
                    f"an image has a box of class {int(labels.max())}, but its caption has"
                    f" {len(class_map)} classes: {caption}"
                )
            captions.append(caption)
            class_maps.append(class_map.to(batch_inputs.device))
            targets.append(class_maps[-1][labels])
        state = ForwardState(batch_inputs, captions, class_maps, batch_data_samples)
        with self.tuned():
            visual, text = self.encode(batch_inputs, state)
            losses = self._head_losses(visual, text, targets, state)
            return {**losses, **self._losses.losses(state, self.encode)}

    def _head_losses(
        self,
        visual: tuple[Tensor, ...],
        text: dict[str, Tensor],
        targets: Sequence[Tensor],
        state: ForwardState,
    ) -> dict:
        # The logits are as wide as the text features; so must be the targets.
        width = text["masks"].shape[1]
        for sample, target, class_map in zip(state.samples, targets, state.class_maps, strict=True):
            sample.gt_instances.positive_maps = target[:, :width]
            sample.phrase_map = class_map[:, :width]
        return self.bbox_head.loss(visual, text, state.samples)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The head's raw outputs (``mode='tensor'``); the samples are needed for their ``text``."""
        prompts = [self._training_prompt(sample) for sample in batch_data_samples]
        captions, class_maps = zip(*prompts, strict=True)
        state = ForwardState(batch_inputs, captions, class_maps, batch_data_samples)
        with self.tuned():
            return self.bbox_head(*self.encode(batch_inputs, state))

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections of a batch, as MMDetection's ``GLIP.predict``; class lists may be chunked at
        any batch size.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text``, and optionally ``custom_entities``,
                ``caption_prompt``, ``tokens_positive``; unlike in MMDetection each image's own.
            rescale: Whether boxes are given in the original image's pixels.

        Returns:
            The samples with ``pred_instances``: ``bboxes`` (n, 4) xyxy in pixels, ``scores``,
            ``labels``, and where there are any, ``label_names``.

        Raises:
            ValueError: if a sample has no ``text``, or see :meth:`get_tokens_positive_and_prompts`.
        """
        prompts = [self._prediction_prompt(sample) for sample in batch_data_samples]
        results: list[list[InstanceData]] = [[] for _ in batch_data_samples]
        offsets = [0] * len(batch_data_samples)
        visual: tuple[Tensor, ...] | None = None
        with self.tuned():
            for c in range(max(len(chunks) for chunks in prompts)):
                # Images whose class list is shorter have no chunk any more.
                images = [i for i, chunks in enumerate(prompts) if c < len(chunks)]
                samples = [batch_data_samples[i] for i in images]
                chunk = [prompts[i][c] for i in images]
                every = len(images) == len(prompts)
                state = ForwardState(
                    batch_inputs if every else batch_inputs[images],
                    [caption for _, caption, _, _ in chunk],
                    [class_map.to(batch_inputs.device) for _, _, class_map, _ in chunk],
                    samples,
                )
                for sample, (token_map, _, _, _) in zip(samples, chunk, strict=True):
                    sample.token_positive_map = token_map
                if visual is None or self._image_depends_on_text():
                    levels, text = self.encode(state.images, state)
                    visual = levels
                else:
                    text = self.encode_text(state.captions, state)
                    levels = visual if every else tuple(level[images] for level in visual)
                predictions = self.bbox_head.predict(levels, text, samples, rescale=rescale)
                for i, prediction, (token_map, _, _, names) in zip(
                    images, predictions, chunk, strict=True
                ):
                    if len(prediction):
                        prediction.label_names = label_names(prediction.labels, names)
                        prediction.labels = prediction.labels + offsets[i]
                    offsets[i] += len(token_map)
                    results[i].append(prediction)
        for sample, parts in zip(batch_data_samples, results, strict=True):
            found = [part for part in parts if len(part)] or parts[:1]
            sample.pred_instances = InstanceData.cat(found)
        return batch_data_samples

    def _image_depends_on_text(self) -> bool:
        return any(tuner.enabled and tuner.image_depends_on_text for tuner in self.tuners.values())


def _seams_of(part: nn.Module | None) -> dict[str, list[Seam]]:
    """Seams of an encoder; a toolbox's own class has none."""
    return part.seams() if part is not None and hasattr(part, "seams") else {}


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(p.requires_grad for p in module.parameters())


def _grad_if(needed: bool):
    return nullcontext() if needed else torch.no_grad()
