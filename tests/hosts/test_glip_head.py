"""GLIP's head: MMDetection's signature, values and gradients; trimmed captions; checkpointing; half
precision.
"""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from mmdet.models.dense_heads import ATSSVLFusionHead as MMDetHead
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmsdpt.hosts.glip import ATSSVLFusionHead
from mmsdpt.hosts.glip.head import VLFusionModule
from tests.hosts.mmdet_bert import skip_without_mmdetections_bert
from tests.hosts.small_glip import (
    MINI_SIZE,
    TEXTS,
    assert_near,
    build,
    build_mini_glip,
    glip_config,
    losses_of,
    make_every_parameter_matter,
    make_images,
    make_samples,
    mini_images,
    mini_samples,
    predictions_of,
)

# Each level is ceil(size / 2) of the one before, odd where it matters.
SIZES = [(9, 11), (5, 6), (3, 3), (2, 2), (1, 1)]
LENGTHS = (7, 12, 4)
SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)
LOWEST = -50000


def build_head(folder, ours: bool, early_fuse: bool) -> nn.Module:
    config = ConfigDict(glip_config(folder, ours, early_fuse=early_fuse))
    head = build(dict(**config.bbox_head, train_cfg=config.train_cfg, test_cfg=config.test_cfg))
    holder = nn.Module()
    holder.bbox_head = head
    make_every_parameter_matter(holder)
    return head.eval()


def build_heads(folder, early_fuse: bool = True) -> tuple[nn.Module, nn.Module]:
    if early_fuse:
        skip_without_mmdetections_bert()
    plain, ours = (build_head(folder, kind, early_fuse).double() for kind in (False, True))
    found = ours.load_state_dict(plain.state_dict())
    assert not found.missing_keys and not found.unexpected_keys
    return plain, ours


@pytest.fixture(scope="module")
def heads(text_folder) -> tuple[nn.Module, nn.Module]:
    return build_heads(text_folder)


def make_pyramid(batch: int, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(batch, 256, *size, generator=generator).to(dtype).requires_grad_()
        for size in SIZES
    ]


def make_text(batch: int, width: int = 16, dtype=torch.float64) -> dict[str, Tensor]:
    """Ragged captions of ``LENGTHS``; what is at padding depends on ``width``."""
    generator = torch.Generator().manual_seed(4)
    noise = torch.Generator().manual_seed(width)
    masks = torch.zeros(batch, width, dtype=torch.long)
    text = {
        name: torch.randn(batch, width, 768, generator=noise) for name in ("hidden", "embedded")
    }
    for i, length in enumerate(LENGTHS[:batch]):
        masks[i, :length] = 1
        for features in text.values():
            features[i, :length] = torch.randn(length, 768, generator=generator)
    return {**{k: v.to(dtype).requires_grad_() for k, v in text.items()}, "masks": masks}


def valid_parts(outputs, masks: Tensor) -> dict[str, Tensor]:
    """The head's outputs by name and level, without the logits of padding."""
    logits, boxes, centerness = outputs
    columns = masks.bool()[:, None, :]
    named = {f"logits {i}": x[columns.expand_as(x)] for i, x in enumerate(logits)}
    named |= {f"boxes {i}": x for i, x in enumerate(boxes)}
    return named | {f"centerness {i}": x for i, x in enumerate(centerness)}


def arguments(function) -> list[tuple]:
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_signature_is_mmdetections():
    for name in ("forward", "loss", "predict", "predict_by_feat", "loss_by_feat"):
        assert arguments(getattr(ATSSVLFusionHead, name)) == arguments(getattr(MMDetHead, name))
    assert {*arguments(MMDetHead)} <= {*arguments(ATSSVLFusionHead)}


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_and_gradients_equal_mmdetections(heads, oracle, batch):
    """Ragged captions and odd pyramid sizes; valid columns, double and single precision."""
    wanted: dict[str, Tensor] = {}
    for kind, relative in (("plain", 0), ("double", 1e-9), ("single", 1e-5)):
        head = heads[0] if kind == "plain" else heads[1]
        dtype = torch.float32 if kind == "single" else torch.float64
        head = copy.deepcopy(head).to(dtype)
        pyramid, text = make_pyramid(batch, dtype), make_text(batch, dtype=dtype)
        outputs = head(tuple(pyramid), dict(text))  # MMDetection writes into the dict
        assert isinstance(outputs, tuple) and [len(part) for part in outputs] == [5, 5, 5]
        for (h, w), logits, boxes, centerness in zip(SIZES, *outputs, strict=True):
            assert logits.shape == (batch, h * w, 16) and logits.dtype == dtype
            assert boxes.shape == (batch, 4, h, w) and centerness.shape == (batch, 1, h, w)
        values = valid_parts(outputs, text["masks"])
        loss = sum(
            (v * torch.linspace(-1, 2, v.numel(), dtype=dtype).view_as(v)).sum()
            for v in values.values()
        )
        sources = {f"level {i}": level for i, level in enumerate(pyramid)}
        sources |= {"hidden": text["hidden"], **dict(head.named_parameters())}
        gradients = torch.autograd.grad(loss, list(sources.values()), materialize_grads=True)
        values |= {f"d {k}": g for k, g in zip(sources, gradients, strict=True)}
        if kind == "plain":
            wanted = values
            continue
        assert values.keys() == wanted.keys()
        floor = 1e-3 * max(g.abs().max().item() for k, g in wanted.items() if k.startswith("d "))
        for name, value in wanted.items():
            if name == "d hidden":  # MMDetection's has rounding at padding
                mask = text["masks"].bool()
                assert values[name][~mask].abs().max() == 0
                values[name], value = values[name][mask], value[mask]
            if name.endswith("attention.self.key.bias"):  # zero, but for rounding
                assert values[name].abs().max() <= relative * floor * 1e3
                continue
            is_small = kind == "single" and name.startswith("d ")
            assert_near(values[name], value, relative, name, floor if is_small else 0.0)


