"""GLIP as a tunable host."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.models.detectors.glip import (
    create_positive_map,
    create_positive_map_label_to_token,
)
from mmdet.structures import DetDataSample, SampleList
from mmengine.logging import print_log
from mmengine.structures import InstanceData
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
        with _grad_if(_trains(self.language_model)):
            # What takes a gradient, or draws dropout, is not the same the next time.
            constant = not torch.is_grad_enabled() and not self.language_model.training
            return self.language_model(captions, cache=constant)

    # ------------------------------------------------------------------ prompts

    def get_positive_map(self, tokenized, tokens_positive: list) -> tuple[dict, Tensor]:
        """As MMDetection's, but as wide as the text encoder's longest caption instead of 256.

        Args:
            tokenized: The tokenizer's output for one caption.
            tokens_positive: Character spans ``[[start, end], ...]`` of each of C classes.

        Returns:
            Token indices by class, counted from 1, and the same as a map (C, max_tokens).
        """
        positive_map = create_positive_map(
            tokenized, tokens_positive, self.language_model.max_tokens
        )
        return create_positive_map_label_to_token(positive_map, plus=1), positive_map

    def class_prompt(self, classes: Sequence[str] | str) -> tuple[str, Tensor]:
        """Caption of a class list and the tokens of each class.

        Args:
            classes: Class names, or one string of names separated by ``". "``.

        Returns:
            The caption, and a (C, max_tokens) float map that is 1 where a token belongs to the
            class.

        Raises:
            ValueError: if the caption has more tokens than the text encoder takes, or a class none.
        """
        key = classes if isinstance(classes, str) else tuple(classes)
        if key not in self._prompts:
            _, caption, positive_map, _ = self._prompt(classes, custom_entities=True)
            self._prompts[key] = (caption, positive_map.bool().float())
            if len(self._prompts) > _MAX_CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return self._prompts[key]

    def _prompt(
        self, classes: Sequence[str] | str, custom_entities: bool, enhanced: Mapping | None = None
    ) -> tuple[dict, str, Tensor, list]:
        """Token indices by class, caption, positive map (C, max_tokens) and class names."""
        tokenized, caption, spans, entities = self.get_tokens_and_prompts(
            classes, custom_entities, enhanced
        )
        self._check_length(tokenized, len(entities))
        token_map, positive_map = self.get_positive_map(tokenized, spans)
        if custom_entities or not isinstance(classes, str):
            for name, tokens in zip(entities, positive_map, strict=True):
                if not tokens.any():
                    raise ValueError(
                        f"the class name {name!r} has no token in its caption, so the class could"
                        " neither be trained nor found: give it a name in plain words"
                    )
        return token_map, caption, positive_map, entities

    def _check_length(self, tokenized, num_classes: int) -> None:
        limit = self.language_model.max_tokens
        num_tokens = tokenized.input_ids.shape[1]
        if num_tokens > limit:
            chunk = self._chunk_size
            advice = (
                f"lower model.test_cfg.chunked_size, which is {chunk}"
                if chunk
                else "train with fewer classes per caption (mmsdpt.SampleCaptionClasses in the"
                " pipeline), or test with model.test_cfg.chunked_size=40"
            )
            raise ValueError(
                f"the caption of {num_classes} classes has {num_tokens} tokens, but the text"
                f" encoder takes {limit}: the last classes would be lost; {advice}"
            )

    @property
    def _chunk_size(self) -> int:
        """Classes per caption in testing; 0: all."""
        size = (self.test_cfg or {}).get("chunked_size", -1)
        return size if size > 0 and not self.training else 0

    def get_tokens_positive_and_prompts(
        self,
        original_caption,
        custom_entities=False,
        enhanced_text_prompt=None,
        tokens_positive=None,
    ):
        """As MMDetection's, but what would silently lose classes is an error.

        Args:
            original_caption: Class names, or a caption.
            custom_entities: Whether a caption is class names separated by ``". "``; otherwise its
                noun phrases are searched (with nltk).
            enhanced_text_prompt: Prefix, suffix or another name by class name.
            tokens_positive: Character spans of the classes in a caption, instead of a search.

        Returns:
            Token indices by class, caption, positive map and class names; with
            ``test_cfg.chunked_size`` a list of each, one item per chunk.

        Raises:
            ValueError: if a caption has more tokens than the text encoder takes, a class has none,
                or ``tokens_positive`` does not go with the caption.
        """
        if tokens_positive is not None:
            if tokens_positive == -1 or not isinstance(original_caption, str):
                raise ValueError(
                    "tokens_positive must be character spans in a caption that is one string, got"
                    f" {tokens_positive} for {original_caption!r}; -1 (any token) is a feature of"
                    " Grounding DINO"
                )
            found = super().get_tokens_positive_and_prompts(
                original_caption, custom_entities, enhanced_text_prompt, tokens_positive
            )
            tokenized = self.language_model.tokenizer([found[1]], return_tensors="pt")
            self._check_length(tokenized, len(tokens_positive))
            return found
        if not self._chunk_size:
            return self._prompt(original_caption, custom_entities, enhanced_text_prompt)
        if isinstance(original_caption, str) and not custom_entities:
            raise ValueError(
                "test_cfg.chunked_size needs class names: a list, or custom_entities=True, got"
                f" {original_caption!r}"
            )
        return self.get_tokens_positive_and_prompts_chunked(original_caption, enhanced_text_prompt)

    def get_tokens_positive_and_prompts_chunked(self, original_caption, enhanced_text_prompts=None):
        """As MMDetection's; class names may be one string, too."""
        names = original_caption
        if isinstance(names, str):
            names = [name for name in names.strip(". ").split(self._special_tokens) if name]
        size = self._chunk_size
        parts = [
            self._prompt(names[i : i + size], True, enhanced_text_prompts)
            for i in range(0, len(names), size)
        ]
        return tuple(list(column) for column in zip(*parts, strict=True))

    @staticmethod
    def _class_names(sample: DetDataSample) -> Sequence[str] | str:
        """The caption's class names that the dataset gave to an image."""
        if not sample.get("text", None):
            raise ValueError(
                "a sample has no class names: set return_classes=True on the dataset and add 'text'"
                " and 'custom_entities' to the meta_keys of PackDetInputs"
            )
        return sample.text

    # ------------------------------------------------------------------ training and testing

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text`` (class names of the image's caption) and
                ``gt_instances.labels`` that index into it.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_centerness``.

        Raises:
            ValueError: if a sample has no ``text``, its caption is too long, or a label is not in
                it.
        """
        captions, targets, class_maps = [], [], []
        for sample in batch_data_samples:
            caption, class_map = self.class_prompt(self._class_names(sample))
            labels = sample.gt_instances.labels
            if len(labels) and int(labels.max()) >= len(class_map):
                raise ValueError(
                    f"an image has a box of class {int(labels.max())}, but its caption has"
                    f" {len(class_map)} classes: {caption}"
                )
            captions.append(caption)
            class_maps.append(class_map.to(batch_inputs.device))
            targets.append(class_maps[-1][labels])
        text = self.encode_text(captions)
        # The logits are as wide as the text features; so must be the targets.
        width = text["masks"].shape[1]
        for sample, target, class_map in zip(batch_data_samples, targets, class_maps, strict=True):
            sample.gt_instances.positive_maps = target[:, :width]
            sample.phrase_map = class_map[:, :width]
        return self.bbox_head.loss(self.extract_feat(batch_inputs), text, batch_data_samples)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The head's raw outputs (``mode='tensor'``); the samples are needed for their ``text``."""
        captions = [self.class_prompt(self._class_names(s))[0] for s in batch_data_samples]
        return self.bbox_head(self.extract_feat(batch_inputs), self.encode_text(captions))

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
        visual = self.extract_feat(batch_inputs)
        results: list[list[InstanceData]] = [[] for _ in batch_data_samples]
        offsets = [0] * len(batch_data_samples)
        for c in range(max(len(chunks) for chunks in prompts)):
            # Images whose class list is shorter have no chunk any more.
            images = [i for i, chunks in enumerate(prompts) if c < len(chunks)]
            samples = [batch_data_samples[i] for i in images]
            chunk = [prompts[i][c] for i in images]
            text = self.encode_text([caption for _, caption, _ in chunk])
            for sample, (token_map, _, _) in zip(samples, chunk, strict=True):
                sample.token_positive_map = token_map
            levels = visual
            if len(images) < len(prompts):
                levels = tuple(level[images] for level in visual)
            predictions = self.bbox_head.predict(levels, text, samples, rescale=rescale)
            for i, prediction, (token_map, _, names) in zip(
                images, predictions, chunk, strict=True
            ):
                if len(prediction):
                    prediction.label_names = _label_names(prediction.labels, names)
                    prediction.labels = prediction.labels + offsets[i]
                offsets[i] += len(token_map)
                results[i].append(prediction)
        for sample, parts in zip(batch_data_samples, results, strict=True):
            found = [part for part in parts if len(part)] or parts[:1]
            sample.pred_instances = InstanceData.cat(found)
        return batch_data_samples

    def _prediction_prompt(self, sample: DetDataSample) -> list[tuple[dict, str, list]]:
        """Chunks of (token indices by class, caption, class names) for one image."""
        token_map, caption, _, names = self.get_tokens_positive_and_prompts(
            self._class_names(sample),
            sample.get("custom_entities", False),
            sample.get("caption_prompt", None),
            sample.get("tokens_positive", None),
        )
        if isinstance(caption, list):
            return list(zip(token_map, caption, names, strict=True))
        return [(token_map, caption, names)]


def _label_names(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Names of labels; a search for noun phrases may find more places than phrases."""
    found = [names[label] if label < len(names) else "unobject" for label in labels.tolist()]
    if "unobject" in found:
        print_log(
            "the search for noun phrases gave more places than names; give class names separated by"
            " '. ' and custom_entities=True",
            logger="current",
            level=logging.WARNING,
        )
    return found


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(p.requires_grad for p in module.parameters())


def _grad_if(needed: bool):
    return nullcontext() if needed else torch.no_grad()
