"""MMDetection's own image encoder with mini GLIP's weights, for plain forms of methods."""

from __future__ import annotations

import torch
from mmdet.models.backbones import SwinTransformer
from mmengine.config import Config
from torch import Tensor, nn

from tests.hosts.small_glip import IMAGE_SIZE, MINI_CONFIG, build_mini_glip, make_images
from tests.oracles.compare import assert_close, gradients
from tests.shake import shake


def build(scale: float = 0.3, **tuner) -> nn.Module:
    """Mini GLIP with a tuner away from where it starts, in float64, without dropout."""
    model = build_mini_glip(tuner=tuner).double().eval()
    model.tuners.default.prepare()
    torch.manual_seed(1)
    shake(model.tuners, scale)
    return model


def plain_encoder(model: nn.Module) -> nn.Module:
    """In eval mode; windows at this size have padding."""
    settings = Config.fromfile(str(MINI_CONFIG)).model.backbone.to_dict()
    settings.pop("type")
    plain = SwinTransformer(**settings).double()
    plain.load_state_dict(model.backbone.state_dict())
    plain.requires_grad_(False).eval()
    return plain


def maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """What the tuned encoder gives."""
    with model.tuned():
        return model.backbone(images)


def assert_same(model: nn.Module, plain: nn.Module) -> None:
    """Maps and gradients of all of the tuner's parameters."""
    images = make_images(2, IMAGE_SIZE)
    found, wanted = maps(model, images), plain(images)
    assert_close(found, wanted)
    parameters = list(model.tuners.parameters())
    before = gradients(wanted, parameters)
    assert all(gradient.abs().max() > 1e-6 for gradient in before)
    assert_close(gradients(found, parameters), before)
