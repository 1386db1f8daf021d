"""What is frozen is computed once, and everything else is as if nothing was kept."""

from __future__ import annotations

import copy

import pytest
import torch

from mmsdpt.hosts.images import KnownImages, digest
from mmsdpt.hosts.stages import StageCache
from mmsdpt.utils.feature_store import FeatureStore

from . import small_clip, small_glip, small_grounding_dino
from .small_glip import build_mini_glip, losses_of

TEXTS = (("red circle", "raccoon"), ("raccoon",), ("red circle", "raccoon"))


def mini_glip(tuner=None, **changes):
    torch.manual_seed(0)
    changes = {**changes, **(dict(tuner=tuner) if tuner else {})}
    model = build_mini_glip(**changes).train()
    with torch.no_grad():
        for parameter in model.tuners.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model


def assert_kept_for_others(model, *batch):
    """Of three images under two captions the stages compute once, for all copies of a detector."""
    plain, store = step(model, *batch), FeatureStore()
    for known in (False, True):
        other = copy.deepcopy(model)  # as another process, which remembers no captions
        cache = keep(other, store)
        assert_same(step(other, *batch), plain)
        counts = dict(image=3, text=2), {}
        assert (+cache.found, +cache.computed) == (counts if known else counts[::-1])


def glip_batch(size=(64, 96)):
    images = small_glip.make_images(3, size, torch.float32)
    return images, small_glip.make_samples(TEXTS, size)


def step(model, images, samples):
    """Losses and gradients of a step."""
    torch.manual_seed(1)
    model.zero_grad()
    losses = losses_of(model, images, samples)
    sum(sum(loss) if isinstance(loss, list) else loss for loss in losses.values()).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses, grads


