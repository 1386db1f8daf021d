"""The image encoder equals MMDetection's Swin."""

import pytest
import torch
from mmdet.models.backbones import SwinTransformer as PlainSwin

from mmsdpt.hosts.grounding.swin import SwinTransformer
from mmsdpt.registry import MODELS
from tests.hosts.full_size import on_meta
from tests.hosts.small_swin import TINY, images, make, randomise
from tests.oracles.compare import assert_close, gradients

GLIP_T = dict(
    embed_dims=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7,
    out_indices=(1, 2, 3),
)  # fmt: skip
GLIP_L = dict(
    embed_dims=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=12,
    out_indices=(1, 2, 3),
)  # fmt: skip
MINI = dict(
    embed_dims=32, depths=[2, 2, 2], num_heads=[2, 4, 8], window_size=5, strides=(4, 2, 2),
    out_indices=(1, 2),
)  # fmt: skip
SMALL_T = {**GLIP_T, "embed_dims": 6}
SMALL_L = dict(  # 81 tokens per window: the CPU's fused attention, too
    embed_dims=8, depths=[2, 2], num_heads=[2, 4], window_size=9, strides=(4, 2), out_indices=(0, 1)
)  # fmt: skip


def make_pair(settings, **more):
    plain = randomise(PlainSwin(**settings, **more).double())
    ours = SwinTransformer(**settings, **more).double()
    ours.load_state_dict(plain.state_dict())
    plain.eval()
    return plain, ours.eval()


def assert_same(plain, ours, x):
    expected, found = plain(x), ours(x)
    assert isinstance(found, tuple)
    assert_close(found, expected)
    names = [name for name, p in plain.named_parameters() if p.requires_grad]
    assert names == [name for name, p in ours.named_parameters() if p.requires_grad]
    assert_close(
        gradients(found, [x, *(p for p in ours.parameters() if p.requires_grad)]),
        gradients(expected, [x, *(p for p in plain.parameters() if p.requires_grad)]),
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (SMALL_T, (224, 224)),  # nothing to pad in any stage
        (SMALL_T, (75, 130)),
        (MINI, (72, 100)),
        (MINI, (61, 43)),
        (SMALL_L, (90, 53)),
        (TINY, (9, 7)),  # one window
    ],
)
def test_outputs_and_all_gradients_equal_mmdetection(settings, size, batch):
    assert_same(*make_pair(settings), images(batch, *size))


def test_outputs_and_all_gradients_equal_mmdetection_at_the_widths_of_glip_t():
    assert_same(*make_pair(GLIP_T), images(1, 61, 43))


@pytest.mark.parametrize(
    ("more", "size"),
    [
        (dict(qkv_bias=False), (61, 43)),
        (dict(qk_scale=0.3), (61, 43)),
        (dict(patch_norm=False), (61, 43)),
        (dict(frozen_stages=1), (61, 43)),
        (dict(use_abs_pos_embed=True, pretrain_img_size=40), (40, 40)),
        (dict(out_indices=(0,)), (61, 43)),
        (dict(window_size=1), (20, 12)),
    ],
)
def test_every_setting_means_the_same_as_in_mmdetection(more, size):
    plain, ours = make_pair({**TINY, **more})
    plain.train()
    assert ours.train() is ours
    assert [m.training for m in plain.stages[0].blocks[0].norm1.modules()] == [
        m.training for m in ours.stages[0].blocks[0].norm1.modules()
    ]
    plain.eval(), ours.eval()
    assert_same(plain, ours, images(2, *size))


def test_drop_path_draws_the_numbers_that_mmdetection_draws():
    plain, ours = make_pair(TINY, drop_path_rate=0.6)
    plain.train(), ours.train()
    x = images(4, 40, 28)
    torch.manual_seed(1)
    expected = plain(x)
    torch.manual_seed(1)
    found = ours(x)
    assert_close(found, expected)
    assert (ours.eval()(x)[1] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("window", [3, 9])
@pytest.mark.parametrize("rate", ["attn_drop_rate", "drop_rate"])
def test_dropout_acts_in_training_only(rate, window):
    model = make({**TINY, "window_size": window}, **{rate: 0.3})
    x = images(1, 40, 28)
    assert torch.equal(model(x)[1], model(x)[1])
    model.train()
    assert not torch.equal(model(x)[1], model(x)[1])


def test_initial_values_are_drawn_as_by_mmdetection():
    models = []
    for cls in (PlainSwin, SwinTransformer):
        torch.manual_seed(0)
        models.append(cls(**TINY))
        models[-1].init_weights()
    for a, b in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("settings", [GLIP_T, GLIP_L, MINI])
def test_state_dict_has_the_keys_and_shapes_of_mmdetection(settings):
    with on_meta():
        ours, plain = SwinTransformer(**settings), PlainSwin(**settings)
    shapes = [
        {name: tuple(t.shape) for name, t in model.state_dict().items()} for model in (plain, ours)
    ]
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == list(shapes[1])
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in ours.named_parameters()]
    outputs = ours(torch.empty(2, 3, 100, 76, device="meta"))
    assert [o.shape[1] for o in outputs] == [
        settings["embed_dims"] * 2**i for i in settings["out_indices"]
    ]
    assert all(o.is_meta for o in outputs)


def test_configs_of_any_scope_build_it():
    model = MODELS.build(dict(type="mmsdpt.SwinTransformer", **TINY))
    assert type(model) is SwinTransformer
    assert type(MODELS.build(dict(type="mmdet.SwinTransformer", **TINY))) is PlainSwin
