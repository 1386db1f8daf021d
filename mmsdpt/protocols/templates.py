"""Sentences of the zero-shot ensemble: OpenAI's for ImageNet, as MMPreTrain has them."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.models.multimodal.clip.utils import (
    OPENAI_IMAGENET_PROMPT,
    OPENAI_IMAGENET_PROMPT_SUB,
)

from mmsdpt.datasets.classification import default_template

_IMAGENET = "imagenet"


def ensemble_templates(name: str, template: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Sentences with ``{}`` for the class.

    ImageNet and its variants have OpenAI's 80. Any other data has its own sentence and OpenAI's
    seven that work best on their own ("itap of a {}." and so on), which suit all kinds of pictures.

    Args:
        name: Of the dataset, as ``mmsdpt.ClassificationData`` knows it.
        template: The dataset's own, where it is not the usual one.
    """
    if name.startswith(_IMAGENET):
        return tuple(sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT)
    own = default_template(name) if template is None else template
    own = (own,) if isinstance(own, str) else tuple(own)
    generic = tuple(sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT_SUB)
    return tuple(dict.fromkeys(own + generic))
