"""What detectors that read a caption share: captions, encoders, chunks of class names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.half_encoders import as_outside
from mmsdpt.hosts.images import Images, digest, pixels_of
from mmsdpt.hosts.seams import ForwardState, LossSeam, Seam, SeamMap, SeamUser
from mmsdpt.hosts.stages import Stage
from mmsdpt.utils.errors import InputError, listed
from mmsdpt.utils.feature_store import Entry
from mmsdpt.utils.memo import Memo

from .lockstep import Lockstep
from .prompts import PromptMixin, label_names

Levels = tuple[Tensor, ...]
"""A pyramid, (B, D, h, w) each."""
Text = dict[str, Tensor]
"""Language features as the head takes them."""

_IMAGE = "the backbone must be of type mmsdpt.SwinTransformer"
_TEXT = "the language_model must be of type mmsdpt.BertModel"
ENCODER_HINTS = {
    **dict.fromkeys(
        ("image_blocks", "image_ffns", "image_attention_maps", "image_ffn_maps"), _IMAGE
    ),
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
}
"""By kind of seam, what a detector needs to have it."""


class GroundingMixin(TunableMixin, PromptMixin, ABC):
    """A detector of MMDetection with ``backbone``, ``neck`` and ``language_model`` as a host.

    The image side (backbone, neck) and the text side run without gradients if nothing in them
    trains, and the text side's output is then cached per caption. A subclass defines what follows
    the encoders: :meth:`_head_losses`, :meth:`_head_predictions`, :meth:`_head_outputs`.
    """

    # Attributes of the detector.
    backbone: Any
    neck: Any
    with_neck: bool

    def _attach(
        self,
        tuner: Mapping | None,
        tuners: Mapping[str, Mapping] | None,
        trainable: Sequence[str] | None,
    ) -> None:
        """Called at the end of the constructor."""
        self._prompts = Memo(1024)
        self._readings: Memo[list[Hashable]] = Memo(1024)
        self._idle: set[tuple[str, tuple[str, ...]]] = set()
        self._losses = LossSeam(0, {})
        self._lockstep = Lockstep(
            seams_of(self.backbone),
            seams_of(self.language_model),
            getattr(self.backbone, "out_indices", ()),
        )
        self._attach_tuners(tuner, tuners, trainable)

    def _seam_map(self, hints: Mapping[str, str], **more: Sequence[Seam]) -> SeamMap:
        """The seams of the encoders, parameters and losses, and those in ``more``."""
        return SeamMap(
            type(self).__name__,
            {
                **seams_of(self.backbone),
                **seams_of(self.language_model),
                "encoder_pairs": self._lockstep.pairs,
                "encoder_outputs": self._lockstep.outputs,
                "parameters": self._parameter_seams,
                "losses": [self._losses],
                **more,
            },
            hints={**ENCODER_HINTS, **hints},
        )

    def stages(self) -> Sequence[Stage]:
        """``image``: up to the pyramid; ``text``: the language model's output for a caption."""
        between = [*self._lockstep.pairs, *self._lockstep.outputs]
        image = [seam for kind in seams_of(self.backbone).values() for seam in kind]
        return (
            Stage("image", ("backbone", "neck"), [*image, *between]),
            Stage("text", ("language_model",), [*self._seams_in_text(), *between]),
        )

    def _seams_in_text(self) -> list[Seam]:
        kinds = seams_of(self.language_model)
        return [seam for kind, seams in kinds.items() for seam in seams if kind != "text_features"]

    # ------------------------------------------------------------------ features

    def encode(self, images: Images, state: ForwardState) -> tuple[Levels, Text]:
        """Run both encoders, the text encoder first.

        Args:
            images: (B, 3, H, W).
            state: Its ``captions`` are encoded; ``text`` is filled in.

        Returns:
            The pyramid, and the text as from :meth:`encode_text`.
        """
        with self.tuned():
            if self._lockstep.active():
                maps, text = self._lockstep.encode(
                    self.backbone, self.language_model, pixels_of(images), state
                )
                return self._pyramid(maps), self._with_own_words(self._text_for_head(text), state)
            state.text = self._encode_captions(state.captions, state)
            levels = self.extract_feat(images, state)
            return levels, self._with_own_words(self._text_for_head(state.text), state)

    def extract_feat(self, batch_inputs: Images, state: ForwardState | None = None) -> Levels:
        """(B, 3, H, W) to the pyramid; without gradients if nothing in the image side trains."""
        state = state or ForwardState()
        with self.tuned():
            if self.features is None:
                return self._encode_images(pixels_of(batch_inputs), state)
            return self.features.images(
                self._stages["image"], batch_inputs, partial(self._encode_images, state=state)
            )

    def _encode_images(self, images: Tensor, state: ForwardState) -> Levels:
        seams = [seam for kind in seams_of(self.backbone).values() for seam in kind]
        trains = any(seam.trains() for seam in seams)
        trains = trains or _trains(self.backbone) or _trains(self.neck)
        with (
            nullcontext() if trains else torch.no_grad(),
            self.encoder_precision("image"),
        ):
            if not seams:
                levels = super().extract_feat(images)  # type: ignore[misc]
            else:
                levels = self._pyramid(self.backbone(images, state))
        return tuple(map(as_outside, levels))

    def _pyramid(self, maps: Levels) -> Levels:
        if not self.with_neck:
            return maps
        in_bfloat16 = maps[0].device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (in_bfloat16 and _trains(self.neck)):
            return self.neck(maps)
        # On a CPU, the weight gradient of a bfloat16 convolution has uninitialised values if maps
        # are as small as the pyramid's last ones (PyTorch 2.14).
        with torch.autocast("cpu", enabled=False):
            return self.neck(tuple(features.float() for features in maps))

    def encode_text(self, captions: Sequence[str], state: ForwardState | None = None) -> Text:
        """Captions to the features that the head takes: ``hidden`` and ``embedded`` (B, L, D) and
        ``masks``, L the tokens of the longest caption. Features that cannot change are computed
        once per caption.
        """
        with self.tuned():
            return self._text_for_head(self._encode_captions(captions, state))

    def _encode_captions(self, captions: Sequence[str], state: ForwardState | None) -> Text:
        inside = self._seams_in_text()
        trains = any(seam.trains() for seam in inside) or _trains(self.language_model)
        random = self.language_model.training or any(
            tuner.training for seam in inside for tuner in seam.tuners()
        )
        # With a gradient or dropout, the features are not the same the next time.
        constant = not (trains and torch.is_grad_enabled()) and not random
        constant = constant and self._text_is_kept(captions)
        keep = self._keep_caption if constant and self.features is not None else None
        with self.encoder_precision("text"):
            text = self.language_model(captions, cache=constant, state=state, keep=keep)
        return {name: as_outside(value) for name, value in text.items()}

    def _keep_caption(self, ids: Tensor, compute: Callable[[], Entry]) -> Entry:
        assert self.features is not None
        return self.features.one(self._stages["text"], digest(ids), compute, ids.device)

    def _text_is_kept(self, captions: Sequence[str]) -> bool:
        """Whether features may be computed one caption at a time, and cached."""
        return True

    def _text_for_head(self, text: Text) -> Text:
        """The language model's features as the head takes them."""
        return text

    def _with_own_words(self, text: Text, state: ForwardState) -> dict[str, Any]:
        """The text with ``own_words``: for each tuner that acts only for its own words, a map
        (B, max_tokens) that is true at these words. Tuners without words in these captions are left
        out.

        Raises:
            InputError: if such a tuner has no list of its classes.
        """
        found: dict[SeamUser, Tensor] = {}
        for slot, tuner in self.tuners.items():
            if not (tuner.enabled and tuner.own_words_only):
                continue
            if not tuner.trained_classes:
                raise InputError(
                    f"slot {slot!r} acts for the words of its own classes only and does not know"
                    " them: load its tuner file (.safetensors), which names them"
                )
            words = torch.stack(
                [
                    class_map[self.trained_on(slot, names)].bool().any(0)
                    for class_map, names in zip(state.class_maps, state.phrases, strict=True)
                ]
            )
            if words.any():
                found[tuner] = words
            elif not self.training and not self._chunk_size:
                self._say_idle(slot, state.phrases)
        return {**text, "own_words": found} if found else text

    def _say_idle(self, slot: str, phrases: Sequence[Sequence[str]]) -> None:
        """Log once for each class list that a tuner does not act on it."""
        names = tuple(dict.fromkeys(name for each in phrases for name in each))
        if (slot, names) not in self._idle:
            self._idle.add((slot, names))
            print_log(
                f"None of the classes {listed(names)} is one that slot {slot!r} was trained on"
                f" ({listed(self.tuners[slot].trained_classes)}): it leaves them to the untuned"
                " model",
                logger="current",
            )

    def trained_on(self, slot: str, names: Sequence[str]) -> list[bool]:
        """For each name, whether it reads as a class that a slot's tuner was trained on."""
        own = set(self._read_names(self.tuners[slot].trained_classes))
        return [each in own for each in self._read_names(names)]

    def _read_names(self, names: Sequence[str]) -> list[Hashable]:
        """The tokens that the model reads of each name."""
        key = ("read", *names)
        return self._readings.get(key, lambda: [self.read_class_name(n).tokens for n in names])

    # ------------------------------------------------------------------ training and testing

    @abstractmethod
    def _head_losses(
        self, visual: Levels, text: Text, targets: Sequence[Tensor], state: ForwardState
    ) -> dict[str, Tensor]:
        """Losses; ``targets`` has for each image a map (G, max_tokens), 1 at the tokens of each
        box's class.
        """

    @abstractmethod
    def _head_predictions(
        self, visual: Levels, text: Text, samples: SampleList, rescale: bool
    ) -> list[InstanceData]:
        """Boxes of each image; ``sample.token_positive_map`` has the token indices by class."""

    @abstractmethod
    def _head_outputs(self, visual: Levels, text: Text, samples: SampleList) -> tuple:
        """Raw outputs."""

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text`` (class names of the image's caption),
                ``gt_instances.labels`` that index into it, and optionally ``caption_prompt``,
                which MMDetection reads only in testing.

        Returns:
            The head's losses by name, and those of tuners.

        Raises:
            ValueError: if a sample has no ``text``, its caption is too long, or a label is not in
                it.
        """
        state = self._state_of(batch_inputs, batch_data_samples)
        targets = []
        for sample, caption, class_map in zip(
            batch_data_samples, state.captions, state.class_maps, strict=True
        ):
            labels = sample.gt_instances.labels
            if len(labels) and int(labels.max()) >= len(class_map):
                raise ValueError(
                    f"an image has a box of class {int(labels.max())}, but its caption has"
                    f" {len(class_map)} classes: {caption}"
                )
            targets.append(class_map[labels])
        with self.tuned():
            visual, text = self.encode(state.images, state)
            losses = self._head_losses(visual, text, targets, state)
            return {**losses, **self._losses.losses(state, self.encode)}

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """The head's raw outputs (``mode='tensor'``); the samples are needed for their ``text``."""
        state = self._state_of(batch_inputs, batch_data_samples)
        with self.tuned():
            return self._head_outputs(*self.encode(state.images, state), batch_data_samples)

    def _state_of(self, images: Tensor, samples: SampleList) -> ForwardState:
        """Images, captions and class maps of a batch, one caption for each image."""
        captions, class_maps = zip(*map(self._training_prompt, samples), strict=True)
        return ForwardState(
            self._known_images(images, samples),
            captions,
            [class_map.to(images.device) for class_map in class_maps],
            samples,
            [self._phrases(sample) for sample in samples],
        )

    @abstractmethod
    def token_logits(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Tensor:
        """(B, N, L): how well each of N positions or queries matches each token of the caption."""

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections of a batch, as MMDetection's ``predict``; class lists may be chunked at any
        batch size.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: With ``text``, and optionally ``custom_entities``,
                ``caption_prompt``, ``tokens_positive``. Unlike in MMDetection, these may differ
                between images.
            rescale: Whether boxes are given in the original image's pixels.

        Returns:
            The samples with ``pred_instances``: ``bboxes`` (n, 4) xyxy in pixels, ``scores``,
            ``labels``, and ``label_names`` if there are any boxes.

        Raises:
            ValueError: if a sample has no ``text``, and as in
                :meth:`get_tokens_positive_and_prompts`.
        """
        known = self._known_images(batch_inputs, batch_data_samples)
        prompts = [self._prediction_prompt(sample) for sample in batch_data_samples]
        results: list[list[InstanceData]] = [[] for _ in batch_data_samples]
        offsets = [0] * len(batch_data_samples)
        visual: Levels | None = None
        image_depends_on_text = any(
            tuner.enabled and tuner.image_depends_on_text for tuner in self.tuners.values()
        )
        with self.tuned():
            for c in range(max(len(chunks) for chunks in prompts)):
                # Images with a shorter class list have no chunk left.
                images = [i for i, chunks in enumerate(prompts) if c < len(chunks)]
                samples = [batch_data_samples[i] for i in images]
                chunk = [prompts[i][c] for i in images]
                every = len(images) == len(prompts)
                state = ForwardState(
                    known if every else known[images],
                    [caption for _, caption, _, _ in chunk],
                    [class_map.to(batch_inputs.device) for _, _, class_map, _ in chunk],
                    samples,
                    [names for _, _, _, names in chunk],
                )
                for sample, (token_map, _, _, _) in zip(samples, chunk, strict=True):
                    sample.token_positive_map = token_map
                if visual is None or image_depends_on_text:
                    visual, text = self.encode(state.images, state)
                    levels = visual
                else:
                    text = self._with_own_words(self.encode_text(state.captions, state), state)
                    levels = visual if every else tuple(level[images] for level in visual)
                predictions = self._head_predictions(levels, text, samples, rescale)
                for i, prediction, (_, _, class_map, names) in zip(
                    images, predictions, chunk, strict=True
                ):
                    if len(prediction):
                        prediction.label_names = label_names(prediction.labels, names)
                        prediction.labels = prediction.labels + offsets[i]
                    offsets[i] += len(class_map)
                    results[i].append(prediction)
        for sample, parts in zip(batch_data_samples, results, strict=True):
            found = [part for part in parts if len(part)] or parts[:1]
            sample.pred_instances = InstanceData.cat(found)
        return batch_data_samples


def seams_of(part: nn.Module | None) -> dict[str, list[Seam]]:
    """Seams of an encoder; a toolbox's own class has none."""
    return part.seams() if part is not None and hasattr(part, "seams") else {}


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(p.requires_grad for p in module.parameters())
