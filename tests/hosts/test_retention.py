"""Learning without forgetting: the losses against loops in float64, what they compare with, what
they cost, what is refused.
"""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmsdpt.hosts.glip.retention import Retention
from mmsdpt.hosts.stages import StageCache
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.feature_store import FeatureStore
from tests.hosts.small_glip import TEXTS, build_mini_glip, losses_of, make_images, make_samples

SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)
OLD = ["green moon", "white arrow", "dotted ring", "black bolt", "Red Circle"]
SIZE = (64, 96)


def build(tuners=None, **settings) -> nn.Module:
    retention = dict(phrases=OLD, phrases_per_caption=3, num_captions=4, **settings)
    slots = dict(tuners=tuners) if tuners else dict(tuner=SDPT)
    torch.manual_seed(0)
    return build_mini_glip(**slots, retention=retention).double().train()


def retained(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    losses = losses_of(model, make_images(2, SIZE), make_samples(TEXTS[:2], SIZE))
    return {name: x for name, x in losses.items() if "retention" in name}


def plain_losses(tuned, before, maps):
    """The formulas of the module, place by place."""
    divergence = boxes = total = 0.0
    for image, class_map in enumerate(maps):
        words = [t for t in range(class_map.shape[1]) if class_map[:, t].any()]
        for level in range(len(tuned[0])):
            z, z0 = tuned[0][level][image], before[0][level][image]
            height, width = tuned[1][level].shape[2:]
            for place in range(height * width):
                p = [1 / (1 + math.exp(-float(z[place, t]))) for t in words]
                p0 = [1 / (1 + math.exp(-float(z0[place, t]))) for t in words]
                divergence += sum(
                    a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
                    for a, b in zip(p0, p, strict=True)
                )
                y, x = divmod(place, width)
                deltas = tuned[1][level][image, :, y, x] - before[1][level][image, :, y, x]
                boxes += max(p0) * float(deltas.abs().mean())
                total += max(p0)
    return divergence / max(total, 1.0), boxes / max(total, 1.0)


def test_the_losses_are_those_of_loops_over_places():
    generator = torch.Generator().manual_seed(0)

    def outputs():
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        shapes = ((2, 3), (1, 1))
        return (
            [draw(2, h * w, 7) for h, w in shapes],
            [draw(2, 4, h, w) for h, w in shapes],
            [draw(2, 1, h, w) for h, w in shapes],
        )

    tuned, before = outputs(), outputs()
    maps = [torch.zeros(2, 9), torch.zeros(1, 9)]
    maps[0][0, 1] = maps[0][1, 3] = maps[0][1, 4] = maps[1][0, 2] = 1
    found = Retention(OLD, weight=0.5).losses(tuned, before, maps)
    divergence, boxes = plain_losses(tuned, before, maps)
    assert float(found["loss_retention"]) == pytest.approx(0.5 * divergence, abs=1e-12)
    assert float(found["loss_retention_box"]) == pytest.approx(0.5 * boxes, abs=1e-12)


def test_what_changes_nothing_costs_nothing():
    model = build(dict(default=dict(type="mmsdpt.LoRAXMHA", rank=2)))
    assert retained(model)["loss_retention"].item() == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():
        for parameter in model.tuners.parameters():
            parameter += 0.1
    changed = retained(model)
    assert all(x.item() > 1e-6 for x in changed.values())
    sum(changed.values()).backward()
    assert all(p.grad is not None for p in model.tuners.parameters())


def test_a_frozen_tuner_belongs_to_what_was_known():
    model = build(dict(old=dict(SDPT, frozen=True), new=SDPT))
    with_old = retained(model)["loss_retention"]
    model.set_slot_enabled("old", False)
    assert not torch.isclose(with_old, retained(model)["loss_retention"])
    model.set_slot_enabled("old", True)
    model.set_slot_enabled("new", False)
    assert retained(model)["loss_retention"].item() == pytest.approx(0.0, abs=1e-12)


def test_other_losses_are_the_same_as_without():
    losses = {}
    for kept in (True, False):
        model = build()
        if not kept:
            model.retention = None
        torch.manual_seed(3)
        found = losses_of(model, make_images(2, SIZE), make_samples(TEXTS[:2], SIZE))
        losses[kept] = found
    assert losses[True].keys() - losses[False].keys() == {"loss_retention", "loss_retention_box"}
    for name, value in losses[False].items():
        torch.testing.assert_close(losses[True][name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cached", [False, True])
def test_images_are_encoded_once(cached):
    model = build()
    expected = retained(model)
    if cached:
        model.keep_features(StageCache(model, FeatureStore(1.0)))
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    found = retained(model)
    assert len(calls) == 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)


def test_images_are_encoded_again_where_the_tuner_acts_on_them():
    model = build(dict(default=dict(type="mmsdpt.VPT", num_tokens=2)))
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    assert all(x.item() > 0 for x in retained(model).values())
    assert len(calls) == 3


def test_names_that_are_trained_are_not_held():
    retention = Retention(OLD, phrases_per_caption=5, num_captions=9)
    (one,) = retention.samples(make_samples(TEXTS[:1], SIZE))
    assert "red circle" in TEXTS[0]
    assert sorted(one.text) == sorted(OLD[:4])
    for own in (["Red_Circle", "green moon (full)"], "Red_Circle. green_moon. "):
        held = {phrase for caption in retention._captions(own) for phrase in caption}
        assert held == {"white arrow", "dotted ring", "black bolt"}
    again = Retention(OLD, phrases_per_caption=2)
    assert again._captions(("x",)) == Retention(OLD, phrases_per_caption=2)._captions("x. y ")


def test_classes_of_a_data_set():
    assert len(Retention("CocoDataset").phrases) == 80


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(phrases="NoDataset"), "is not a dataset of MMDetection"),
        (dict(phrases=[]), "must be a list of phrases"),
        (dict(phrases=OLD, weight=-1), "weight must be at least 0"),
        (dict(phrases=OLD, weight=math.nan), "weight must be at least 0"),
        (dict(phrases=OLD, num_captions=0), "num_captions must be a positive integer"),
        (dict(phrases=OLD, phrase=1), "phrase"),
    ],
)
def test_what_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Retention.from_config(settings)


def test_grounding_dino_refuses_it():
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(InputError, match="for GLIP"):
        MODELS.build(
            dict(type="mmsdpt.GroundingDINO", language_model={}, retention=dict(phrases=OLD))
        )


def test_nothing_left_to_keep_is_refused():
    with pytest.raises(InputError, match="nothing is left to keep"):
        Retention(["raccoon"]).samples(make_samples(TEXTS[1:2], SIZE))
