"""Frozen encoders in half precision: what autocast computes, with less memory."""

from __future__ import annotations

import copy

import pytest
import torch

from mmsdpt.hosts.half_encoders import as_outside
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.fingerprint import base_fingerprint

from . import small_clip, small_glip, small_grounding_dino
from .test_stages import TEXTS, assert_same, glip_batch, keep, mini_glip, step


def glip(folder=None, tuner=None):
    return mini_glip(tuner or dict(type="mmsdpt.SDPT", num_tokens=4)).eval(), glip_batch()


def grounding_dino(folder):
    model = small_grounding_dino.build_small_grounding_dino(
        folder, ours=True, tuner=dict(type="mmsdpt.SDPT", num_tokens=2)
    )
    small_grounding_dino.make_every_parameter_matter(model)
    images = small_glip.make_images(3, (64, 96), torch.float32)
    return model.eval(), (images, small_glip.make_samples(TEXTS, (64, 96)))


def clip(folder=None):
    model = small_clip.tuned_clip(dict(type="mmsdpt.CLIPAdapter"))
    batch = small_clip.make_images(4, dtype=torch.float32), small_clip.make_samples(4)
    return model.eval(), batch


def halved(model):
    model = copy.deepcopy(model)
    model.halve_encoders("bfloat16")
    return model


def in_bfloat16(model, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return step(model, *batch)


def encoder_bytes(model):
    return sum(
        parameter.numel() * parameter.element_size()
        for name, parameter in model.named_parameters()
        if any(stage.has(name) for stage in model.stages())
    )


HOSTS = pytest.mark.parametrize("make", (glip, grounding_dino, clip))


@HOSTS
def test_with_mixed_precision_losses_and_gradients_stay_bit_for_bit(make, text_folder):
    model, batch = make(text_folder)
    half = halved(model)
    assert encoder_bytes(half) < 0.75 * encoder_bytes(model)
    assert_same(in_bfloat16(half, batch), in_bfloat16(model, batch))


@HOSTS
def test_the_rest_of_the_model_computes_in_float32(make, text_folder):
    model, batch = make(text_folder)
    losses, grads = step(halved(model), *batch)
    wanted, wanted_grads = step(model, *batch)
    assert all(grad.dtype == torch.float32 for grad in grads.values())
    for name in wanted:
        torch.testing.assert_close(losses[name], wanted[name], rtol=2e-2, atol=1e-3)
    assert any(not torch.equal(grads[name], wanted_grads[name]) for name in grads)


@HOSTS
def test_the_base_is_still_recognised(make, text_folder, tmp_path):
    model, _ = make(text_folder)
    half = halved(model)
    assert (
        base_fingerprint(half) == base_fingerprint(copy.deepcopy(half)) == base_fingerprint(model)
    )
    save_tuner(half, tmp_path / "tuner.safetensors")
    load_tuner(model, tmp_path / "tuner.safetensors")
    load_tuner(half, tmp_path / "tuner.safetensors")


def test_a_second_call_changes_nothing():
    model, batch = glip()
    half = halved(model)
    assert base_fingerprint(halved(half)) == base_fingerprint(model)
    assert_same(step(halved(half), *batch), step(half, *batch))


def test_cached_features_are_those_of_the_half_encoders():
    model, batch = glip()
    half = halved(model)
    plain = step(half, *batch)
    cache = keep(half)
    for _ in range(2):
        assert_same(step(half, *batch), plain)
    assert cache.found["image"] == 3
    other = keep(model, cache.store)
    step(model, *batch)
    assert other.computed["image"] == 3 and not +other.found


@pytest.mark.parametrize(
    "tuner, full",
    [
        (dict(type="mmsdpt.LoRA", rank=2), {"image", "text"}),
        (dict(type="mmsdpt.VPT", num_tokens=2), {"image"}),
        (dict(type="mmsdpt.CoOp", num_tokens=2), {"text"}),
    ],
)
def test_an_encoder_in_which_a_tuner_acts_stays_in_full_precision(tuner, full):
    model, batch = glip(tuner=tuner)
    half = halved(model)
    for stage in half.stages():
        kinds = {p.dtype for name, p in half.named_parameters() if stage.has(name)}
        assert (torch.bfloat16 in kinds) is (stage.name not in full)
    step(half, *batch)


def test_an_encoder_that_trains_stays_in_full_precision():
    model = mini_glip(trainable=["^backbone.stages.1"], tuner=None)
    model.halve_encoders("bfloat16")
    image, text = model.stages()
    kinds = {name: p.dtype for name, p in model.named_parameters()}
    assert all(kind == torch.float32 for name, kind in kinds.items() if image.has(name))
    assert any(kind == torch.bfloat16 for name, kind in kinds.items() if text.has(name))


def test_a_host_without_tuners_is_halved_only_for_testing():
    model = mini_glip(tuner=None)
    model.halve_encoders("bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model.halve_encoders("bfloat16", testing=True)
    assert {p.dtype for p in model.backbone.parameters()} == {torch.float32, torch.bfloat16}


def test_another_dtype_is_refused():
    model, _ = glip()
    with pytest.raises(InputError, match="must be bfloat16 or float16, or None, got 'int8'"):
        model.halve_encoders("int8")


def test_outputs_keep_the_dtype_of_autocast_and_of_float64():
    x = torch.ones(2, dtype=torch.bfloat16)
    assert as_outside(x).dtype == torch.float32
    assert as_outside(x.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_outside(x) is x