def test_trimming_captions_is_exact_and_the_width_is_given_back(heads, oracle):
    plain, ours = heads
    pyramid = [level.detach() for level in make_pyramid(3)]
    with torch.no_grad():
        wide = make_text(3, 256)
        kept = dict(wide)
        wanted = valid_parts(plain(tuple(pyramid), dict(wide)), wide["masks"])
        padded = ours(tuple(pyramid), wide)
        short = make_text(3, max(LENGTHS))
        trimmed = ours(tuple(pyramid), short)
    assert all(wide[name] is kept[name] for name in kept), "the caller's dict may be a cache"
    trimmed_parts = valid_parts(trimmed, short["masks"])
    for name, value in valid_parts(padded, wide["masks"]).items():
        assert_near(value, wanted[name], 1e-9, name)
        assert torch.equal(value, trimmed_parts[name]), name
    for a, b in zip(padded[0], trimmed[0], strict=True):
        assert a.shape[-1] == 256 and b.shape[-1] == max(LENGTHS)
        assert (a[..., max(LENGTHS) :] == LOWEST).all()


def test_without_early_fusion_the_embedded_text_is_used_as_in_mmdetection(text_folder, oracle):
    plain, ours = build_heads(text_folder, early_fuse=False)
    pyramid, text = make_pyramid(2), make_text(2)
    with torch.no_grad():
        wanted, found = (
            valid_parts(h(tuple(pyramid), dict(text)), text["masks"]) for h in (plain, ours)
        )
    for name, value in wanted.items():
        assert_near(found[name], value, 1e-9, name)
    assert ours.head.fusion_seams() == []


def test_padded_captions_give_the_losses_and_predictions_of_trimmed_ones():
    trimmed, padded = (build_mini_glip(language_model=dict(pad_to_max=p)) for p in (False, True))
    images, samples = make_images(2, MINI_SIZE), make_samples(TEXTS[:2], MINI_SIZE)
    for model in (trimmed, padded):
        model.eval().double()
    losses = [losses_of(model, images, samples) for model in (trimmed, padded)]
    for name, value in losses[0].items():
        assert_near(losses[1][name], value, 1e-9, name)
    for a, b in zip(*(predictions_of(m, images, samples) for m in (trimmed, padded)), strict=True):
        assert len(a) > 5
        assert_near(b.scores, a.scores, 1e-9)
        assert_near(b.bboxes, a.bboxes, 1e-9)


@pytest.mark.parametrize("num_levels", [3, 4])
def test_any_number_of_levels(text_folder, num_levels):
    head = VLFusionModule(
        32, 32, early_fuse=True, num_dyhead_blocks=1, num_levels=num_levels,
        lang_model_name=str(text_folder), fusion=dict(embed_dim=64, num_heads=4),
    )  # fmt: skip
    sizes = SIZES[:num_levels]
    outputs = head([torch.randn(2, 32, *size) for size in sizes], make_text(2, dtype=torch.float32))
    assert [tuple(x.shape[-2:]) for x in outputs[0]] == sizes


def test_more_than_one_anchor_per_position_is_an_error(text_folder):
    with pytest.raises(ValueError, match="one anchor per position, got 3"):
        VLFusionModule(32, 32, num_base_priors=3, lang_model_name=str(text_folder))


# ---------------------------------------------------------------------- on a mini GLIP


def token_gradients(model: nn.Module) -> dict[str, Tensor]:
    losses = losses_of(model, mini_images(2), mini_samples(TEXTS[:2]))
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(sum(losses.values()), list(named.values()))
    return dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("trainable", [None, ["bbox_head"]], ids=["tokens", "tokens and head"])
def test_checkpointing_gives_the_same_gradients(trainable):
    """Also where everything upstream is frozen, which cuts the gradient in the reentrant form."""
    found = []
    for use_checkpoint in (False, True):
        head = dict(use_checkpoint=use_checkpoint)
        model = build_mini_glip(tuner=SDPT, trainable=trainable, bbox_head=head).train()
        torch.manual_seed(5)  # where the head trains, its dropout is recomputed as it was drawn
        found.append(token_gradients(model))
    assert found[0].keys() == found[1].keys()
    assert found[0]["tuners.default.tokens.weight"].abs().sum() > 0
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("trainable", [None, ["."]], ids=["tokens", "everything"])
def test_training_in_bfloat16_autocast_stays_finite_and_near_float32(trainable):
    model = build_mini_glip(tuner=SDPT, trainable=trainable).eval()
    images, samples = mini_images(2), mini_samples(TEXTS[:2])
    exact = losses_of(model, images, samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, images, samples)
        found = predictions_of(model, images, samples)
    for name, value in losses.items():
        assert abs(value.item() - exact[name].item()) < 0.1 * abs(exact[name].item()), name
    sum(losses.values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is None or p.grad.isfinite().all() for p in trained.values())
    tokens = trained["tuners.default.tokens.weight"].grad
    assert tokens.dtype == torch.float32 and (tokens.abs().sum(-1) > 0).all()
    assert all(len(f) and f.scores.isfinite().all() for f in found)
