"""MaPLe's prompts are in both encoders, replaced depth by depth; the text's make the image's."""

import pytest
import torch

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.tuners.layers.coupled_prompts import evenly_spaced
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples, predictions_of
from tests.oracles.bert import hugging_face, run_layer
from tests.tuners.seams_of_glip_l import seams

N = 2


def make_glip(**options):
    model = build_mini_glip(tuner=dict(type="mmsdpt.MaPLe", **options)).double().eval()
    model.tuners["default"].prepare()
    generator = torch.Generator().manual_seed(4)
    prompts = model.tuners["default"].prompts
    with torch.no_grad():  # of a size that matters
        prompts.text.copy_(torch.randn(prompts.text.shape, generator=generator))
    return model


def captions_of(model) -> list[str]:
    return [model.class_prompt(text)[0] for text in TEXTS]


def plain_hidden(model, caption: str) -> torch.Tensor:
    """Hugging Face's layers on one caption without padding, prompts by concatenation."""
    prompts = model.tuners["default"].prompts.text
    bert = hugging_face(model.language_model.language_backbone.body.model)
    tokens = model.language_model.tokenizer(caption, return_tensors="pt").input_ids
    length = tokens.shape[1]
    words = torch.cat([bert.embeddings.word_embeddings(tokens), prompts[:1]], dim=1)
    x = bert.embeddings(inputs_embeds=words)
    for i, layer in enumerate(bert.encoder.layer):
        if 0 < i < len(prompts):
            x = torch.cat([x[:, :length], prompts[i : i + 1]], dim=1)
        x = run_layer(layer, x)
    return x[0, :length]


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_the_text_features_equal_those_of_plain_bert_with_replaced_prompts(depth):
    """With fewer depths than layers the last prompts travel on to the end."""
    model = make_glip(depth=depth)
    captions = captions_of(model)
    found = model.encode_text(captions)
    for i, caption in enumerate(captions):
        wanted = plain_hidden(model, caption)
        assert found["masks"][i].sum() == len(wanted)
        assert (found["hidden"][i, : len(wanted)] - wanted).abs().max() < 1e-9
        assert not found["hidden"][i, len(wanted) :].any()


def test_the_chosen_image_blocks_get_the_projected_prompts_of_their_depth():
    model = make_glip()
    prompts = model.tuners["default"].prompts
    chosen = dict(zip(prompts.image_blocks, range(prompts.depth), strict=True))
    assert tuple(chosen) == (0, 2, 3, 5)
    for seam in model.seams()["image_blocks"]:
        calls = []

        def block(x, rows, calls=calls):
            calls.append(rows)
            return x, {}

        seam.run(block, torch.zeros(3, 4, seam.widths["width"]).double(), {}, ForwardState())
        (rows,) = calls
        if seam.index not in chosen:
            assert not rows
            continue
        ((_, row),) = rows.items()
        j = chosen[seam.index]
        linear = prompts.couplings[j]
        assert not row.keep
        wanted = prompts.text[j] @ linear.weight.T + linear.bias
        assert (row.values - wanted).abs().max() < 1e-9


def test_the_image_trains_the_text_prompts_of_every_depth():
    model = make_glip()
    prompts = model.tuners["default"].prompts
    levels = model.extract_feat(make_images(1), ForwardState())
    (gradient,) = torch.autograd.grad(sum(level.square().sum() for level in levels), prompts.text)
    assert gradient.abs().amax(-1).min() > 0


def test_every_depth_changes_both_encoders():
    model = make_glip()
    prompts = model.tuners["default"].prompts
    captions, images = captions_of(model)[:1], make_images(1)

    @torch.no_grad()
    def encoded():
        levels, text = model.encode(images, ForwardState(images, captions))
        return levels[0], text["hidden"]

    before = encoded()
    for j in range(prompts.depth):
        with torch.no_grad():
            prompts.text[j].mul_(-1)
        after = encoded()
        for a, b in zip(before, after, strict=True):
            assert (a - b).abs().max() > 1e-6, j
        before = after


