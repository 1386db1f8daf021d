"""Tokens that act for their own words only: X-MHA against its definition, both hosts, files."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmsdpt.analysis.attention import xmha_weights
from mmsdpt.engine.hooks import ClassNamesHook
from mmsdpt.hosts.grounding.seams import FusionTokens
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.errors import InputError
from tests.hosts.small_glip import build_mini_glip, make_images, make_samples, predictions_of
from tests.hosts.small_grounding_dino import make_every_parameter_matter
from tests.hosts.test_fusion import E, FixedTokens, H, L, V, inputs, make_pair
from tests.oracles.compare import assert_close, gradients
from tests.tuners.contract_grounding_dino import _build

OWN = ("red circle", "blue star")
MIXED, NONE = ("green ring", "blue star", "red moon"), ("green ring", "red moon")
SDPT = dict(type="mmsdpt.SDPT", num_tokens=3, own_words_only=True)
SIZE = (64, 96)


def plain_attention(
    layer: nn.Module, vision: Tensor, lang: Tensor, mask: Tensor, groups: list
) -> tuple[Tensor, Tensor]:
    """The definition, one image, head, position and word at a time. ``groups``: image tokens, text
    tokens, and the words (B, T) that they act for.
    """
    d = E // H
    deltas: tuple[list, list] = [], []
    for b in range(len(vision)):
        x = torch.cat([vision[b], *(image for image, _, _ in groups)])
        y = torch.cat([lang[b], *(text for _, text, _ in groups)])
        q, k = layer.v_proj(x) * d**-0.5, layer.l_proj(y)
        of_x, of_y = layer.values_v_proj(x), layer.values_l_proj(y)
        rows, columns = [], []
        for h in range(H):
            part = slice(h * d, (h + 1) * d)
            weights = (q[:, part] @ k[:, part].T).exp()
            real = torch.zeros(len(weights), len(lang[b]), dtype=weights.dtype)
            real[:] = (mask[b] != 0).to(weights.dtype)
            to_words = weights[:, : len(lang[b])] * real
            of_image, of_text = [to_words], [weights[: len(vision[b]), : len(lang[b])]]
            at_x, at_y = len(vision[b]), len(lang[b])
            for image, text, words in groups:
                own = words[b].to(weights.dtype)
                share = (to_words * own).sum(1, keepdim=True) / to_words.sum(1, keepdim=True)
                of_image.append(weights[:, at_y : at_y + len(text)] * share)
                of_text.append(weights[at_x : at_x + len(image), : len(lang[b])] * own)
                at_x, at_y = at_x + len(image), at_y + len(text)
            a = torch.cat(of_image, 1)[: len(vision[b])]
            rows.append(a / a.sum(1, keepdim=True) @ of_y[:, part])
            a = torch.cat(of_text, 0)
            columns.append((a / a.sum(0)).T @ of_x[:, part])
        deltas[0].append(layer.out_v_proj(torch.cat(rows, 1)))
        deltas[1].append(layer.out_l_proj(torch.cat(columns, 1)))
    return torch.stack(deltas[0]), torch.stack(deltas[1])


def restricted_layer():
    """X-MHA with two tuners, of which the second acts for a part of the words."""
    torch.manual_seed(0)
    _, layer = make_pair()
    vision, lang, mask = inputs(3)
    draw = lambda k, width: torch.randn(k, width, dtype=torch.float64, requires_grad=True)  # noqa: E731
    everywhere, own = FixedTokens(draw(2, V), draw(1, L)), FixedTokens(draw(3, V), draw(4, L), True)
    for tuner in (everywhere, own):
        layer.seam.connect(tuner, tuner)
    words = torch.zeros(3, 12, dtype=torch.bool)  # wider than the text, as a class map is
    words[0, 2:5] = words[1, 4] = True
    every = torch.ones_like(words)[:, : lang.shape[1]]
    offers = [
        (everywhere.offer.image, everywhere.offer.text, every),
        (own.offer.image, own.offer.text, words[:, : lang.shape[1]]),
    ]
    return layer, (vision, lang, mask), {own: words}, offers


def test_tokens_act_as_far_as_their_words_are_looked_at():
    layer, (vision, lang, mask), own_words, offers = restricted_layer()
    found = layer(vision, lang, None, mask, own_words)
    expected = plain_attention(layer, vision, lang, mask, offers)
    assert_close(found, expected)
    tensors = (vision, lang, *(tokens for image, text, _ in offers for tokens in (image, text)))
    assert_close(gradients(found, tensors), gradients(expected, tensors))


def test_the_weights_of_maps_are_those_of_the_layer():
    layer, (vision, lang, mask), own_words, _ = restricted_layer()
    delta_v, delta_l = layer(vision, lang, None, mask, own_words)
    weights = xmha_weights(layer, vision, lang, None, mask, own_words)
    tokens = layer.seam.tokens(own_words)

    def out(weights: Tensor, x: Tensor, more: Tensor, value: nn.Linear, last: nn.Linear) -> Tensor:
        x = torch.cat([x, more.expand(len(x), -1, -1)], dim=1)
        values = value(x).unflatten(-1, (H, E // H)).transpose(1, 2)
        return last((weights @ values).transpose(1, 2).flatten(2))

    to_text, to_image = weights.image_to_text, weights.text_to_image[:, :, : lang.shape[1]]
    found = out(to_text, lang, tokens.text, layer.values_l_proj, layer.out_v_proj)
    torch.testing.assert_close(found, delta_v)
    found = out(to_image, vision, tokens.image, layer.values_v_proj, layer.out_l_proj)
    torch.testing.assert_close(found, delta_l)


def glip(**changes) -> nn.Module:
    torch.manual_seed(0)
    return build_mini_glip(tuner=SDPT, **changes)


def grounding_dino() -> nn.Module:
    model = _build(tuner=SDPT)
    make_every_parameter_matter(model)
    return model


@pytest.fixture(params=["glip", "grounding_dino"])
def host(request):
    model = dict(glip=glip, grounding_dino=grounding_dino)[request.param]().eval()
    model.tuners["default"].trained_classes = OWN
    return model


def same(found: list, wanted: list) -> bool:
    return all(
        torch.equal(a.scores, b.scores) and torch.equal(a.bboxes, b.bboxes)
        for a, b in zip(found, wanted, strict=True)
    )


def predict(model: nn.Module, *texts) -> list:
    images = make_images(len(texts), SIZE, torch.float32)
    return predictions_of(model, images, make_samples(texts, SIZE))


def test_without_an_own_word_the_model_is_the_untuned_one_bit_for_bit(host):
    with host.tuners_off():
        untuned = predict(host, NONE, NONE), predict(host, MIXED, MIXED)
    assert same(predict(host, NONE, NONE), untuned[0])
    assert not same(predict(host, MIXED, MIXED), untuned[1])
    host.tuners["default"].trained_classes = ("Blue_Star",)  # as the model reads it
    assert not same(predict(host, MIXED, MIXED), untuned[1])


def test_a_class_list_without_own_words_is_said_once(host, caplog):
    with caplog.at_level(logging.INFO, MMLogger.get_current_instance().name):
        MMLogger.get_current_instance().addHandler(caplog.handler)
        predict(host, NONE, NONE)
        predict(host, NONE)
        MMLogger.get_current_instance().removeHandler(caplog.handler)
    said = [each for each in caplog.messages if "leaves them to the untuned model" in each]
    assert len(said) == 1 and "green ring" in said[0] and "blue star" in said[0]


def test_an_image_whose_caption_has_none_is_left_alone_beside_one_that_has(host):
    with host.tuners_off():
        _, untuned = predict(host, MIXED, NONE)
    _, found = predict(host, MIXED, NONE)
    torch.testing.assert_close(found.scores, untuned.scores, rtol=0, atol=1e-5)


def test_without_its_classes_it_refuses(host):
    host.tuners["default"].trained_classes = ()
    with pytest.raises(InputError, match="does not know them: load its tuner file"):
        predict(host, MIXED)


def test_a_recomputed_step_has_the_same_gradient():
    found = []
    for recomputed in (False, True):
        model = glip(
            bbox_head=dict(use_checkpoint=recomputed, fusion=dict(dropout=0.0, drop_path=0.0))
        ).double()
        model.tuners["default"].trained_classes = OWN
        losses = model(make_images(2, SIZE), make_samples((MIXED, OWN), SIZE), mode="loss")
        sum(sum(x) if isinstance(x, list) else x for x in losses.values()).backward()
        found.append(model.tuners["default"].tokens.weight.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_a_tuner_file_brings_the_words(tmp_path):
    model = glip()
    model.tuners["default"].trained_classes = OWN
    path = save_tuner(model, tmp_path / "own.safetensors")
    expected = predict(model.eval(), MIXED)
    plain = build_mini_glip(tuner=dict(SDPT, own_words_only=False)).eval()
    of_plain = save_tuner(plain, tmp_path / "plain.safetensors")
    load_tuner(plain, path)  # the file decides
    assert plain.tuners["default"].trained_classes == OWN
    assert same(predict(plain, MIXED), expected)
    load_tuner(model, of_plain)
    assert not model.tuners["default"].own_words_only


@pytest.mark.parametrize("frozen", [False, True])
def test_training_notes_the_classes_of_its_data(frozen):
    model = glip()
    tuner = model.tuners["default"]
    tuner.frozen, tuner.trained_classes = frozen, ("old",)
    dataset = SimpleNamespace(metainfo=dict(classes=OWN))
    runner = SimpleNamespace(
        model=model,
        train_dataloader=SimpleNamespace(dataset=dataset),
        val_loop=None,
        logger=MMLogger.get_current_instance(),
    )
    ClassNamesHook().before_train(runner)
    assert tuner.trained_classes == (("old",) if frozen else OWN)


def test_a_seam_gives_no_tokens_for_captions_without_own_words():
    _, layer = make_pair()
    tuner = FixedTokens(torch.randn(3, V), torch.randn(3, L), own_words_only=True)
    layer.seam.connect(tuner, tuner)
    assert layer.seam.tokens() == layer.seam.tokens({}) == FusionTokens()


@pytest.mark.parametrize("mode", ["loss", "tensor"])
def test_the_words_are_where_the_images_are(host, mode, monkeypatch):
    class Reached(Exception):
        pass

    states = []

    def encode(images, state):
        states.append(state)
        raise Reached

    monkeypatch.setattr(host, "encode", encode)
    with pytest.raises(Reached):
        host(torch.empty(1, 3, *SIZE, device="meta"), make_samples((MIXED,), SIZE), mode=mode)
    assert all(each.is_meta for each in states[0].class_maps)
