"""The text encoder's seams, against plain reference forms and Hugging Face's own BERT."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
import transformers
from torch import Tensor, nn

from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.hosts.seams import ForwardState, PromptRows
from mmsdpt.tuners.base import Tuner
from tests.hosts.small_bert import (
    CAPTIONS,
    DEPTH,
    HEADS,
    POSITIONS,
    WIDTH,
    Adapter,
    CaptionWords,
    Deep,
    From,
    Offset,
    Words,
    attach,
    bert,
    close,
    draw,
    small_bert,
    small_bert_folder,
)
from tests.oracles.bert import hugging_face, run_layer

SPECIAL = ["[CLS]", "[SEP]", "."]


@pytest.fixture
def build(tmp_path) -> partial:
    return partial(small_bert, small_bert_folder(tmp_path))


@pytest.fixture
def model(build) -> BertModel:
    return build().requires_grad_(False)


def hf(model: BertModel) -> nn.Module:
    """A copy as Hugging Face's."""
    return hugging_face(bert(model))


def additive(valid: Tensor) -> Tensor:
    """(B, K) to an additive mask (B, 1, 1, K)."""
    return (1 - valid.double())[:, None, None] * torch.finfo(torch.float64).min


# --- the encoder is Hugging Face's


def test_seams_tell_their_widths(model):
    seams = model.seams()
    assert {kind: len(points) for kind, points in seams.items()} == {
        "text_embeddings": 1,
        "text_blocks": DEPTH,
        "text_attention_outputs": DEPTH,
        "text_ffn_outputs": DEPTH,
        "text_features": 1,
    }
    for kind, points in seams.items():
        assert [seam.index for seam in points] == list(range(len(points)))
        assert all(seam.kind == kind and seam.widths["width"] == WIDTH for seam in points)
    assert seams["text_blocks"][1].widths == dict(
        width=WIDTH, heads=HEADS, stage=0, depth=DEPTH, position=1
    )
    assert seams["text_features"][0].widths["max_tokens"] == 24


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("sub_sentences", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_equals_hugging_face_with_gradients_and_dropout(build, attention, sub_sentences, training):
    model = build(
        attn_implementation=attention,
        num_layers_of_embedded=2,
        use_sub_sentence_represent=sub_sentences,
        special_tokens_list=SPECIAL,
    ).train(training)
    for layer in bert(model).encoder.layer:
        assert layer.attention.self.written_out is (attention == "eager")
    x = model._tokenize(CAPTIONS)
    names = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
    inputs = {name: x[name] for name in names}
    if sub_sentences and int(transformers.__version__.split(".")[0]) >= 5:  # takes no (B, L, L)
        valid = x["attention_mask"].unsqueeze(1).double()
        inputs["attention_mask"] = (1 - valid) * torch.finfo(torch.float64).min
    theirs = hf(model)
    torch.manual_seed(5)
    layers = theirs(**inputs, output_hidden_states=True).hidden_states
    embedded, hidden = torch.stack(layers[-2:]).mean(0) / 2, layers[-1]
    if not sub_sentences:
        valid = x["attention_mask"].unsqueeze(-1).double()
        embedded, hidden = embedded * valid, hidden * valid
    torch.manual_seed(5)  # the same draws in the same order
    ours = model(CAPTIONS)
    close(ours["hidden"], hidden)
    close(ours["embedded"], embedded)

    weight = torch.randn_like(hidden)
    theirs, own = dict(theirs.named_parameters()), dict(bert(model).named_parameters())
    assert theirs.keys() == own.keys()
    expected = torch.autograd.grad(((hidden + embedded) * weight).sum(), theirs.values())
    total = ((ours["hidden"] + ours["embedded"]) * weight).sum()
    found = torch.autograd.grad(total, [own[name] for name in theirs])
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize("captions", [CAPTIONS, CAPTIONS[:1]])
def test_tuners_switched_off_leave_every_bit(model, captions):
    before = model(captions)
    tuners = [attach(t, model) for t in (Words, Deep, Adapter, Offset)]
    changed = model(captions)
    assert (changed["hidden"] - before["hidden"]).abs().max() > 1e-3
    for tuner in tuners:
        tuner.enabled = False
    after = model(captions)
    assert all(torch.equal(after[key], before[key]) for key in before)


# --- rows


def test_word_vectors_are_those_of_the_tokens(model):
    (seam,) = model.seams()["text_embeddings"]
    table = bert(model).embeddings.word_embeddings
    ids = model.tokenizer.convert_tokens_to_ids(["a", "red", "star"])
    vectors = seam.word_vectors("a red star")
    assert torch.equal(vectors, table.weight[ids]) and not vectors.requires_grad
    table.weight.mul_(2)  # a checkpoint that is loaded later
    assert torch.equal(seam.word_vectors("a red star"), table.weight[ids])
    assert seam.word_vectors("").shape == (0, WIDTH)


def reference_with_words(model: BertModel, x: dict, vectors: Tensor) -> list[Tensor]:
    """Hidden states of Hugging Face's BERT with (B, p, d) word vectors after padded captions."""
    theirs, (batch, length), count = hf(model), x["input_ids"].shape, vectors.shape[1]
    mask = x["token_mask"]
    return theirs(
        inputs_embeds=torch.cat([theirs.embeddings.word_embeddings(x["input_ids"]), vectors], 1),
        attention_mask=torch.cat([mask, mask.new_ones(batch, count)], 1),
        position_ids=torch.cat(
            [torch.arange(length).expand(batch, -1), mask.sum(1, True) + torch.arange(count)], 1
        ),
        output_hidden_states=True,
    ).hidden_states


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_words_after_the_caption_equal_hugging_face_on_longer_captions(build, attention):
    model = build(attn_implementation=attention).requires_grad_(False)
    first, second = attach(Words, model, count=3), attach(CaptionWords, model, count=2)
    x = model._tokenize(CAPTIONS)
    means = torch.stack([model._body.word_vectors(c).mean(0) for c in CAPTIONS])
    vectors = torch.cat([first.words.expand(3, -1, -1), second.words + means.unsqueeze(1)], 1)
    expected = reference_with_words(model, x, vectors)[-1][:, : x["input_ids"].shape[1]]
    expected = expected * x["token_mask"].unsqueeze(-1)
    hidden = model(CAPTIONS)["hidden"]
    close(hidden, expected)
    weight = torch.randn_like(hidden)
    wanted = [first.words, second.words]
    for a, b in zip(
        torch.autograd.grad((hidden * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        assert a.abs().max() > 0
        close(a, b)


def test_words_that_are_not_kept_act_in_the_first_layer_only(model):
    tuner = attach(Words, model, keep=False)
    x = model._tokenize(CAPTIONS)
    length, mask = x["input_ids"].shape[1], x["token_mask"]
    hidden = reference_with_words(model, x, tuner.words.expand(3, -1, -1))[1][:, :length]
    for layer in hf(model).encoder.layer[1:]:
        hidden = run_layer(layer, hidden, additive(mask).expand(-1, -1, length, -1))
    close(model(CAPTIONS)["hidden"], hidden * mask.unsqueeze(-1))


@pytest.mark.parametrize("keep", [False, True])
def test_rows_are_replaced_layer_by_layer(model, keep):
    """x_i = Layer([x_{i-1}; P_i])[:L]: whether an output that is replaced is kept makes no
    difference.
    """
    tuner = attach(Deep, model, keep=keep)
    x = model._tokenize(CAPTIONS)
    mask = x["token_mask"]
    valid = torch.cat([mask, mask.new_ones(3, 2)], 1)
    hidden = hf(model).embeddings(x["input_ids"])
    length = hidden.shape[1]
    for layer, prompt in zip(hf(model).encoder.layer, tuner.prompts, strict=True):
        sequence = torch.cat([hidden, prompt.expand(3, -1, -1)], 1)
        added = additive(valid).expand(-1, -1, length + 2, -1)
        hidden = run_layer(layer, sequence, added)[:, :length]
    close(model(CAPTIONS)["hidden"], hidden * mask.unsqueeze(-1))
    assert tuner.seen == [[], [tuner] if keep else [], [tuner] if keep else []]


def test_rows_of_several_owners_join_and_travel(model):
    words, late = attach(Words, model, count=3), attach(From, model, start=1)
    x = model._tokenize(CAPTIONS)
    mask = x["token_mask"]
    length = mask.shape[1]
    sequence = reference_with_words(model, x, words.words.expand(3, -1, -1))[1]
    sequence = torch.cat([sequence, late.prompts[0].expand(3, -1, -1)], 1)
    valid = additive(torch.cat([mask, mask.new_ones(3, 5)], 1)).expand(-1, -1, length + 5, -1)
    for layer in hf(model).encoder.layer[1:]:
        sequence = run_layer(layer, sequence, valid)
    close(model(CAPTIONS)["hidden"], sequence[:, :length] * mask.unsqueeze(-1))


def test_rows_see_real_tokens_and_sub_sentences_see_rows(build):
    model = build(use_sub_sentence_represent=True, special_tokens_list=SPECIAL)
    model.requires_grad_(False)
    words = attach(Words, model)
    x = model._tokenize(CAPTIONS)
    theirs, mask = hf(model), x["token_mask"]
    length = mask.shape[1]
    rows = theirs.embeddings(
        inputs_embeds=words.words.expand(3, -1, -1),
        position_ids=mask.sum(1, True) + torch.arange(2),
    )
    tokens = theirs.embeddings(
        x["input_ids"], position_ids=x["position_ids"], token_type_ids=x["token_type_ids"]
    )
    valid = torch.ones(3, length + 2, length + 2, dtype=torch.float64)
    valid[:, :length, :length] = x["attention_mask"].double()
    valid[:, length:, :length] = mask.double().unsqueeze(1)
    bias = (1 - valid).unsqueeze(1) * torch.finfo(torch.float64).min
    sequence = torch.cat([tokens, rows], 1)
    for layer in theirs.encoder.layer:
        sequence = run_layer(layer, sequence, bias)
    close(model(CAPTIONS)["hidden"], sequence[:, :length])


@pytest.mark.parametrize("pad_to_max", [False, True])
def test_features_do_not_depend_on_padding(build, pad_to_max):
    model = build(pad_to_max=pad_to_max).requires_grad_(False)
    for tuner in (Words, CaptionWords, Deep, From, Adapter, Offset):
        attach(tuner, model)
    attach(Words, model, keep=False, count=1)
    together = model(CAPTIONS)["hidden"]
    model.pad_to_max = False
    for i, caption in enumerate(CAPTIONS):
        alone = model([caption])["hidden"][0]
        close(together[i, : len(alone)], alone)


def test_too_many_prompt_vectors_are_refused(model):
    tuner = attach(Words, model, count=POSITIONS - 3)  # [CLS] raccoon [SEP]
    assert model(CAPTIONS[1:2])["hidden"].isfinite().all()
    with pytest.raises(ValueError, match="a caption of 9 tokens with 37 prompt vectors .* has 40"):
        model(CAPTIONS)
    tuner.enabled = False
    model(CAPTIONS)


# --- features


def plain_layer(layer, x: Tensor, bias: Tensor, attention_change, ffn_change) -> Tensor:
    """BERT's layer written out, with the changes where they belong."""

    def split(y: Tensor) -> Tensor:
        return y.view(*y.shape[:2], HEADS, -1).transpose(1, 2)

    own = layer.attention.self
    scores = split(own.query(x)) @ split(own.key(x)).transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
    mixed = ((scores + bias).softmax(-1) @ split(own.value(x))).transpose(1, 2).reshape(x.shape)
    out = layer.attention.output
    a = out.LayerNorm(x + attention_change(out.dense(mixed)))
    inner = nn.functional.gelu(layer.intermediate.dense(a))
    return layer.output.LayerNorm(a + ffn_change(layer.output.dense(inner)))


@pytest.mark.parametrize("kind", ["text_attention_outputs", "text_ffn_outputs"])
def test_features_change_before_residual_and_norm_prompt_rows_included(model, kind):
    adapter, words = attach(Adapter, model, kinds=(kind,)), attach(Words, model)
    x = model._tokenize(CAPTIONS)
    mask = x["token_mask"]
    length = mask.shape[1]
    bias = additive(torch.cat([mask, mask.new_ones(3, 2)], 1))
    sequence = reference_with_words(model, x, words.words.expand(3, -1, -1))[0]
    for i, layer in enumerate(hf(model).encoder.layer):
        changes = [nn.Identity(), nn.Identity()]
        weight = adapter.weights[kind][i]
        changes[kind == "text_ffn_outputs"] = lambda h, weight=weight: h + 0.5 * h @ weight
        sequence = plain_layer(layer, sequence, bias, *changes)
    close(model(CAPTIONS)["hidden"], sequence[:, :length] * mask.unsqueeze(-1))
    assert set(adapter.shapes) == {(3, length + 2, WIDTH)}


# --- in two phases


@pytest.mark.parametrize("last", range(DEPTH + 1))
@pytest.mark.parametrize("sub_sentences", [False, True])
def test_two_phases_equal_one(build, last, sub_sentences):
    model = build(
        num_layers_of_embedded=2,
        use_sub_sentence_represent=sub_sentences,
        special_tokens_list=SPECIAL,
    ).requires_grad_(False)
    for tuner in (Words, CaptionWords, Deep, From, Adapter, Offset):
        attach(tuner, model)
    expected = model(CAPTIONS)
    progress = model.begin(CAPTIONS, None, last)
    assert torch.equal(progress.mask, model._tokenize(CAPTIONS)["token_mask"])
    for i in range(last):
        progress.x, progress.rows = model.run_block(progress, i)(progress.x, progress.rows)
    found = model.finish(progress)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_layer_may_run_more_than_once_with_rows_of_a_caller(model):
    """As in a query pass and a fusion pass."""
    words, own = attach(Words, model), draw(4, WIDTH)
    progress = model.begin(CAPTIONS, ForwardState(captions=CAPTIONS), 1)
    mask, x, layer = progress.mask, progress.x, hf(model).encoder.layer[-1]
    length = mask.shape[1]

    def reference(rows: Tensor) -> Tensor:
        sequence = torch.cat([x, progress.rows[words].values, rows.expand(3, -1, -1)], 1)
        size = sequence.shape[1]
        valid = torch.cat([mask, mask.new_ones(3, size - length)], 1)
        return run_layer(layer, sequence, additive(valid).expand(-1, -1, size, -1))

    run = model.run_block(progress, 0)
    _, kept = run(x, {**progress.rows, "query": PromptRows(own, keep=True)})
    close(kept["query"].values, reference(own)[:, -4:])
    message = kept["query"].values[:, :1]
    out, kept = run(x, {**progress.rows, "message": PromptRows(message)})
    close(out, reference(message)[:, :length])
    assert list(kept) == [words] and kept[words].keep


def test_the_last_output_may_be_replaced(build):
    model = build(num_layers_of_embedded=2).requires_grad_(False)
    offset = attach(Offset, model)
    progress = model.begin(CAPTIONS, last=0)
    valid = progress.mask.unsqueeze(-1)
    found = model.finish(progress, progress.x * 3)
    close(found["hidden"], progress.x * 3 * valid + offset.offset[: valid.shape[1]])
    close(found["embedded"], (progress.outputs[-2] + progress.x * 3) / 4 * valid)


# --- recomputation


def gradients(model: BertModel, tuners: list[Tuner], training: bool) -> list[Tensor]:
    for tuner in tuners:
        tuner.train(training)
        tuner.enabled = True
    torch.manual_seed(3)
    out = model(CAPTIONS)
    loss = (out["hidden"] * torch.linspace(-1, 1, WIDTH)).sum()
    for tuner in tuners:  # what is switched after the forward pass does not matter
        tuner.enabled = False
    wanted = [p for side in (model, *tuners) for p in side.parameters() if p.requires_grad]
    return [loss, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_recomputation_gives_the_same_gradients(build, training, frozen):
    found = []
    for use_checkpoint in (False, True):
        model = build(use_checkpoint=use_checkpoint).requires_grad_(not frozen).train(training)
        tuners = [attach(t, model) for t in (Words, Deep, From, Adapter)]
        found.append(gradients(model, tuners, training))
    for a, b in zip(*found, strict=True):
        close(a, b)


def test_recomputation_uses_the_values_of_the_forward_pass(build):
    """As of a tuner that puts its own value in a parameter's place while the host runs."""
    found = []
    for use_checkpoint in (False, True):
        model = build(use_checkpoint=use_checkpoint).requires_grad_(False)
        dense = bert(model).encoder.layer[1].intermediate.dense
        host, change = dense.weight, torch.ones_like(dense.weight, requires_grad=True)
        dense._parameters["weight"] = host + change * 0.1
        loss = (model(CAPTIONS)["hidden"] * torch.linspace(-1, 1, WIDTH)).sum()
        dense._parameters["weight"] = host
        (gradient,) = torch.autograd.grad(loss, [change])
        found.append(gradient)
    assert found[0].abs().max() > 0
    close(found[1], found[0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"is_decoder": True}, "is_decoder=True .* is an encoder with 'absolute' positions"),
        ({"position_embedding_type": "relative_key"}, "'relative_key', but a detector's BERT"),
        ({"hidden_act": "mish"}, "cannot be used: .* hidden_act is 'mish', expected one"),
        ({"num_attention_heads": 5}, "hidden_size is 24, expected a multiple of its 5 heads"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers is '3', expected a positive integer"),
    ],
)
def test_other_kinds_of_bert_are_refused(tmp_path, setting, message):
    config = small_bert_folder(tmp_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    with pytest.raises(ValueError, match=message):
        small_bert(tmp_path)
