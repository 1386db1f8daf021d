"""GLIP as a tunable host."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.structures import SampleList
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.seams import SeamMap
from mmsdpt.registry import MODELS

_MAX_CACHED_PROMPTS = 1024


@MODELS.register_module()
class GLIP(TunableMixin, MMDetGLIP):
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
        self._prompts: OrderedDict[str | tuple[str, ...], tuple[str, Tensor]] = OrderedDict()
        self._attach_tuners(tuner, tuners, trainable)

    def seams(self) -> SeamMap:
        """Seams by kind: ``fusion`` where the head fuses early."""
        return SeamMap(type(self).__name__, dict(fusion=self.bbox_head.head.fusion_seams()))

    # ------------------------------------------------------------------ features

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the pyramid; without gradients where neither backbone nor neck trains."""
        with _grad_if(_trains(self.backbone) or _trains(self.neck)):
            return super().extract_feat(batch_inputs)

    def encode_text(self, captions: Sequence[str]) -> dict:
        """Captions to ``hidden`` and ``embedded`` (B, L, D) and ``masks`` (B, L), L the longest
        caption's tokens.
        """
        trains = _trains(self.language_model)
        with _grad_if(trains):
            return self.language_model(
                captions, cache=not trains and not self.language_model.training
            )

    # ------------------------------------------------------------------ prompts

    def class_prompt(self, classes: Sequence[str] | str) -> tuple[str, Tensor]:
        """Caption of a class list and the tokens of each class.

        Args:
            classes: Class names, or one string of names separated by ``". "``.

        Returns:
            The caption, and a (C, max_tokens) float map that is 1 where a token belongs to the
            class.

        Raises:
            ValueError: if the caption has more tokens than the text encoder takes.
        """
        key = classes if isinstance(classes, str) else tuple(classes)
        if key not in self._prompts:
            tokenized, caption, spans, entities = self.get_tokens_and_prompts(classes, True)
            self._check_length(tokenized, len(entities))
            _, positive_map = self.get_positive_map(tokenized, spans)
            self._prompts[key] = (caption, positive_map.bool().float())
            if len(self._prompts) > _MAX_CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return self._prompts[key]

    def _check_length(self, tokenized, num_classes: int) -> None:
        limit = self.language_model.max_tokens
        num_tokens = tokenized.input_ids.shape[1]
        if num_tokens > limit:
            raise ValueError(
                f"the caption of {num_classes} classes has {num_tokens} tokens, but the text"
                f" encoder takes {limit}: the last classes would be lost. Train with fewer classes"
                " per caption (mmsdpt.SampleCaptionClasses in the pipeline), or test with"
                " model.test_cfg.chunked_size=40"
            )

    def get_tokens_positive_and_prompts(
        self,
        original_caption,
        custom_entities=False,
        enhanced_text_prompt=None,
        tokens_positive=None,
    ):
        """As MMDetection's, but a caption that is too long is an error and not only a warning."""
        chunked = not self.training and self.test_cfg.get("chunked_size", -1) > 0
        if tokens_positive is None and not chunked:
            tokenized, _, _, entities = self.get_tokens_and_prompts(
                original_caption, custom_entities, enhanced_text_prompt
            )
            self._check_length(tokenized, len(entities))
        return super().get_tokens_positive_and_prompts(
            original_caption, custom_entities, enhanced_text_prompt, tokens_positive
        )

    # ------------------------------------------------------------------ training and testing

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text`` (class names of the image's caption) and
                ``gt_instances.labels`` that index into it.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_centerness``.
        """
        captions = []
        for sample in batch_data_samples:
            if "text" not in sample:
                raise ValueError(
                    "a training sample has no class names: set return_classes=True on the dataset"
                    " and add 'text' and 'custom_entities' to the meta_keys of PackDetInputs"
                )
            caption, class_map = self.class_prompt(sample.text)
            captions.append(caption)
            labels = sample.gt_instances.labels
            sample.gt_instances.positive_maps = class_map.to(batch_inputs.device)[labels]
        text = self.encode_text(captions)
        # The logits are as wide as the text features; so must be the targets.
        width = text["masks"].shape[1]
        for sample in batch_data_samples:
            sample.gt_instances.positive_maps = sample.gt_instances.positive_maps[:, :width]
        return self.bbox_head.loss(self.extract_feat(batch_inputs), text, batch_data_samples)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections of a batch, as MMDetection's ``GLIP.predict``; class lists may be chunked at
        any batch size.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text``, and optionally ``custom_entities``,
                ``caption_prompt``, ``tokens_positive``.
            rescale: Whether boxes are given in the original image's pixels.

        Returns:
            The samples with ``pred_instances``: ``bboxes`` (n, 4) xyxy in pixels, ``scores``,
            ``labels``, ``label_names``.
        """
        prompts = [self._prediction_prompt(sample) for sample in batch_data_samples]
        visual = self.extract_feat(batch_inputs)
        num_chunks = {len(chunks) for chunks in prompts}
        if len(num_chunks) > 1:
            raise ValueError(
                "images of one batch must have equally many caption chunks; test with batch size 1"
            )
        results: list[list] = [[] for _ in batch_data_samples]
        offsets = [0] * len(batch_data_samples)
        for chunk in zip(*prompts, strict=True):
            text = self.encode_text([caption for _, caption, _ in chunk])
            for sample, (token_map, _, _) in zip(batch_data_samples, chunk, strict=True):
                sample.token_positive_map = token_map
            predictions = self.bbox_head.predict(visual, text, batch_data_samples, rescale=rescale)
            for i, (prediction, (token_map, _, entities)) in enumerate(
                zip(predictions, chunk, strict=True)
            ):
                if len(prediction):
                    prediction.label_names = [
                        entities[label] if label < len(entities) else "unobject"
                        for label in prediction.labels.tolist()
                    ]
                    prediction.labels = prediction.labels + offsets[i]
                offsets[i] += len(token_map) if token_map is not None else 0
                results[i].append(prediction)
        for sample, parts in zip(batch_data_samples, results, strict=True):
            found = [part for part in parts if len(part)] or parts[:1]
            sample.pred_instances = found[0].cat(found) if len(found) > 1 else found[0]
        return batch_data_samples

    def _prediction_prompt(self, sample) -> list[tuple]:
        """Chunks of (token map, caption, entities) for one image."""
        token_map, caption, _, entities = self.get_tokens_positive_and_prompts(
            sample.text,
            sample.get("custom_entities", False),
            sample.get("caption_prompt", None),
            sample.get("tokens_positive", None),
        )
        if isinstance(caption, list):
            return list(zip(token_map, caption, entities, strict=True))
        return [(token_map, caption, entities)]


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(p.requires_grad for p in module.parameters())


def _grad_if(needed: bool):
    return nullcontext() if needed else torch.no_grad()
