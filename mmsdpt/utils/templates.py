"""Sentences around class names."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InputError


def checked_templates(template: str | Sequence[str]) -> tuple[str, ...]:
    """One sentence or several, each with one ``{}`` for the class name and no other braces.

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
                f"the template {sentence!r} must be a text with one {{}}, where the class name"
                ' goes, and no other braces, as in "a photo of a {}."'
            )
    return sentences
