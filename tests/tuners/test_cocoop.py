"""CoCoOp: its logits are those of a plain loop over images, with class texts of each one's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from tests.hosts.small_clip import NAMES, build_clip, make_images, make_samples, tuned_clip
from tests.oracles.clip import plain_image, plain_logits, plain_sentence, plain_text, plain_words

EXACT = 1e-9


def cocoop(**settings) -> nn.Module:
    """In float64, with a network and a context of a size that matters."""
    model = tuned_clip(dict(type="mmsdpt.CoCoOp", **settings)).double()
    tuner = model.tuners["default"]
    tuner.prepare()
    torch.manual_seed(1)
    with torch.no_grad():
        tuner.ctx.normal_(std=0.5)
        for parameter in tuner.meta_net.parameters():
            parameter.normal_(std=0.5)
    return model


def loop(model: nn.Module, images: torch.Tensor, *words: str) -> torch.Tensor:
    """(B, C)."""
    tuner, rows = model.tuners["default"], []
    first, second = tuner.meta_net.linear1, tuner.meta_net.linear2
    for image in images:
        feature = plain_image(model, image)
        hidden = (first.weight @ (feature / feature.norm()) + first.bias).clamp(min=0)
        shift = second.weight @ hidden + second.bias
        ctx = torch.stack([vector + shift for vector in tuner.ctx])
        sentences = [plain_sentence(model, ctx, *words, name, ".") for name in NAMES]
        texts = [plain_text(model, *sentence) for sentence in sentences]
        rows.append(plain_logits(model, feature, texts))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("settings", "words"),
    [(dict(), ()), (dict(init_words=None), ()), (dict(num_tokens=2), ("of a",))],
)
def test_logits_and_gradients_equal_a_plain_loop(settings, words):
    model = cocoop(**settings)
    images = make_images(3)
    found, wanted = model(images), loop(model, images, *words)
    assert (found - wanted).abs().max() < EXACT
    parameters = dict(model.tuners.named_parameters())
    weights = torch.randn(found.shape, dtype=found.dtype)
    a = torch.autograd.grad((found * weights).sum(), parameters.values())
    b = torch.autograd.grad((wanted * weights).sum(), parameters.values())
    for name, x, y in zip(parameters, a, b, strict=True):
        assert x.abs().max() > 1e-4, name
        assert (x - y).abs().max() < EXACT, name


def test_the_text_tower_takes_all_images_at_once():
    model, calls = cocoop(), []
    model.transformer.resblocks[1].mlp.register_forward_hook(
        lambda module, args, output: calls.append(len(output))
    )
    with torch.no_grad():
        model(make_images(1))
        for_one, calls[:] = len(calls), []
        model(make_images(3))
    assert len(calls) == for_one > 0


def test_names_of_what_is_learned():
    model = tuned_clip(dict(type="mmsdpt.CoCoOp"))
    found = {name: tuple(p.shape) for name, p in model.tuners["default"].named_parameters()}
    assert found == {
        "ctx": (4, 64),
        "meta_net.linear1.weight": (6, 96),
        "meta_net.linear1.bias": (6,),
        "meta_net.linear2.weight": (64, 6),
        "meta_net.linear2.bias": (64,),
    }


def test_the_context_starts_from_its_words():
    model = tuned_clip(dict(type="mmsdpt.CoCoOp"))
    model(make_images(1).float())
    assert torch.equal(model.tuners["default"].ctx, plain_words(model, "a photo of a"))


def test_without_tokens_it_is_zero_shot_to_the_bit():
    host, model = build_clip(), tuned_clip(dict(type="mmsdpt.CoCoOp", num_tokens=0, frozen=True))
    assert torch.equal(model(make_images(2).float()), host(make_images(2).float()))
    assert model.tuners["default"].num_trainable() == 0
    assert not [*model.tuners.parameters()]


def test_image_prompts_beside_it_learn_from_the_texts_too():
    tuners = dict(texts=dict(type="mmsdpt.CoCoOp"), images=dict(type="mmsdpt.CLIPVPT"))
    model = tuned_clip(None, tuners=tuners)
    images = make_images(2).float()
    state = ForwardState(images=images, class_names=NAMES)
    model.encode_image(images, state)
    model.encode_classes(state)[..., 0].sum().backward()
    assert model.tuners["images"].image_shallow.grad.abs().max() > 0


def test_texts_without_an_image_are_refused():
    model = tuned_clip(dict(type="mmsdpt.CoCoOp"))
    with pytest.raises(ValueError, match="CoCoOp makes class texts for each image, so the image"):
        model.encode_classes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(reduction=0), "reduction must be a positive integer"),
        (dict(reduction=97), "reduction must be at most 96, the width of the image feature"),
        (dict(num_tokens=-1), "num_tokens must be an integer of at least 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        tuned_clip(dict(type="mmsdpt.CoCoOp", **settings))


def test_training_learns_labels_that_only_the_image_tells():
    model = tuned_clip(dict(type="mmsdpt.CoCoOp"))
    images, samples = make_images(4).float(), make_samples(4)
    optimizer = torch.optim.AdamW(model.tuners.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = model(images, samples, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
