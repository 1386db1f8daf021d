"""Methods of the text side train on a GLIP without fusion layers, such as GLIP-T(A)."""

import pytest
import torch

from mmsdpt.hosts.grounding.swin import SwinTransformer  # noqa: F401  registers the backbone
from tests.hosts.small_glip import TEXTS, build_mini_glip, losses_of, make_images, make_samples


@pytest.mark.parametrize("method", ["Adapter", "CoOp", "GLIPPrompt"])
@pytest.mark.parametrize("early_fuse", [False, True])
def test_every_parameter_gets_a_gradient(method, early_fuse):
    model = build_mini_glip(
        backbone=dict(type="mmsdpt.SwinTransformer"),
        bbox_head=dict(early_fuse=early_fuse),
        tuner=dict(type=f"mmsdpt.{method}"),
    ).train()
    assert ("fusion" in model.seams()) == early_fuse
    losses = losses_of(model, make_images(3, dtype=torch.float32), make_samples(TEXTS))
    sum(
        sum(value) if isinstance(value, list) else value.sum() for value in losses.values()
    ).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("tuners."):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name
