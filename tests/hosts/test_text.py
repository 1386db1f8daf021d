import mmsdpt  # noqa: F401 - first: it makes MMDetection importable without compiled operators

# isort: split
import copy
from pathlib import Path

import pytest
import torch
from mmdet.models.language_models import BertModel as MMDetBertModel

from mmsdpt.hosts.grounding.bert_folder import bert_config
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.registry import MODELS
from mmsdpt.utils.language_models import MINI_BERT, mini_bert_folder
from tests.hosts.mmdet_bert import needs_mmdetections_bert
from tests.hosts.text_spy import CHANGES, Spy, first_weight, loaded, save_folder

CAPTIONS = ["striped blue star. red circle", "raccoon", "a cow that is brown. penguin. zyx-wolf"]


@pytest.fixture
def model(mini_bert) -> BertModel:
    """A model of the test's own, so that a test may change its weights."""
    return copy.deepcopy(mini_bert)


def assert_same_features(ours: dict, theirs: dict, atol: float) -> None:
    assert torch.equal(ours["masks"], theirs["masks"]) and ours["masks"].dtype == torch.long
    for key in ("hidden", "embedded"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=atol, atol=atol)


# --- the mini BERT's vocabulary


def test_vocabulary_is_well_formed():
    words = Path(mini_bert_folder(), "vocab.txt").read_text().splitlines()
    assert len(words) == len(set(words)) == bert_config(MINI_BERT).vocab_size
    assert words[0] == "[PAD]" and all(w == w.lower() and " " not in w for w in words[5:])
    assert 1200 <= sum(w.isalpha() and len(w) > 1 for w in words) <= 1700


def test_tokenizer_spells_any_word(mini_bert):
    text = "qzxjkvw supercalifragilistic 0x7f9 o'neill foo-bar_baz r2d2 (50%) don't!"
    tokens = mini_bert.tokenizer.tokenize(text)
    assert "[UNK]" not in tokens
    assert "".join(t.removeprefix("##") for t in tokens) == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "plain striped dotted checkered hollow outlined cyan gray circle hexagon crescent bolt",
        (
            "person bicycle car motorcycle airplane dog raccoon jellyfish penguin puffin starfish"
            " stingray"
        ),
        (
            "cottontail rabbit hand pothole package pistol lobster shrimp ambulance hot cold which"
            " is the"
        ),
    ],
)
def test_common_class_names_are_words_of_their_own(mini_bert, text):
    assert mini_bert.tokenizer.tokenize(text) == text.split()


def test_tokenizer_maps_characters_to_tokens(mini_bert):
    tokenized = mini_bert.tokenizer(["a zzq. Red star"])
    tokens = ["[CLS]", "a", "z", "##z", "##q", ".", "red", "star", "[SEP]"]
    assert tokenized.encodings[0].tokens == tokens
    assert [tokenized.char_to_token(i) for i in (0, 2, 4, 5, 7, 14)] == [1, 2, 4, 5, 6, 7]


# --- encoding


def test_is_built_from_a_config_with_mmdetections_parameter_names():
    model = MODELS.build({"type": "mmsdpt.BertModel", "name": MINI_BERT, "pretrained": False})
    keys = set(model.state_dict())
    assert all(k.startswith("language_backbone.body.model.") for k in keys)
    assert "language_backbone.body.model.encoder.layer.3.attention.self.query.weight" in keys
    assert "language_backbone.body.model.embeddings.word_embeddings.weight" in keys


@needs_mmdetections_bert
@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_layers_of_embedded": 2, "pad_to_max": True},
        {
            "use_sub_sentence_represent": True,
            "special_tokens_list": ["[CLS]", "[SEP]", ".", "?"],
            "pad_to_max": False,
        },
    ],
)
def test_equals_mmdetections_model_of_the_same_folder(tmp_path, mini_bert, kwargs):
    save_folder(mini_bert, tmp_path)
    theirs = MMDetBertModel(name=str(tmp_path), **kwargs).eval()
    ours = BertModel(name=str(tmp_path), **kwargs).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    with torch.no_grad():
        a, b = ours(CAPTIONS), theirs(CAPTIONS)
    assert a.keys() == b.keys()
    if "use_sub_sentence_represent" not in kwargs:
        b["hidden"] = b["hidden"] * b["masks"].unsqueeze(-1)  # ours is zero at padding
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-6)


def test_trimmed_captions_equal_padded_ones(model):
    model.double()
    trimmed = model(CAPTIONS)
    model.pad_to_max = True
    padded = model(CAPTIONS)
    length = trimmed["masks"].shape[1]
    assert (
        length < 30 and padded["masks"].shape == (3, 256) and not padded["masks"][:, length:].any()
    )
    assert_same_features(trimmed, {k: v[:, :length] for k, v in padded.items()}, atol=1e-9)


def test_features_are_zero_at_padding(model):
    for cache in (False, True):
        features = model(CAPTIONS, cache=cache)
        padding = features["masks"] == 0
        assert (
            padding.any()
            and not features["hidden"][padding].any()
            and not features["embedded"][padding].any()
        )


def test_one_string_is_not_taken_for_a_batch(model):
    with pytest.raises(TypeError, match="list of strings, but it is the string 'dog'"):
        model("dog")


# --- the cache


@pytest.mark.parametrize("kwargs", [{}, {"num_layers_of_embedded": 2}, {"pad_to_max": True}])
def test_cached_features_equal_uncached(kwargs):
    model = BertModel(name=MINI_BERT, pretrained=False, **kwargs).eval().requires_grad_(False)
    plain = model(CAPTIONS)
    for _ in range(2):
        assert_same_features(model(CAPTIONS, cache=True), plain, atol=1e-6)


