"""The small CLIP with towers of unlike depths, for the methods with prompts in both."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from tests.hosts import small_clip

TEXT_BLOCKS, IMAGE_BLOCKS = 4, 5


def clip_config() -> ConfigDict:
    config = small_clip.clip_config(
        depth=TEXT_BLOCKS, classes=small_clip.NAMES[:3], context_length=20
    )
    config.vision_backbone.arch.num_layers = IMAGE_BLOCKS
    return config


@functools.cache
def _host() -> nn.Module:
    return small_clip.build_clip(clip_config()).requires_grad_(False).double()


def build_clip(**tuner) -> nn.Module:
    """In float64, with a tuner of settings ``tuner``; prompts of a size that matters."""
    model = copy.deepcopy(_host())
    init_default_scope("mmpretrain")
    if tuner:
        torch.manual_seed(2)
        model._attach_tuners(tuner, None, None)
        owner = model.tuners["default"].double()
        owner.prepare()
        with torch.no_grad():
            for name in ("ctx", "text_deep", "image_shallow", "image_deep"):
                if getattr(owner, name, None) is not None:
                    getattr(owner, name).normal_(std=0.5)
    return model


def assert_same_training(model: nn.Module, found: Tensor, wanted: Tensor) -> None:
    """Logits (B, C), and the gradients of all parameters of the tuner, which are not zero."""
    assert (found - wanted).abs().max() < 1e-9
    parameters = dict(model.tuners["default"].named_parameters())
    gradients = [
        torch.autograd.grad(
            F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]),
            parameters.values(),
        )
        for logits in (found, wanted)
    ]
    for name, ours, theirs in zip(parameters, *gradients, strict=True):
        assert (ours - theirs).abs().max() < 1e-9, name
        assert ours.abs().max() > 1e-9, f"{name} does not train"
