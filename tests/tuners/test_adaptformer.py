"""AdaptFormer is a scaled bottleneck beside the feed-forward network."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsdpt.hosts.grounding.swin import SwinTransformer
from mmsdpt.hosts.seams import BranchSeam
from mmsdpt.tuners.adaptformer import AdaptFormer
from tests.shake import shake


def seams(*widths):
    return {"image_ffns": [BranchSeam(i, dict(width=w, stage=0)) for i, w in enumerate(widths)]}


def branch_of(seam, x):
    """What the only handler adds."""
    (handler,) = seam.active()
    return handler(seam, x)


def test_adaptformer_equals_its_plain_form_beside_swins_own_layers():
    """One block, no norm after it: x + MLP(LN(x)) + s Up(ReLU(Down(x)))."""
    encoder = SwinTransformer(
        embed_dims=8,
        depths=(1,),
        num_heads=(2,),
        window_size=3,
        strides=(4,),
        out_indices=(0,),
        drop_path_rate=0.0,
    )
    shake(encoder)
    encoder.norm0 = nn.Identity()
    tuner = AdaptFormer(seams=encoder.seams(), bottleneck=3, scale=0.7)
    shake(tuner)
    encoder.double().eval()
    tuner.double().eval()
    block, adapter = encoder.stages[0].blocks[0], tuner.adapters[0]
    inputs = []
    block.norm2.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    (found,) = encoder(torch.randn(2, 3, 20, 24).double())
    (x,) = inputs
    down = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    branch = 0.7 * (down @ adapter.up.weight.T + adapter.up.bias)
    expected = x + block.ffn.layers(block.norm2(x)) + branch
    torch.testing.assert_close(found.flatten(2).mT, expected, rtol=1e-9, atol=1e-9)
    assert branch.abs().max() > 0.1


def test_each_block_has_its_own_bottleneck_of_its_own_width():
    points = seams(4, 8)
    tuner = AdaptFormer(seams=points, bottleneck=3).eval()
    shake(tuner)
    for i, width in enumerate((4, 8)):
        x = torch.randn(2, 5, width)
        out = branch_of(points["image_ffns"][i], x)
        torch.testing.assert_close(out, 0.1 * tuner.adapters[i](x))


def test_dropout_acts_on_the_activations_of_the_bottleneck_in_training_alone():
    points = seams(6)
    tuner = AdaptFormer(seams=points, bottleneck=50, scale=1.0, dropout=0.4)
    shake(tuner)
    adapter, x = tuner.adapters[0], torch.randn(2, 5, 6)
    torch.manual_seed(7)
    found = branch_of(points["image_ffns"][0], x)
    torch.manual_seed(7)
    expected = adapter.up(F.dropout(F.relu(adapter.down(x)), 0.4))
    torch.testing.assert_close(found, expected)
    tuner.eval()
    found = branch_of(points["image_ffns"][0], x)
    torch.testing.assert_close(found, adapter.up(F.relu(adapter.down(x))))


def test_only_the_down_projections_weights_start_from_random_numbers():
    tuner = AdaptFormer(seams=seams(100), bottleneck=64)
    adapter = tuner.adapters[0]
    # Kaiming's bound with a = sqrt(5) is one over the root of the number of inputs.
    assert 0.99 / math.sqrt(100) < adapter.down.weight.abs().max() <= 1 / math.sqrt(100)
    for zero in (adapter.down.bias, adapter.up.weight, adapter.up.bias):
        assert not zero.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(bottleneck=0), "bottleneck must be a positive integer, got 0"),
        (dict(scale=0.0), "scale must not be 0"),
    ],
)
def test_settings_under_which_nothing_trains_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptFormer(seams=seams(4), **options)
