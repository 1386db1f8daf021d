"""The text encoder's seams, against plain reference forms and Hugging Face's own BERT."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import BertConfig

from mmsdpt.hosts.grounding.bert_modules import Bert
from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.hosts.seams import BlockSeam, FeatureSeam, ForwardState, PromptRows, Rows
from mmsdpt.tuners.base import Tuner
from mmsdpt.utils.language_models import mini_bert_folder
from tests.hosts.text_spy import Spy
from tests.oracles.bert import hugging_face, run_layer

CAPTIONS = ["striped blue star. red circle", "raccoon", "a cow that is brown. penguin"]
SPECIAL = ["[CLS]", "[SEP]", "."]
WIDTH, HEADS, DEPTH, POSITIONS, DROPOUT = 24, 3, 3, 40, 0.2
INNER_KINDS = ("text_embeddings", "text_blocks", "text_attention_outputs", "text_ffn_outputs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny BERT with dropout."""
    folder = tmp_path_factory.mktemp("bert")
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(f"{mini_bert_folder()}/{name}", folder)
    BertConfig(
        vocab_size=len(Path(folder, "vocab.txt").read_text().splitlines()),
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=40,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        initializer_range=0.3,
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def build(folder):
    def build(**kwargs) -> BertModel:
        torch.manual_seed(1)
        model = BertModel(name=folder, max_tokens=24, pretrained=False, **kwargs)
        with torch.no_grad():
            for parameter in model.parameters():  # biases are not zero, nor norms one
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model.double().eval()

    return build


@pytest.fixture
def model(build) -> BertModel:
    return build().requires_grad_(False)


def bert(model: BertModel) -> Bert:
    return model.language_backbone.body.model


def hf(model: BertModel) -> nn.Module:
    """A copy as Hugging Face's."""
    return hugging_face(bert(model))


def close(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def additive(valid: Tensor) -> Tensor:
    """(B, K) to an additive mask (B, 1, 1, K)."""
    return (1 - valid.double())[:, None, None] * torch.finfo(torch.float64).min


def draw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


class Words(Tuner):
    """CoOp's mechanism: word vectors after the caption."""

    def __init__(self, *, count: int = 2, keep: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.words = draw(count, WIDTH)
        self.states: list[ForwardState] = []
        kwargs["seams"]["text_embeddings"][0].connect(self, self.rows)

    def rows(self, seam: WordSeam, state: ForwardState) -> Rows:
        self.states.append(state)
        return {self: PromptRows(self.words, keep=self.keep)}


class CaptionWords(Words):
    """Word vectors that depend on the caption, (B, p, d)."""

    def rows(self, seam: WordSeam, state: ForwardState) -> Rows:
        found = [seam.word_vectors(caption).mean(0) for caption in state.captions]
        values = self.words + torch.stack(found).unsqueeze(1)
        return {self: PromptRows(values, keep=self.keep)}


class Deep(Tuner):
    """Rows that are replaced in every layer from ``start`` on."""

    def __init__(self, *, count: int = 2, start: int = 0, keep: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.prompts = draw(DEPTH, count, WIDTH)
        self.seen: list[list] = []
        for seam in kwargs["seams"]["text_blocks"][start:]:
            seam.connect(self, self.run)

    def run(self, seam: BlockSeam, block, x: Tensor, rows: Rows, state: ForwardState):
        self.seen.append(list(rows))
        prompt = PromptRows(self.prompts[seam.widths["position"]], keep=self.keep)
        return block(x, {**rows, self: prompt})


class Adapter(Tuner):
    """h + s h W, one W per place."""

    def __init__(self, *, kinds=("text_attention_outputs", "text_ffn_outputs"), **kwargs) -> None:
        super().__init__(**kwargs)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
        self.weights = nn.ParameterDict({kind: draw(DEPTH, WIDTH, WIDTH) for kind in kinds})
        self.shapes: list[tuple[int, ...]] = []
        for kind in kinds:
            for seam in kwargs["seams"][kind]:
                seam.connect(self, self.change)

    def change(self, seam: FeatureSeam, h: Tensor) -> Tensor:
        self.shapes.append(tuple(h.shape))
        return h + self.scale * self.drop(h) @ self.weights[seam.kind][seam.index]


class Offset(Tuner):
    """GLIP's prompt tuning: an offset of the language features."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        seam = kwargs["seams"]["text_features"][0]
        self.offset = draw(seam.widths["max_tokens"], seam.widths["width"])
        seam.connect(self, self.change)

    def change(self, seam: FeatureSeam, features: dict[str, Tensor]) -> dict[str, Tensor]:
        length = features["hidden"].shape[1]
        return {**features, "hidden": features["hidden"] + self.offset[:length]}


def attach(tuner: type[Tuner], model: BertModel, **kwargs) -> Tuner:
    return tuner(seams=model.seams(), **kwargs).eval()


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


class From(Deep):
    """Rows that join at one layer, without any norm, and travel on."""

    def run(self, seam: BlockSeam, block, x: Tensor, rows: Rows, state: ForwardState):
        if self in rows:
            assert rows[self].values.shape == (len(x), 2, WIDTH) and rows[self].keep
            return block(x, rows)
        return block(x, {**rows, self: PromptRows(self.prompts[0], keep=True)})


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


# --- the cache


@pytest.fixture
def cached(model):
    """A model with tuners at all seams inside, frozen, and what compares cached to uncached."""
    tuners = [attach(t, model, frozen=True) for t in (Words, CaptionWords, Deep, Adapter)]

    def check() -> Tensor:
        hidden = model(CAPTIONS, cache=True)["hidden"]
        close(hidden, model(CAPTIONS)["hidden"])
        return hidden

    return model, tuners, check


def test_features_with_frozen_tuners_are_cached(cached):
    model, _, check = cached
    check()
    spy = Spy(model)
    model(CAPTIONS, cache=True)
    assert spy.encoded == 0


def test_a_handler_sees_only_its_caption_where_the_result_is_kept(model):
    tuner = attach(Words, model, frozen=True)
    given = ForwardState(images=torch.zeros(3, 3, 8, 8), captions=CAPTIONS)
    model(CAPTIONS, cache=True, state=given)
    assert [list(state.captions) for state in tuner.states] == [[c] for c in CAPTIONS]
    assert all(state.images is None and not state.samples for state in tuner.states)
    model(CAPTIONS, state=given)
    assert tuner.states[-1] is given


@torch.no_grad()
def _in_place(tuner: Tuner) -> None:
    next(tuner.parameters()).mul_(1.5)


def _load(tuner: Tuner, assign: bool = False) -> None:
    tuner.load_state_dict({k: v * 1.5 for k, v in tuner.state_dict().items()}, assign=assign)


def _optimizer(tuner: Tuner) -> None:
    weight = next(tuner.parameters())
    weight.grad = torch.randn_like(weight)
    torch.optim.SGD([weight], lr=0.5).step()


def _buffer(tuner: Tuner) -> None:
    for module in (tuner, *tuner.children()):
        for buffer in module.buffers():
            buffer.mul_(3)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("change", [_in_place, _load, partial(_load, assign=True), _optimizer])
def test_a_changed_tuner_is_never_answered_from_the_cache(cached, which, change):
    _, tuners, check = cached
    before = check()
    change(tuners[which])
    assert (check() - before).abs().max() > 1e-6


def test_a_changed_buffer_is_never_answered_from_the_cache(cached):
    _, tuners, check = cached
    before = check()
    _buffer(tuners[3])
    assert (check() - before).abs().max() > 1e-6


def test_a_switched_tuner_is_never_answered_from_the_cache(cached):
    _, tuners, check = cached
    with_all = check()
    seen = [with_all]
    for tuner in tuners:
        tuner.enabled = False
        seen.append(check())
        assert all((seen[-1] - other).abs().max() > 1e-6 for other in seen[:-1])
    for tuner in tuners:
        tuner.enabled = True
    assert torch.equal(check(), with_all)


def test_a_tuner_in_the_place_of_another_is_never_answered_from_the_cache(cached):
    """Also where the new one gets the memory of the old one."""
    model, tuners, check = cached
    seen = [check()]
    for _ in range(5):
        old = tuners.pop()
        for kind in model.seams().values():
            for seam in kind:
                seam._handlers = [entry for entry in seam._handlers if entry[0] is not old]
        del old
        tuners.append(attach(Adapter, model, frozen=True))
        seen.append(check())
        assert (seen[-1] - seen[-2]).abs().max() > 1e-6


def test_a_value_in_the_place_of_a_parameter_is_never_answered_from_the_cache(model):
    """The memory of a value that is let go may come back with the next one: the same address, the
    same version, another content.
    """
    norm = bert(model).encoder.layer[1].output.LayerNorm
    host = norm.weight
    seen = []
    for i in range(10):
        norm._parameters["weight"] = host * (1 + i)
        seen.append(model(CAPTIONS[:1], cache=True)["hidden"])
        norm._parameters["weight"] = host
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(seen, seen[1:], strict=False))


def test_a_tuner_that_trains_is_not_cached(model):
    tuner = attach(Words, model)
    with pytest.raises(ValueError, match="cut the gradient of Words, which acts in the text"):
        model(CAPTIONS, cache=True)
    with torch.no_grad():
        close(model(CAPTIONS, cache=True)["hidden"], model(CAPTIONS)["hidden"])
    tuner.enabled = False
    model(CAPTIONS, cache=True)


def test_dropout_of_a_tuner_is_not_cached(cached):
    model, tuners, check = cached
    tuners[3].drop.train()
    with pytest.raises(ValueError, match="draw of dropout: Adapter, .* is in training mode"):
        model(CAPTIONS, cache=True)
    tuners[3].enabled = False
    check()


def test_changes_of_the_features_are_never_cached(model):
    plain = model(CAPTIONS, cache=True)["hidden"]
    tuner = attach(Offset, model).train()  # what trains after the cache does not matter to it
    spy = Spy(model)
    for _ in range(2):
        changed = model(CAPTIONS, cache=True)["hidden"]
        close(changed, plain + tuner.offset[: plain.shape[1]])
        (gradient,) = torch.autograd.grad(changed.sum(), [tuner.offset])
        assert gradient.abs().max() > 0
        _in_place(tuner)
    tuner.enabled = False
    assert torch.equal(model(CAPTIONS, cache=True)["hidden"], plain)
    assert spy.encoded == 0


def test_copies_act_on_their_own(cached):
    model, tuners, check = cached
    expected = check()
    host = nn.ModuleDict({"model": model, "tuners": nn.ModuleList(tuners)})
    for twin in (copy.deepcopy(host), pickle.loads(pickle.dumps(host))):
        spy = Spy(twin["model"])
        assert torch.equal(twin["model"](CAPTIONS, cache=True)["hidden"], expected)
        assert spy.encoded == len(CAPTIONS)  # a copy's cache is empty
        _in_place(twin["tuners"][0])
        assert (twin["model"](CAPTIONS)["hidden"] - expected).abs().max() > 1e-6
    assert torch.equal(check(), expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"is_decoder": True}, "is_decoder=True .* is an encoder with 'absolute' positions"),
        ({"position_embedding_type": "relative_key"}, "'relative_key', but a detector's BERT"),
        ({"hidden_act": "mish"}, "'.*bert' cannot be used: .* hidden_act is 'mish', expected one"),
        ({"num_attention_heads": 5}, "hidden_size is 24, expected a multiple of its 5 heads"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers is '3', expected a positive integer"),
    ],
)
def test_other_kinds_of_bert_are_refused(folder, tmp_path, setting, message):
    shutil.copytree(folder, tmp_path / "bert")
    config = tmp_path / "bert" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    with pytest.raises(ValueError, match=message):
        BertModel(name=str(tmp_path / "bert"), max_tokens=24, pretrained=False)
