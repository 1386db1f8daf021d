"""CoOp's context stands after the caption: it changes every word and moves none."""

import pytest
import torch
from torch import nn

from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.tuners.coop import CoOp
from tests.oracles.bert import hugging_face
from tests.tuners.tiny_bert import (
    CAPTIONS,
    DEPTH,
    MAX_TOKENS,
    WIDTH,
    TextHost,
    assert_same_text,
    make_folder,
)

COOP = dict(type="mmsdpt.CoOp", num_tokens=3, init_std=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("bert"))


def plain_caption(host, caption, context):
    """One caption with the context's vectors after its words, through Hugging Face's own BERT."""
    ids, _ = host.tokens([caption])
    words = host.bert.embeddings.word_embeddings(ids)
    sequence = torch.cat([words, context[None]], dim=1)
    return hugging_face(host.bert)(inputs_embeds=sequence).last_hidden_state[0, : ids.shape[1]]


@pytest.mark.parametrize("tuners", [dict(one=COOP), dict(one=COOP, two=dict(COOP, num_tokens=2))])
def test_coop_is_bert_on_the_caption_and_the_contexts_behind_it(folder, tuners):
    host = TextHost(folder, tuners=tuners)
    found = host(CAPTIONS)
    context = torch.cat([tuner.context for tuner in host.tuners.values()])
    for i, caption in enumerate(CAPTIONS):
        expected = plain_caption(host, caption, context)
        torch.testing.assert_close(
            found["hidden"][i, : len(expected)], expected, rtol=1e-9, atol=1e-9
        )


def test_features_and_mask_keep_the_tokens_of_the_caption(folder):
    host = TextHost(folder, tuner=COOP)
    found = host(CAPTIONS)
    with host.tuners_off():
        without = host(CAPTIONS)
    assert torch.equal(found["masks"], without["masks"])
    assert found["hidden"].shape == found["embedded"].shape == without["hidden"].shape
    real = found["masks"].bool()
    changed = (found["hidden"] - without["hidden"]).abs().amax(-1)
    assert (changed[real] > 1e-4).all()  # every word sees the context
    assert not changed[~real].any()


def test_the_context_takes_no_token_from_the_longest_caption(folder):
    host = TextHost(folder, tuner=COOP)
    caption = "red " * (MAX_TOKENS - 2)
    found = host([caption])
    assert int(found["masks"].sum()) == MAX_TOKENS
    expected = plain_caption(host, caption, host.tuners["default"].context)
    assert_same_text(found["hidden"], expected[None], found["masks"])


def test_the_context_starts_from_words_of_the_loaded_weights(folder):
    host = TextHost(folder, tuner=dict(COOP, num_tokens=2, init_words="red circle"))
    with torch.no_grad():  # what loading does after building
        host.bert.embeddings.word_embeddings.weight.mul_(3)
    host(CAPTIONS)
    ids, _ = host.tokens(["red circle"])
    words = host.bert.embeddings.word_embeddings.weight[ids[0, 1:-1]]
    assert torch.equal(host.tuners["default"].context, words)


def test_a_trained_context_is_not_replaced_by_words(folder):
    words = dict(COOP, num_tokens=2, init_words="red circle")
    trained = TextHost(folder, tuner=words)
    trained(CAPTIONS)
    with torch.no_grad():
        trained.tuners["default"].context.add_(1)
    again = TextHost(folder, tuner=words)
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again(CAPTIONS)["hidden"], trained(CAPTIONS)["hidden"])


def test_words_of_another_number_are_refused_before_training(folder):
    with pytest.raises(ValueError, match="are 2 tokens, but num_tokens is 3: set num_tokens=2"):
        TextHost(folder, tuner=dict(COOP, init_words="red circle"))
    with pytest.raises(ValueError, match="num_tokens must be a positive integer, got 0"):
        TextHost(folder, tuner=dict(COOP, num_tokens=0))


def test_without_words_the_context_is_drawn_from_a_narrow_normal_distribution():
    seams = {"text_embeddings": [WordSeam(0, dict(width=768), nn.Identity())]}
    tuner = CoOp(seams=seams)
    assert tuner.context.shape == (16, 768)
    assert tuner.context.std().item() == pytest.approx(0.02, rel=0.05)
    assert tuner.context.mean().abs() < 1e-3
    assert tuner.num_trainable() == sum(p.numel() for p in tuner.parameters()) == 12_288


def test_the_last_layer_still_sees_the_context(folder):
    """The rows travel through the encoder: each layer's output depends on them."""
    host = TextHost(folder, tuner=COOP)
    outputs = []
    for layer in host.bert.encoder.layer:
        layer.attention.self.register_forward_pre_hook(lambda m, args: outputs.append(args[0]))
    host(CAPTIONS)
    length = host.tokens(CAPTIONS)[0].shape[1]
    assert [x.shape for x in outputs] == [(len(CAPTIONS), length + 3, WIDTH)] * DEPTH