def assert_same(found, wanted):
    assert found[1].keys() == wanted[1].keys() and found[1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def keep(model, store=None, dtype=None):
    cache = StageCache(model, store or FeatureStore(), dtype)
    model.keep_features(cache)
    return cache


ON = ("SDPT", "LoRAXMHA", "BitFitXMHA", "LinearProbing", "GLIPPrompt")


@pytest.mark.parametrize("method", ON)
def test_methods_behind_the_encoders_of_glip(method):
    model = mini_glip(dict(type=f"mmsdpt.{method}"))
    model.eval()  # no dropout in the head
    batch = glip_batch()
    assert_kept_for_others(model, *batch)


@pytest.mark.parametrize(
    "tuner, image, text",
    [
        (dict(type="mmsdpt.VPT", num_tokens=2), "VPT trains there", ""),
        (dict(type="mmsdpt.CoOp", num_tokens=2), "", "CoOp trains there"),
        (dict(type="mmsdpt.LoRA", rank=2), "LoRA trains there", "LoRA trains there"),
        (dict(type="mmsdpt.PMF"), "PMF trains there", "PMF trains there"),
        (dict(type="mmsdpt.FullFineTuning"),) + ("FullFineTuning trains there",) * 2,
    ],
)
def test_methods_inside_the_encoders_of_glip(tuner, image, text):
    model = mini_glip(tuner)
    model.eval()
    batch = glip_batch()
    plain = step(model, *batch)
    cache = keep(model)
    why = {stage.name: cache.why_off(stage) for stage in model.stages()}
    assert why == dict(image=image, text=text)
    assert_same(step(model, *batch), plain)
    assert_same(step(model, *batch), plain)
    assert cache.found["image"] == (0 if image else 3)
    with model.tuners_off(), torch.no_grad():  # as the plain model
        model(batch[0], copy.deepcopy(batch[1]), mode="predict")
        assert cache.is_on(model.stages()[0])


def test_weights_of_the_host_that_train_are_noticed():
    model = mini_glip(trainable=["neck", "bbox_head"])
    cache = keep(model)
    assert cache.why_off(model.stages()[0]) == "weights of the host train there"
    assert cache.why_off(model.stages()[1]) == ""
    with torch.no_grad():
        model.backbone.train()
        assert cache.why_off(model.stages()[0]) == "a part is in training mode"


def test_a_frozen_tuner_belongs_to_what_is_kept():
    frozen = dict(type="mmsdpt.VPT", num_tokens=2, frozen=True)
    model = mini_glip(tuners=dict(old=frozen, new=dict(type="mmsdpt.SDPT", num_tokens=2)))
    batch = glip_batch()
    model.eval()
    plain = step(model, *batch)
    cache = keep(model)
    for _ in range(2):
        assert_same(step(model, *batch), plain)
    assert cache.computed["image"] == 3
    model.set_slot_enabled("old", False)
    other = step(model, *batch)
    assert cache.computed["image"] == 6
    assert other[0]["loss_cls"] != plain[0]["loss_cls"]
    model.set_slot_enabled("old", True)
    with torch.no_grad():
        next(model.tuners["old"].parameters()).add_(0.1)
    step(model, *batch)
    assert cache.computed["image"] == 9


def test_an_image_in_another_padding_is_another_one():
    model = mini_glip(dict(type="mmsdpt.SDPT", num_tokens=2)).eval()
    cache = keep(model)
    images, _ = glip_batch()
    padded = torch.nn.functional.pad(images, (0, 32))
    with torch.no_grad():
        alone = [level.clone() for level in model.extract_feat(images)]
        wide = model.extract_feat(padded)
        again = model.extract_feat(images)
        again[0].zero_()  # nobody's but the caller's
        assert all(map(torch.equal, model.extract_feat(images), alone))
        model.keep_features(None)
        assert all(map(torch.equal, model.extract_feat(padded), wide))
    assert cache.computed["image"] == 6


class Left:
    """A view whose pixels were left out."""

    def __init__(self, pixels):
        self.digests, self._pixels, self.loads = {}, pixels, 0

    def pixels(self, shape):
        self.loads += 1
        assert tuple(shape) == self._pixels.shape
        return self._pixels


def test_pixels_are_loaded_only_where_they_are_needed():
    model = mini_glip(dict(type="mmsdpt.SDPT", num_tokens=2)).eval()
    images, _ = glip_batch()
    with torch.no_grad():
        plain = model.extract_feat(images)
        cache = keep(model)
        model.extract_feat(images[:2])
        views = [Left(image) for image in images]
        views[0].digests[tuple(images.shape[1:])] = digest(images[0])
        known = KnownImages(torch.zeros_like(images), [(view, True) for view in views])
        assert all(map(torch.equal, model.extract_feat(known), plain))
        assert [view.loads for view in views] == [0, 1, 1]
        assert cache.computed["image"] == 3
        assert torch.equal(known.pixels(), images)  # for whoever asks
        assert [view.loads for view in views] == [1, 1, 1]
        model.keep_features(None)
        other = KnownImages(torch.zeros_like(images), [(view, True) for view in views])
        assert all(map(torch.equal, model.extract_feat(other), plain))


def test_rounded_features_come_back_in_the_precision_that_they_had():
    model = mini_glip(dict(type="mmsdpt.SDPT", num_tokens=2)).eval()
    images, samples = glip_batch()
    with torch.no_grad():
        plain = model.extract_feat(images)
        keep(model, dtype=torch.bfloat16)
        for _ in range(2):
            found = model.extract_feat(images)
            for a, b in zip(found, plain, strict=True):
                assert a.dtype == torch.float32
                assert torch.equal(a, b.bfloat16().float())
        with torch.autocast("cpu", torch.bfloat16):
            assert model.extract_feat(images)[0].dtype == torch.bfloat16
        model.predict(images, samples)


CLIP_ON = (
    dict(type="mmsdpt.CLIPCoOp"),
    dict(type="mmsdpt.CoCoOp"),
    dict(type="mmsdpt.KgCoOp"),
    dict(type="mmsdpt.TCP"),
    dict(type="mmsdpt.CLIPLinearProbe", num_classes=4),
    dict(type="mmsdpt.CLIPAdapter"),
    dict(type="mmsdpt.TipAdapter", num_classes=4, shots=2),
)


@pytest.mark.parametrize("tuner", CLIP_ON, ids=lambda tuner: tuner["type"][7:])
def test_methods_beside_the_image_tower_of_clip(tuner):
    torch.manual_seed(0)
    model = small_clip.tuned_clip(tuner)
    batch = small_clip.make_images(4, dtype=torch.float32), small_clip.make_samples(4)
    with torch.no_grad():
        for parameter in model.tuners.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    plain = step(model, *batch)
    store = FeatureStore()
    for known in (False, True):
        other = copy.deepcopy(model)  # as another process, which remembers no texts
        cache = keep(other, store)
        assert_same(step(other, *batch), plain)
        assert_same(step(other, *batch), plain)
        assert cache.computed["image"] == (0 if known else 4)
        assert not known or cache.computed["text"] == 0


def test_sentences_of_a_frozen_tuner_belong_to_what_is_kept():
    store, images = FeatureStore(), small_clip.make_images(2, dtype=torch.float32)
    for template in ("an indoor/outdoor {}", "a near/far {}"):
        torch.manual_seed(0)
        model = small_clip.tuned_clip(
            dict(type="mmsdpt.TCP", teacher_template=template, frozen=True)
        )
        other = copy.deepcopy(model)
        cache = keep(other, store)
        with torch.no_grad():
            torch.testing.assert_close(other(images), model(images), rtol=0, atol=0)
        assert cache.found["text"] == 0


@pytest.mark.parametrize("tuner", ["CLIPVPT", "CLIPMaPLe", "MMRL"])
def test_methods_inside_the_image_tower_of_clip(tuner):
    model = small_clip.tuned_clip(dict(type=f"mmsdpt.{tuner}"))
    batch = small_clip.make_images(4, dtype=torch.float32), small_clip.make_samples(4)
    plain = step(model, *batch)
    cache = keep(model)
    assert "trains there" in cache.why_off(model.stages()[0])
    for _ in range(2):
        assert_same(step(model, *batch), plain)
    # MMRL also compares with the untouched host, whose features are kept.
    assert cache.computed["image"] == cache.found["image"] == (4 if tuner == "MMRL" else 0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_rows_of_a_frozen_tuner_are_kept_with_the_features(dtype):
    """MMRL's second image feature is made of rows that the image tower puts out."""
    old = dict(type="mmsdpt.MMRL", frozen=True)
    other = dict(type="mmsdpt.CLIPVPT", num_tokens=2, frozen=True)
    slots = dict(other=other, old=old, new=dict(type="mmsdpt.CLIPAdapter"))
    model = small_clip.tuned_clip(None, tuners=slots)
    images, samples = small_clip.make_images(5, dtype=torch.float32), small_clip.make_samples(4)
    batches = [images[[0, 1, 2, 3]], images[[0, 1, 2, 3]], images[[3, 0, 4, 2]]]
    plain = [step(model, batch, samples) for batch in batches]
    store = FeatureStore()
    for known in (False, True):
        cache = keep(model, store, dtype)
        for batch, wanted in zip(batches, plain, strict=True):
            found = step(model, batch, samples)
            # An image that is computed beside fewer others has other last bits.
            near = dict(rtol=0.02, atol=0.02) if dtype else dict(rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found, wanted, **near)
        assert cache.computed["image"] == (0 if known else 5)


def test_methods_behind_the_encoders_of_grounding_dino(text_folder):
    model = small_grounding_dino.build_small_grounding_dino(
        text_folder, ours=True, tuner=dict(type="mmsdpt.SDPT", num_tokens=2)
    )
    small_grounding_dino.make_every_parameter_matter(model)
    images = small_glip.make_images(3, (64, 96), torch.float32)
    samples = small_glip.make_samples(TEXTS, (64, 96))
    assert_kept_for_others(model, images, samples)
