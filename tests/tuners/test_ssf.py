"""SSF: its formula after every layer of MMDetection's own encoder, its start, and merging."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.hosts.small_glip import IMAGE_SIZE, build_mini_glip, make_images
from tests.tuners.plain_swin import assert_same, build, maps, plain_encoder

LAYERS = (nn.Linear, nn.LayerNorm, nn.Conv2d)


def test_maps_and_gradients_equal_a_scale_and_a_shift_after_every_layer():
    """Padding of windows included: MMDetection pads in front of query, key and value."""
    model = build(type="mmsdpt.SSF")
    plain, tuner = plain_encoder(model), model.tuners.default
    layers = {name: x for name, x in plain.named_modules() if isinstance(x, LAYERS)}
    scales, shifts = iter(tuner.scales), iter(tuner.shifts)
    order = [seam.name for seam in tuner.chosen if seam.name.endswith(".weight")]
    assert sorted(order) == sorted(f"backbone.{name}.weight" for name in layers)
    for name in order:
        layer = layers[name.removeprefix("backbone.").removesuffix(".weight")]
        scale, shift = next(scales), next(shifts) if layer.bias is not None else 0.0

        def after(module, inputs, y, scale=scale, shift=shift):
            if isinstance(module, nn.Conv2d):
                return y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
            return y * scale + shift

        layer.register_forward_hook(after)
    assert next(shifts, None) is next(scales, None) is None
    assert_same(model, plain)


def test_it_starts_near_the_host_and_equals_it_without_noise():
    tuner = build_mini_glip(tuner=dict(type="mmsdpt.SSF")).tuners.default
    scales, shifts = torch.cat(list(tuner.scales)), torch.cat(list(tuner.shifts))
    assert abs(scales.mean() - 1) < 0.005 and 0.015 < scales.std() < 0.025
    assert abs(shifts.mean()) < 0.005 and 0.015 < shifts.std() < 0.025
    model = build_mini_glip(tuner=dict(type="mmsdpt.SSF", init_std=0)).eval()
    images = make_images(1, IMAGE_SIZE).float()
    with torch.no_grad():
        tuned = maps(model, images)
        with model.tuners_off():
            assert all(torch.equal(a, b) for a, b in zip(tuned, maps(model, images), strict=True))


def test_a_negative_deviation_is_refused():
    with pytest.raises(ValueError, match="init_std must be at least 0, got -1"):
        build_mini_glip(tuner=dict(type="mmsdpt.SSF", init_std=-1))
