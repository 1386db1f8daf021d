"""What benchmark_step.py needs to know of Grounding DINO: its plain form, and a batch.

The plain form is MMDetection's: its Swin, X-MHA (all N x E queries, values and outputs), MMCV's
deformable attention, PyTorch's multi-head attention, and the text encoded at every step. The
decoder's forward pass stays ours, as MMDetection's cannot run on every installation.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import MultiheadAttention as MMCVMultiheadAttention
from mmcv.ops import MultiScaleDeformableAttention as MMCVDeformableAttention
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmsdpt.hosts.grounding_dino.attention import MultiheadAttention
from mmsdpt.hosts.grounding_dino.deform_attn import DeformableAttention
from mmsdpt.hosts.grounding_dino.detector import GroundingDINO
from projects.benchmark import glip_step
from projects.benchmark.glip_step import (
    CLASSES,
    USUAL_CLASSES,
    describe_text,
    plain_config,
    usual_size,
)
from projects.benchmark.plain_form import PlainAttention

__all__ = [
    "CLASSES",
    "USUAL_CLASSES",
    "describe_text",
    "make_data",
    "plain_config",
    "plain_form",
    "usual_size",
]


def plain_form(host: GroundingDINO, model: ConfigDict) -> GroundingDINO:
    """The plain form on the parts of ``host``, which must not be used after that.

    Args:
        host: Built from ``model``.
        model: Its config; MMDetection's own image encoder is built from it.

    Raises:
        InputError: if a tuner acts where the plain form has no seams.
    """
    glip_step.use_plain_backbone(host, model)
    host._text_is_kept = lambda captions: False  # type: ignore[method-assign]
    for layer in host.encoder.fusion_layers:
        layer.attn = PlainAttention(layer.attn)
    for module in host.modules():
        if isinstance(module, DeformableAttention):
            _replace_forward(module, _plain_deformable)
        elif isinstance(module, MultiheadAttention):
            _replace_forward(module, MMCVMultiheadAttention.forward)
    return host


def _replace_forward(module: nn.Module, forward: Any) -> None:
    module.forward = types.MethodType(forward, module)  # type: ignore[method-assign]


def _plain_deformable(self: nn.Module, *args: Any, spatial_shapes: Any, **kwargs: Any) -> Tensor:
    shapes = torch.as_tensor(spatial_shapes)
    return MMCVDeformableAttention.forward(self, *args, spatial_shapes=shapes, **kwargs)


def make_data(host: GroundingDINO, size: tuple[int, int], batch: int, classes: int) -> dict:
    """As for GLIP; both forms then draw the same denoising queries."""
    data = glip_step.make_data(host, size, batch, classes)
    torch.manual_seed(0)
    return data
