"""Mona: its formula in MMDetection's own blocks, its start, and where it acts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.tuners.mona import MonaAdapter
from tests.hosts.small_glip import IMAGE_SIZE, build_mini_glip, make_images
from tests.tuners.plain_swin import assert_same, build, maps, plain_encoder


def plain_adapter(own: MonaAdapter, x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Three convolutions after each other, as the paper has them."""
    mean, deviation = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    normed = (x - mean) / (deviation + 1e-5).sqrt() * own.norm.weight + own.norm.bias
    u = normed * own.gamma + x * own.gamma_x
    v = (u @ own.down.weight.T + own.down.bias).permute(0, 2, 1).reshape(len(x), -1, *hw)
    three = [
        F.conv2d(v, c.weight, c.bias, padding=c.weight.shape[-1] // 2, groups=v.shape[1])
        for c in own.convolutions
    ]
    v = sum(three) / 3 + v
    v = F.conv2d(v, own.mix.weight, own.mix.bias) + v
    v = F.gelu(v).flatten(2).permute(0, 2, 1)
    return x + v @ own.up.weight.T + own.up.bias


def plain_block(block: nn.Module, pair: tuple[MonaAdapter, ...], x: Tensor, hw: tuple) -> Tensor:
    x = plain_adapter(pair[0], x + block.attn(block.norm1(x), hw), hw)
    return plain_adapter(pair[1], block.ffn(block.norm2(x), identity=x), hw)


def test_maps_and_gradients_equal_the_plain_form_in_mmdetections_blocks():
    model = build(type="mmsdpt.Mona", bottleneck=3)
    plain, tuner = plain_encoder(model), model.tuners.default
    blocks = [block for stage in plain.stages for block in stage.blocks]
    pairs = zip(tuner.after_attention, tuner.after_ffn, strict=True)
    for block, pair in zip(blocks, pairs, strict=True):
        block.forward = partial(plain_block, block, pair)
    assert_same(model, plain)


def test_recomputed_activations_give_the_same_gradients():
    model = build(type="mmsdpt.Mona", bottleneck=3)
    found = []
    for recomputed in (False, True):
        for stage in model.backbone.stages:
            for block in stage.blocks:
                block.with_cp = recomputed
        total = sum(x.square().sum() for x in maps(model, make_images(1, IMAGE_SIZE)))
        found.append(torch.autograd.grad(total, list(model.tuners.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*found, strict=True))


def test_a_new_adapter_starts_as_the_paper_says_and_drops_in_training_alone():
    adapter = MonaAdapter(8, 4, dropout=0.5)
    assert adapter.gamma.unique().tolist() == [pytest.approx(1e-6)]
    assert adapter.gamma_x.unique().tolist() == [1.0]
    assert [c.kernel_size for c in adapter.convolutions] == [(3, 3), (5, 5), (7, 7)]
    x = torch.randn(2, 12, 8)
    trained, tested = adapter(x, (3, 4)), adapter.eval()(x, (3, 4))
    assert not torch.equal(trained, tested) and torch.equal(adapter(x, (3, 4)), tested)


def test_rows_of_other_tuners_are_no_part_of_the_map():
    """Kept prompts go through the blocks beside the map: each changes what it should."""
    alone = build(type="mmsdpt.Mona", bottleneck=3)
    images = make_images(1, IMAGE_SIZE)
    slots = dict(mona=dict(type="mmsdpt.Mona", bottleneck=3), upt=dict(type="mmsdpt.UPT"))
    both = build_mini_glip(tuners=slots).double().eval()
    both.load_state_dict(alone.state_dict(), strict=False)
    both.tuners.mona.load_state_dict(alone.tuners.default.state_dict())
    seen = []
    for seam in both.seams()["image_attention_maps"]:
        seam.connect(both.tuners.upt, lambda seam, x, hw: seen.append((x.shape[1], hw)) or x)
    with torch.no_grad(), both.tuned():
        both.backbone(images)
        assert seen and all(tokens == h * w for tokens, (h, w) in seen)
        both.set_slot_enabled("upt", False)
        found = both.backbone(images)
    for a, b in zip(found, maps(alone, images), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


def test_a_bottleneck_that_is_none_is_refused():
    with pytest.raises(ValueError, match="bottleneck must be a positive integer, got 0"):
        build(type="mmsdpt.Mona", bottleneck=0)
