"""From class names to captions and token maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmdet.models.detectors.glip import (
    clean_label_name,
    create_positive_map,
    create_positive_map_label_to_token,
)
from mmdet.structures import DetDataSample
from mmengine.logging import print_log
from torch import Tensor

from mmsdpt.utils.class_names import Reading, check_class_names
from mmsdpt.utils.errors import InputError, listed
from mmsdpt.utils.memo import Memo


class PromptMixin:
    """Captions and token maps for MMDetection's GLIP and Grounding DINO. Input that would silently
    lose classes is an error.
    """

    # Attributes of the detector.
    language_model: Any
    test_cfg: Any
    training: bool
    _special_tokens: str
    get_tokens_and_prompts: Callable[..., Any]
    _prompts: Memo[tuple[str, Tensor]]
    _checked_names: tuple[tuple[str, ...], bool] = (), True  # and whether strictly
    _finds_whole_captions = False  # whether tokens_positive=-1, any token of a caption, is allowed

    def read_class_name(self, name: str) -> Reading:
        """What the detector reads of a class name: its tokens, without text in parentheses."""
        tokenizer = self.language_model.tokenizer
        text = clean_label_name(name)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return Reading(
            tuple(ids), tokenizer.decode(ids), any(i != tokenizer.unk_token_id for i in ids)
        )

    def check_class_names(self, names: Sequence[str], source: str, strict: bool = True) -> None:
        """Refuse class names that the detector cannot use, see
        :func:`mmsdpt.utils.class_names.check_class_names`. The same list is not checked again, but
        strictly if it was not before.
        """
        known, strictly = self._checked_names
        if tuple(names) != known or (strict and not strictly):
            check_class_names(
                names,
                self.read_class_name,
                source=source,
                advice="rename them in words (in data with --rename of the converters, or in the"
                " annotation file)",
                strict=strict,
            )
            if dotted := [name for name in names if ". " in name]:
                print_log(
                    f"Class names of {source}: {listed(map(repr, dotted))} have '. ', which stands"
                    " between two classes in a caption; write them without the dot",
                    logger="current",
                    level=logging.WARNING,
                )
            self._checked_names = tuple(names), strict

    def get_positive_map(self, tokenized, tokens_positive: list) -> tuple[dict, Tensor]:
        """As in MMDetection, but as wide as the text encoder's longest caption instead of 256.

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

    def class_prompt(
        self, classes: Sequence[str] | str, enhanced: Mapping | None = None
    ) -> tuple[str, Tensor]:
        """Caption of a class list and the tokens of each class.

        Args:
            classes: Class names, or one string of names separated by ``". "``.
            enhanced: Prefix, suffix or another name by class name.

        Returns:
            The caption, and a (C, max_tokens) float map that is 1 where a token belongs to the
            class.

        Raises:
            InputError: if the caption has more tokens than the text encoder takes, or a class has
                no token.
        """
        names = classes if isinstance(classes, str) else tuple(classes)
        words = ((name, *sorted(each.items())) for name, each in (enhanced or {}).items())

        def make() -> tuple[str, Tensor]:
            _, caption, positive_map, _ = self._prompt(classes, True, enhanced)
            return caption, positive_map.bool().float()

        return self._prompts.get((names, *words), make)

    def _prompt(
        self, classes: Sequence[str] | str, custom_entities: bool, enhanced: Mapping | None = None
    ) -> tuple[dict, str, Tensor, list]:
        """Token indices by class, caption, positive map (C, max_tokens) and class names."""
        empty = [name for name in classes if not clean_label_name(name).strip()]
        if empty and not isinstance(classes, str):
            raise InputError(
                f"the class name {empty[0]!r} is empty to the model, which does not read what"
                " stands in parentheses: give it a name in plain words"
            )
        if enhanced is not None:  # MMDetection looks names up after it has cleaned them
            enhanced = {clean_label_name(name): words for name, words in enhanced.items()}
        tokenized, caption, spans, entities = self.get_tokens_and_prompts(
            classes, custom_entities, enhanced
        )
        self._check_length(tokenized, len(entities))
        token_map, positive_map = self.get_positive_map(tokenized, spans)
        if custom_entities or not isinstance(classes, str):
            for name, tokens in zip(entities, positive_map, strict=True):
                if not tokens.any():
                    raise InputError(
                        f"the class name {name!r} has no token in its caption, so the class could"
                        " neither be trained nor found: give it a name in plain words"
                    )
        return token_map, caption, positive_map, entities

    def _check_length(self, tokenized, num_classes: int) -> None:
        limit = self.language_model.max_tokens
        num_tokens = tokenized.input_ids.shape[1]
        if num_tokens > limit:
            if num_classes == 1:
                advice = "use a shorter text"
            elif self.training:
                advice = "train with fewer in each (mmsdpt.SampleCaptionClasses in the pipeline)"
            elif chunk := self._chunk_size:
                advice = f"lower chunked_size, which is {chunk}"
            else:
                size = min(40, num_classes // 2)
                advice = (
                    f"put fewer into a caption with chunked_size={size}, an argument of Detector's"
                    f" calls (--chunked-size {size} of tools/image_demo.py) and a setting of"
                    " model.test_cfg"
                )
            raise InputError(
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
        """As in MMDetection, but input that would silently lose classes is an error.

        Args:
            original_caption: Class names, or a caption.
            custom_entities: Whether a caption is class names separated by ``". "``; otherwise noun
                phrases are searched in it (with nltk).
            enhanced_text_prompt: Prefix, suffix or another name by class name.
            tokens_positive: Character spans of the classes in a caption, instead of a search.

        Returns:
            Token indices by class, caption, positive map and class names; with
            ``test_cfg.chunked_size`` a list of each, one item per chunk.

        Raises:
            InputError: if a caption has more tokens than the text encoder takes, a class has none,
                or ``tokens_positive`` does not fit the caption.
        """
        if tokens_positive == -1 and self._finds_whole_captions:
            return self._whole_caption(original_caption)
        if tokens_positive is not None:
            if tokens_positive == -1 or not isinstance(original_caption, str):
                raise InputError(
                    "tokens_positive must be character spans in a caption that is one string, got"
                    f" {tokens_positive} for {original_caption!r}; -1 (any token) is a feature of"
                    " Grounding DINO"
                )
            found = super().get_tokens_positive_and_prompts(  # type: ignore[misc]
                original_caption, custom_entities, enhanced_text_prompt, tokens_positive
            )
            tokenized = self.language_model.tokenizer([found[1]], return_tensors="pt")
            self._check_length(tokenized, len(tokens_positive))
            return found
        if not isinstance(original_caption, str):
            self.check_class_names(original_caption, "the caption", strict=False)
        if not self._chunk_size:
            return self._prompt(original_caption, custom_entities, enhanced_text_prompt)
        if isinstance(original_caption, str) and not custom_entities:
            raise InputError(
                "test_cfg.chunked_size needs class names: a list, or custom_entities=True, got"
                f" {original_caption!r}"
            )
        return self.get_tokens_positive_and_prompts_chunked(original_caption, enhanced_text_prompt)

    def _whole_caption(self, caption: Sequence[str] | str) -> tuple[None, str, Tensor, list]:
        """A caption whose tokens all belong to one class; it has no token indices by class."""
        if not isinstance(caption, str):
            raise InputError(
                f"tokens_positive=-1 needs a caption that is one string, got {caption!r}"
            )
        if not caption.endswith("."):
            caption += self._special_tokens
        tokenized = self.language_model.tokenizer([caption], return_tensors="pt")
        self._check_length(tokenized, 1)
        class_map = torch.zeros(1, self.language_model.max_tokens)
        class_map[:, : tokenized.input_ids.shape[1]] = 1
        return None, caption, class_map, [caption]

    def get_tokens_positive_and_prompts_chunked(self, original_caption, enhanced_text_prompts=None):
        """As in MMDetection; class names may be one string, too."""
        names = self._split_names(original_caption)
        size = self._chunk_size
        parts = [
            self._prompt(names[i : i + size], True, enhanced_text_prompts)
            for i in range(0, len(names), size)
        ]
        return tuple(list(column) for column in zip(*parts, strict=True))

    def _split_names(self, names: Sequence[str] | str) -> Sequence[str]:
        """Class names as a sequence; they may be given as one string."""
        if not isinstance(names, str):
            return names
        return [name for name in names.strip(". ").split(self._special_tokens) if name]

    def _phrases(self, sample: DetDataSample) -> Sequence[str]:
        """The names whose tokens the class map of :meth:`_training_prompt` marks."""
        return self._split_names(self._class_names(sample))

    @staticmethod
    def _class_names(sample: DetDataSample) -> Sequence[str] | str:
        """The caption's class names that the dataset gave to an image."""
        if not sample.get("text", None):
            raise InputError(
                "a sample has no class names: set return_classes=True on the dataset and add 'text'"
                " and 'custom_entities' to the meta_keys of PackDetInputs"
            )
        return sample.text

    def _training_prompt(self, sample: DetDataSample) -> tuple[str, Tensor]:
        """Caption and class map of one image, with its caption prompts as in testing."""
        return self.class_prompt(self._class_names(sample), sample.get("caption_prompt", None))

    def _prediction_prompt(
        self, sample: DetDataSample
    ) -> list[tuple[dict | None, str, Tensor, list]]:
        """Chunks of (token indices by class, caption, positive map, class names) for one image."""
        token_map, caption, positive_map, names = self.get_tokens_positive_and_prompts(
            self._class_names(sample),
            sample.get("custom_entities", False),
            sample.get("caption_prompt", None),
            sample.get("tokens_positive", None),
        )
        if isinstance(caption, list):
            return list(zip(token_map, caption, positive_map, names, strict=True))
        return [(token_map, caption, positive_map, names)]


def label_names(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Names of labels. A search for noun phrases may give labels that have no name."""
    found = [names[label] if label < len(names) else "unobject" for label in labels.tolist()]
    if "unobject" in found:
        print_log(
            "the search for noun phrases gave more places than names; give class names separated by"
            " '. ' and custom_entities=True",
            logger="current",
            level=logging.WARNING,
        )
    return found