def test_the_first_prompts_start_from_words_and_the_deeper_ones_from_noise():
    model = build_mini_glip(tuner=dict(type="mmsdpt.MaPLe", init_words="a photo of a"))
    prompts = model.tuners["default"].prompts
    drawn = prompts.text.detach().clone()
    vectors = model.seams()["text_embeddings"][0].word_vectors("a photo of a")
    model.tuners["default"].prepare()
    assert torch.equal(prompts.text[0], vectors[:N])
    assert torch.equal(prompts.text[1:], drawn[1:])
    assert 0.01 < drawn[1:].std() < 0.03
    with torch.no_grad():
        prompts.text.add_(1)
    model.tuners["default"].prepare()  # once only
    assert torch.equal(prompts.text[0], vectors[:N] + 1)


def test_prompts_beyond_the_words_stay_as_drawn():
    for words, count in (("a photo", None), ("", 0)):
        model = build_mini_glip(tuner=dict(type="mmsdpt.MaPLe", num_tokens=20, init_words=words))
        prompts = model.tuners["default"].prompts
        drawn = prompts.text.detach().clone()
        vectors = model.seams()["text_embeddings"][0].word_vectors("a photo")[:count]
        model.tuners["default"].prepare()
        assert len(vectors) < 20
        assert torch.equal(prompts.text[0, : len(vectors)], vectors)
        assert torch.equal(prompts.text[0, len(vectors) :], drawn[0, len(vectors) :])


def test_two_of_them_side_by_side_keep_their_rows_apart():
    maple = dict(type="mmsdpt.MaPLe")
    model = build_mini_glip(tuners=dict(a=maple, b=dict(maple, depth=2))).double().eval()
    captions = captions_of(model)

    with torch.no_grad():
        both = model.encode_text(captions)["hidden"]
        with model.tuners_off("b"):
            only_a = model.encode_text(captions)["hidden"]
        with model.tuners_off("a"):
            only_b = model.encode_text(captions)["hidden"]
    for one in (only_a, only_b):
        assert (both - one).abs().max() > 1e-6
    alone = build_mini_glip(tuner=maple).double().eval()
    alone.load_state_dict(
        {
            key.replace("tuners.a.", "tuners.default."): value
            for key, value in model.state_dict().items()
            if not key.startswith("tuners.b.")
        }
    )
    with torch.no_grad():
        assert torch.equal(alone.encode_text(captions)["hidden"], only_a)


def test_a_caption_keeps_its_classes_positions():
    """The prompts are after the caption, so losses and predictions need no shift."""
    model = make_glip()
    text = model.encode_text(captions_of(model))
    lengths = [len(model.language_model.tokenizer(c).input_ids) for c in captions_of(model)]
    assert text["masks"].sum(1).tolist() == lengths
    assert len(predictions_of(model, make_images(3), make_samples(TEXTS))) == 3


def test_blocks_are_evenly_spaced_from_the_first_to_the_last():
    assert evenly_spaced(9, 24) == (0, 3, 6, 9, 12, 14, 17, 20, 23)
    assert evenly_spaced(9, 12) == (0, 1, 3, 4, 6, 7, 8, 10, 11)
    assert evenly_spaced(1, 6) == (0,)
    for available in range(1, 25):
        for count in range(1, available + 1):
            chosen = evenly_spaced(count, available)
            assert len(set(chosen)) == count and chosen[0] == 0
            assert count == 1 or chosen[-1] == available - 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(depth=13), "depth must be from 1 to 12"),
        (dict(depth="3"), "depth must be a positive integer, got '3'"),
        (dict(num_tokens=0), "num_tokens must be a positive integer"),
        (dict(num_tokens=1.5), "num_tokens must be a positive integer"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type="mmsdpt.MaPLe", **options), default_args=dict(seams=seams()))
