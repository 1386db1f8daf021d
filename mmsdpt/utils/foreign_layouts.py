"""Weights of other projects: find them in a folder, detect their layout, and rename them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from .errors import CheckpointError, listed

T = TypeVar("T")
Rules = tuple[tuple[str, str], ...]
"""Patterns and replacements, applied one after the other."""

GLIP = "microsoft/GLIP's layout"
IDEA = "IDEA-Research's layout of Grounding DINO"
HUGGING_FACE = "Hugging Face's layout of Grounding DINO"
MMDETECTION = "MMDetection's layout"
CONVERTER = "tools/model_converters/detector2mmsdpt.py"
CLIP_CONVERTER = "tools/model_converters/clip2mmsdpt.py"

_WEIGHT_FILES = (
    *("model.safetensors", "pytorch_model.bin"),
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
)
_OF_CLIP = ("visual.conv1.", "vision_model.embeddings.")
# The first match counts.
_BEGINNINGS = (
    (GLIP, ("backbone.body.", "rpn.head.")),
    (HUGGING_FACE, ("model.backbone.conv_encoder.", "model.text_backbone.")),
    (IDEA, ("transformer.encoder.", "backbone.0.")),
    (MMDETECTION, ("backbone.patch_embed.projection.",)),
)


def layout_of(names: Iterable[str]) -> str | None:
    """The layout that names (without ``module.``) belong to; None if it is unknown."""
    names = list(names)
    for layout, beginnings in _BEGINNINGS:
        if all(any(name.startswith(start) for name in names) for start in beginnings):
            return layout
    return None


def conversion_advice(names: Iterable[str], origin: str) -> str:
    """One sentence for weights that must be converted first; empty for others."""
    names = [name.removeprefix("module.") for name in names]
    if any(name.startswith(_OF_CLIP) for name in names):
        return (
            f"{origin} has a CLIP under the names of OpenAI, open_clip or Hugging Face: convert it"
            f" first, {CLIP_CONVERTER} {origin} OUT.safetensors"
        )
    layout = layout_of(names)
    if layout in (None, MMDETECTION):
        return ""
    return f"{origin} has {layout}: convert it first, {CONVERTER} {origin} OUT.safetensors"


def renamed(state: Mapping[str, T], rules: Rules) -> dict[str, T]:
    """The values under their new names."""
    found = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def joined(state: Mapping[str, Tensor], pattern: str, whole: str, origin: str) -> dict[str, Tensor]:
    """Queries, keys and values as one tensor each.

    Args:
        pattern: Matches the part of a name that marks one of the three, with the letter q, k or v
            as a group.
        whole: Replacement of that part in the name of the joint tensor.
    """
    found = {}
    for name, value in state.items():
        if (told := re.search(pattern, name)) is None:
            found[name] = value
            continue
        parts = [f"{name[: told.start(1)]}{x}{name[told.end(1) :]}" for x in "qkv"]
        if missing := [part for part in parts if part not in state]:
            raise CheckpointError(f"{origin} has no {listed(missing)}, which belongs to {name}")
        found[re.sub(pattern, whole, name)] = torch.cat([state[part] for part in parts])
    return found


def one_weight_file(folder: Path) -> Path:
    """The file with all weights in a Hugging Face folder, of transformers or open_clip.

    Raises:
        CheckpointError: if there is none, or the weights are split into several files.
    """
    for name in _WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise CheckpointError(
                f"the weights in {folder} are split into several files: save them as one, with"
                " transformers' save_pretrained(folder, max_shard_size='100GB')"
            )
    raise CheckpointError(f"{folder} has none of {', '.join(_WEIGHT_FILES)}")
