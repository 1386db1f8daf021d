"""Whose names a detector's weights have, told by a few of them."""

from __future__ import annotations

from collections.abc import Iterable

GLIP = "microsoft/GLIP's layout"
IDEA = "IDEA-Research's layout of Grounding DINO"
HUGGING_FACE = "Hugging Face's layout of Grounding DINO"
MMDETECTION = "MMDetection's layout"
CONVERTER = "tools/model_converters/detector2mmsdpt.py"

# In this order: the first that fits.
_BEGINNINGS = (
    (GLIP, ("backbone.body.", "rpn.head.")),
    (HUGGING_FACE, ("model.backbone.conv_encoder.", "model.text_backbone.")),
    (IDEA, ("transformer.encoder.", "backbone.0.")),
    (MMDETECTION, ("backbone.patch_embed.projection.",)),
)


def layout_of(names: Iterable[str]) -> str | None:
    """The layout that names (without ``module.``) belong to; None if it is no known one."""
    names = list(names)
    for layout, beginnings in _BEGINNINGS:
        if all(any(name.startswith(start) for name in names) for start in beginnings):
            return layout
    return None


def conversion_advice(names: Iterable[str], origin: str) -> str:
    """One sentence for weights that must be converted first; empty for others."""
    layout = layout_of(name.removeprefix("module.") for name in names)
    if layout in (None, MMDETECTION):
        return ""
    return f"{origin} has {layout}: convert it first, {CONVERTER} {origin} OUT.safetensors"