@pytest.mark.parametrize("pad_to_max", [False, True])
def test_cached_sub_sentences_equal_uncached_at_real_tokens(pad_to_max):
    special = ["[CLS]", "[SEP]", "."]
    model = BertModel(
        MINI_BERT,
        pretrained=False,
        pad_to_max=pad_to_max,
        use_sub_sentence_represent=True,
        special_tokens_list=special,
    )
    model.eval().requires_grad_(False)
    captions = ["red star. a blue circle. ", "raccoon. "]
    plain = model(captions)
    real = plain["text_token_mask"]
    for _ in range(2):
        found = model(captions, cache=True)
        assert found.keys() == plain.keys()
        for name in ("masks", "position_ids", "text_token_mask"):
            assert torch.equal(found[name], plain[name]), name
        for name in ("embedded", "hidden"):
            torch.testing.assert_close(found[name][real], plain[name][real])


def test_each_distinct_caption_is_encoded_once(model):
    spy = Spy(model)
    model([CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]], cache=True)
    assert spy.encoded == 2
    model(CAPTIONS, cache=True)
    assert spy.encoded == 3
    model(CAPTIONS[::-1], cache=True)
    assert spy.encoded == 3
    model(CAPTIONS)
    assert spy.encoded == 6


def test_cached_features_do_not_depend_on_the_batch(model):
    fresh = copy.deepcopy(model)
    alone = model(CAPTIONS[1:2], cache=True)["hidden"]
    together = fresh(CAPTIONS, cache=True)["hidden"][1:2]
    assert torch.equal(together[:, : alone.shape[1]], alone)


def test_the_caption_unused_for_longest_is_forgotten_first():
    model = BertModel(name=MINI_BERT, pretrained=False, max_cached_captions=2)
    model.eval().requires_grad_(False)
    a, b, c = CAPTIONS
    model([a, b], cache=True)
    model([a], cache=True)
    model([c], cache=True)  # b goes
    spy = Spy(model)
    model([a, c], cache=True)
    assert spy.encoded == 0
    model([b], cache=True)
    assert spy.encoded == 1
    # More than fit at once.
    assert_same_features(model(CAPTIONS, cache=True), model(CAPTIONS), atol=1e-6)


def loaded_inside(model: BertModel) -> None:
    loaded(model.language_backbone.body.model)


def replaced(model: BertModel) -> None:
    first_weight(model).data = first_weight(model).data * 2


def rounded(model: BertModel) -> None:
    model.bfloat16().float()  # the addresses may be the old ones, the values are others


@pytest.mark.parametrize(
    "change", [*CHANGES, loaded_inside, replaced, rounded, torch.nn.Module.double]
)
def test_a_changed_weight_is_never_answered_from_the_cache(model, change):
    before = model(CAPTIONS, cache=True)
    change(model)
    after = model(CAPTIONS, cache=True)
    assert_same_features(after, model(CAPTIONS), atol=1e-5)
    moved = (after["hidden"] - before["hidden"]).abs().max()
    assert moved > 1e-3 or after["hidden"].dtype != before["hidden"].dtype


def test_moving_the_model_drops_the_cache(model):
    """A weight that comes back must not lie at its old address with its old version."""
    model(CAPTIONS, cache=True)
    spy = Spy(model)
    detector = torch.nn.ModuleDict({"language_model": model})
    detector.half().float()  # from outside, as a detector is moved
    model(CAPTIONS, cache=True)
    assert spy.encoded == len(CAPTIONS)


def test_autocast_has_features_of_its_own(model):
    before = model(CAPTIONS, cache=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model(CAPTIONS, cache=True)
        assert_same_features(inside, model(CAPTIONS), atol=5e-2)
    assert not torch.equal(inside["hidden"], before["hidden"])
    assert torch.equal(model(CAPTIONS, cache=True)["hidden"], before["hidden"])


def test_nothing_done_to_a_result_reaches_the_cache(model):
    first = model(CAPTIONS, cache=True)
    kept = {k: v.clone() for k, v in first.items()}
    first["hidden"].fill_(7)
    assert torch.equal(first["embedded"], kept["embedded"])  # nor the other feature
    first["embedded"].fill_(7)
    first["masks"].zero_()
    first["hidden"] = None
    second = model(CAPTIONS, cache=True)
    assert all(torch.equal(second[k], kept[k]) for k in kept)


def test_features_cached_in_inference_mode_serve_training(model):
    with torch.inference_mode():
        model(CAPTIONS, cache=True)
    spy = Spy(model)
    hidden = model(CAPTIONS, cache=True)["hidden"]
    scale = torch.ones(128, requires_grad=True)
    (hidden * scale).sum().backward()
    assert spy.encoded == 0 and not hidden.is_inference()
    torch.testing.assert_close(scale.grad, hidden.sum((0, 1)))


def test_dropout_is_not_cached(model):
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        model(CAPTIONS, cache=True)
    model.eval()
    model.language_backbone.body.model.encoder.layer[1].train()
    with pytest.raises(ValueError, match="training mode"):
        model(CAPTIONS, cache=True)


def test_a_wanted_gradient_is_not_cut_by_the_cache(model):
    first_weight(model).requires_grad_()
    with pytest.raises(ValueError, match="cut the gradient"):
        model(CAPTIONS, cache=True)
    with torch.no_grad():
        assert not model(CAPTIONS, cache=True)["hidden"].requires_grad
