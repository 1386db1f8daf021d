"""CoOp on CLIP: its logits are those of a plain loop over images and classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.errors import InputError
from tests.hosts.small_clip import NAMES, build_clip, make_images, make_samples, tuned_clip
from tests.oracles.clip import plain_image, plain_logits, plain_sentence, plain_text, plain_words

EXACT = 1e-9


def coop(**settings) -> nn.Module:
    """In float64, with a context of a size that matters."""
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp", **settings)).double()
    tuner = model.tuners["default"]
    tuner.prepare()
    torch.manual_seed(1)
    with torch.no_grad():
        tuner.ctx.normal_(std=0.5)
    return model


def sentence(model: nn.Module, name: str, ctx: Tensor, position: str) -> tuple[Tensor, int]:
    half = len(ctx) // 2
    parts = {
        "end": (ctx, name, "."),
        "middle": (ctx[:half], name, ctx[half:], "."),
        "front": (name, ctx, "."),
    }
    return plain_sentence(model, *parts[position])


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_logits_and_gradients_equal_a_plain_loop(position, per_class):
    settings = dict(per_class=True, num_classes=len(NAMES)) if per_class else {}
    model = coop(num_tokens=5, position=position, **settings)
    ctx, images = model.tuners["default"].ctx, make_images(2)
    contexts = ctx if per_class else [ctx] * len(NAMES)
    texts = [
        plain_text(model, *sentence(model, name, context, position))
        for name, context in zip(NAMES, contexts, strict=True)
    ]
    wanted = torch.stack(
        [plain_logits(model, plain_image(model, image), texts) for image in images]
    )
    found = model(images)
    assert (found - wanted).abs().max() < EXACT
    weights = torch.randn(found.shape, dtype=found.dtype)
    (a,) = torch.autograd.grad((found * weights).sum(), ctx)
    (b,) = torch.autograd.grad((wanted * weights).sum(), ctx)
    assert a.abs().max() > 1e-3 and (a - b).abs().max() < EXACT


def test_words_beyond_the_context_stay_as_they_are():
    model = coop(num_tokens=2, init_words="a photo of a")
    ctx, image = model.tuners["default"].ctx, make_images(1)
    texts = [plain_text(model, *plain_sentence(model, ctx, "of a", name, ".")) for name in NAMES]
    wanted = plain_logits(model, plain_image(model, image[0]), texts)
    assert (model(image)[0] - wanted).abs().max() < EXACT


def test_a_context_that_starts_as_the_templates_words_starts_as_zero_shot():
    """From the words' vectors in the weights that are loaded after it was made."""
    host, images = build_clip(), make_images(2).float()
    host.set_classes(NAMES, "a photo of a {}.")
    for position in ("end", "middle", "front"):
        tuner = dict(
            type="mmsdpt.CLIPCoOp", num_tokens=4, init_words="a photo of a", position=position
        )
        model = tuned_clip(tuner)
        drawn = model.tuners["default"].ctx.clone()
        state = {name: 1.1 * value for name, value in host.state_dict().items()}
        model.load_state_dict(state, strict=False)
        other = build_clip()
        other.load_state_dict(state)
        with torch.no_grad():
            found, wanted = model(images), other(images)
        if position == "end":
            assert torch.allclose(found, wanted, atol=1e-5)
        else:
            assert not torch.allclose(found, wanted, atol=1e-5)
        words = plain_words(model, "a photo of a")
        assert torch.equal(model.tuners["default"].ctx, words) and not torch.equal(drawn, words)


def test_a_context_longer_than_its_words_stays_random_behind_them():
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp", num_tokens=6, init_words="a photo of a"))
    tuner = model.tuners["default"]
    drawn = tuner.ctx.detach().clone()
    tuner.prepare()
    assert torch.equal(tuner.ctx[4:], drawn[4:])
    assert torch.equal(tuner.ctx[:4], plain_words(model, "a photo of a"))
    assert 0.01 < drawn[4:].std() < 0.03


def test_without_tokens_it_is_zero_shot_to_the_bit():
    host = build_clip()
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp", num_tokens=0, frozen=True))
    for template in ("a photo of a {}.", ["{}.", "a picture of a {}."]):
        for clip in (host, model):
            clip.set_classes(NAMES, template)
        assert torch.equal(model(make_images(2).float()), host(make_images(2).float()))
    assert model.tuners["default"].num_trainable() == 0
    assert not [*model.tuners.parameters()]


def test_contexts_of_each_class_do_not_fit_other_numbers_of_classes():
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp", per_class=True, num_classes=len(NAMES)))
    images = make_images(1).float()
    assert model(images).shape == (1, len(NAMES))
    model.set_classes(NAMES[:3])
    words = "a context for each of 4 classes, and the model has 3 classes: .* per_class=False"
    with pytest.raises(ValueError, match=words) as caught:
        model(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(per_class=True), "per_class=True and num_classes belong together"),
        (dict(num_classes=3), "per_class=True and num_classes belong together"),
        (dict(per_class=True, num_classes=0), "num_classes must be a positive integer"),
        (dict(num_tokens=-1), "num_tokens must be an integer of at least 0, got -1"),
        (dict(num_tokens=2.5), "num_tokens must be a"),
        (dict(num_tokens=74), "a context of 74 tokens leaves no room for a class name"),
        (dict(position="behind"), "position must be one of end, middle, front, got 'behind'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        tuned_clip(dict(type="mmsdpt.CLIPCoOp", **settings))


def test_training_on_two_classes_learns_them():
    """Class texts from a learned context alone tell two images apart."""
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp"), classes=NAMES[:2])
    images, samples = make_images(2).float(), make_samples(2, 2)
    optimizer = torch.optim.AdamW(model.tuners.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        loss = model(images, samples, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("saved_again", [False, True])
def test_contexts_of_classes_follow_the_names_in_another_order(tmp_path, saved_again):
    """Folders that sort otherwise, or a classnames.txt, give the same classes another order."""
    settings = dict(per_class=True, num_classes=len(NAMES))
    model = coop(num_tokens=3, **settings)
    model.set_classes(NAMES)
    model.train()(make_images(1), make_samples(1), mode="loss")
    path = save_tuner(model, tmp_path / "a.safetensors", extra=dict(classes=list(NAMES)))
    fresh = coop(num_tokens=3, **settings)
    order = list(range(len(NAMES)))[::-1]
    load_tuner(fresh, path)
    if saved_again:  # after training in the new order the rows still have the old one
        fresh.set_classes([NAMES[i] for i in order])
        fresh.train()(make_images(1), make_samples(1), mode="loss")
        facts = dict(classes=[NAMES[i] for i in order])
        load_tuner(fresh, save_tuner(fresh, tmp_path / "b.safetensors", extra=facts))
    fresh.eval().set_classes(NAMES)
    straight = fresh(make_images(2))
    assert (straight[:, 0] - straight[:, 1]).abs().max() > 1e-6
    fresh.set_classes([NAMES[i] for i in order])
    assert (fresh(make_images(2)) - straight[:, order]).abs().max() < EXACT
    fresh.set_classes(("moon", *NAMES[1:]))
    with pytest.raises(InputError, match=f"trained on the classes '{NAMES[0]}'.*nothing of 'moon'"):
        fresh(make_images(1))
