"""Parts that may be built from the config in an untrusted file.

MMEngine imports and calls any dotted path that a ``type`` names, imports the package that a
``_scope_`` names, and some settings reach ``eval``. So only :data:`_PARTS` and the package's own
parts are built, with plain values of limited size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmsdpt.registry import MODELS, TRANSFORMS
from mmsdpt.utils.errors import printable

MAX_TEXT = 1000
MAX_NUMBER = 10**6
# Parts of the toolboxes that a file may use: those of our configs and of Grounding DINO's.
# No part reads a file named in a setting (except the text encoder's folder) or runs a string.
_PARTS = frozenset(
    """
    DetDataPreprocessor MultiModalDataPreprocessor SwinTransformer VisionTransformer ResNet
    FPN FPN_DropBlock ChannelMapper BertModel CLIPProjection CLIPTransformer ATSSVLFusionHead
    GroundingDINOHead AnchorGenerator DeltaXYWHBBoxCoderForGLIP FocalLoss GIoULoss L1Loss
    CrossEntropyLoss ATSSAssigner HungarianAssigner BboxOverlaps2D_GLIP BinaryFocalLossCost
    BBoxL1Cost IoUCost nms LN BN GN ReLU GELU QuickGELU
    LoadImageFromFile FixScaleResize Resize ResizeEdge CenterCrop PackDetInputs PackInputs
    """.split()
)
_SCOPES = ("mmsdpt", "mmdet", "mmpretrain", "mmcv", "mmengine")
_FETCHES = ("pretrained", "from_pretrained", "backend_args", "file_client_args")


def config_problems(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    """Problems of an untrusted config, in sentences; its ``init_cfg`` are dropped."""
    if depth > 20:
        yield f"{where[:100]} is nested too deeply"
    elif isinstance(value, dict):
        value.pop("init_cfg", None)  # the base weights replace these values
        if "type" in value and not is_known_part(value["type"]):
            yield (
                f"{printable(where, 100)} has the type {printable(value['type'], 100)}, which"
                " mmsdpt does not build from a file"
            )
        for key, item in value.items():
            if (key in _FETCHES and item) or (key == "_scope_" and item not in (None, *_SCOPES)):
                yield f"{printable(where, 100)} has {key}={printable(item, 100)}"
            yield from config_problems(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from config_problems(item, f"{where}.{i}", depth + 1)
    elif isinstance(value, str):
        if len(value) > MAX_TEXT or "://" in value.removeprefix("mmsdpt://"):
            yield f"{printable(where, 100)} is {printable(value, 100)}"
    elif isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
        yield f"{printable(where, 100)} is {value}, more than {MAX_NUMBER}"


def is_known_part(name: Any) -> bool:
    """Whether a ``type`` may be built from a file."""
    scope, _, part = name.rpartition(".") if isinstance(name, str) else ("os", "", "")
    if scope == "mmsdpt":
        return part in MODELS.module_dict or part in TRANSFORMS.module_dict
    return scope in ("", *_SCOPES) and part in _PARTS
