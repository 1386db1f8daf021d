"""The sentence that zero-shot CLIP and VPT put a class name into (CoOp, ``CUSTOM_TEMPLATES``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_TEMPLATE = "a photo of a {}."

TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "oxford_pets": "a photo of a {}, a type of pet.",
        "oxford_flowers": "a photo of a {}, a type of flower.",
        "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
        "dtd": "{} texture.",
        "eurosat": "a centered satellite photo of {}.",
        "food-101": "a photo of {}, a type of food.",
        "ucf101": "a photo of a person doing {}.",
    }
)
"""Benchmarks with a sentence of their own; all others have :data:`DEFAULT_TEMPLATE`."""


def default_template(name: str) -> str:
    """The template of a dataset, benchmark or not."""
    return TEMPLATES.get(name, DEFAULT_TEMPLATE)
