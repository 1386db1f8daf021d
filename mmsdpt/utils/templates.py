"""Sentences around class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .errors import InputError

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
"""Benchmarks with their own template, as used by zero-shot CLIP and VPT (CoOp,
``CUSTOM_TEMPLATES``); all others use :data:`DEFAULT_TEMPLATE`.
"""


def default_template(name: str) -> str:
    """The template of a dataset; unknown names get :data:`DEFAULT_TEMPLATE`."""
    return TEMPLATES.get(name, DEFAULT_TEMPLATE)


def checked_templates(template: str | Sequence[str]) -> tuple[str, ...]:
    """Check one or several sentences: each needs one ``{}`` for the class name, no other braces.

    Raises:
        InputError: with the sentence that does not fit.
    """
    several = not isinstance(template, str) and isinstance(template, Sequence)
    sentences = tuple(template) if several else (template,)
    if not sentences:
        raise InputError("the list of templates is empty: give at least one")
    for sentence in sentences:
        rest = sentence.replace("{}", "", 1) if isinstance(sentence, str) else "{"
        if rest == sentence or "{" in rest or "}" in rest:
            raise InputError(
                f"the template {sentence!r} must be a string with one {{}} for the class name"
                ' and no other braces, such as "a photo of a {}."'
            )
    return sentences
