"""Load a model from command-line arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsdpt.utils.cli import name_and_path
from mmsdpt.utils.errors import InputError

from .base import read_recipe
from .classifier import Classifier
from .detector import Detector
from .sharing import find_shared


def load_model(
    files: Sequence[str], config: str | Path | None = None, **options: Any
) -> Detector | Classifier:
    """Load a :class:`Detector` or :class:`Classifier`, depending on the files.

    Args:
        files: A tuner file; ``SLOT=FILE`` for each of several; or a folder or an id on the
            Hugging Face hub, as for :meth:`Detector.from_pretrained`.
        config: See :class:`~mmsdpt.apis.base.TunedModel`.
        options: ``base``, ``text_encoder``, ``device`` and ``batch_size``, as there.

    Raises:
        InputError: if files do not fit or are missing.
    """
    if len(files) == 1 and not config and not files[0].endswith(".safetensors"):
        recipe = find_shared(files[0])
    else:
        recipe = read_recipe(_by_slot(files), config)
    kind = Classifier if recipe.model.get("type") in Classifier.hosts else Detector
    return kind.of(recipe, **options)


def _by_slot(files: Sequence[str]) -> dict[str, str] | str | None:
    found: dict[str, str] = {}
    for each in files:
        slot, path = name_and_path(each)
        if slot is None and len(files) == 1:
            return path
        if slot is None or slot in found:
            raise InputError(f"for several files write SLOT=FILE, with each slot once; got {each}")
        found[slot] = path
    return found or None
