import mmsdpt  # noqa: F401 - first: it makes MMDetection importable without compiled operators

# isort: split
import copy
import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from mmdet.models.language_models import BertModel as MMDetBertModel
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict
from safetensors.torch import load_file, save_file

from mmsdpt.hosts.grounding.bert_folder import bert_config
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import CheckpointError, InputError
from mmsdpt.utils.language_models import MINI_BERT, language_model_folder, mini_bert_folder
from tests.hosts.mmdet_bert import needs_mmdetections_bert
from tests.hosts.text_spy import Spy

CAPTIONS = ["striped blue star. red circle", "raccoon", "a cow that is brown. penguin. zyx-wolf"]


@pytest.fixture(scope="module")
def built() -> BertModel:
    torch.manual_seed(0)
    return BertModel(name=MINI_BERT, pretrained=False).eval().requires_grad_(False)


@pytest.fixture
def model(built) -> BertModel:
    """A model of the test's own, so that a test may change its weights."""
    return copy.deepcopy(built)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


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


def test_tokenizer_spells_any_word(built):
    text = "qzxjkvw supercalifragilistic 0x7f9 o'neill foo-bar_baz r2d2 (50%) don't!"
    tokens = built.tokenizer.tokenize(text)
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
def test_common_class_names_are_words_of_their_own(built, text):
    assert built.tokenizer.tokenize(text) == text.split()


def test_tokenizer_maps_characters_to_tokens(built):
    tokenized = built.tokenizer(["a zzq. Red star"])
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
def test_equals_mmdetections_model_of_the_same_folder(tmp_path, built, kwargs):
    save_folder(built, tmp_path)
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


def test_attention_forms_agree():
    sdpa = BertModel(name=MINI_BERT, pretrained=False, attn_implementation="sdpa").eval()
    eager = BertModel(name=MINI_BERT, pretrained=False, attn_implementation="eager").eval()
    for model, written_out in ((eager, True), (sdpa, False)):
        for layer in model.language_backbone.body.model.encoder.layer:
            assert layer.attention.self.written_out is written_out
    eager.load_state_dict(sdpa.state_dict())
    with torch.no_grad():
        assert_same_features(sdpa(CAPTIONS), eager(CAPTIONS), atol=1e-6)


def test_checkpointing_keeps_the_gradient_of_later_layers():
    plain = BertModel(name=MINI_BERT, pretrained=False)
    saving = BertModel(name=MINI_BERT, pretrained=False, use_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    gradients = []
    for model in (plain, saving):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.language_backbone.body.model.embeddings.requires_grad_(False)
        model(CAPTIONS)["hidden"].square().sum().backward()
        gradients.append(
            model.language_backbone.body.model.encoder.layer[0].attention.self.query.weight.grad
        )
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


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


def first_weight(model: BertModel) -> torch.nn.Parameter:
    return model.language_backbone.body.model.encoder.layer[0].attention.self.value.weight


def change_in_place(model: BertModel) -> None:
    first_weight(model).mul_(1.5)


def change_by_loading(model: BertModel) -> None:
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})


def change_by_assigning(model: BertModel) -> None:
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()}, assign=True)


def change_by_loading_inside(model: BertModel) -> None:
    bert = model.language_backbone.body.model
    bert.load_state_dict({k: v * 1.1 for k, v in bert.state_dict().items()})


def change_by_optimizer(model: BertModel) -> None:
    weight = first_weight(model)
    weight.grad = torch.randn_like(weight)
    torch.optim.AdamW([weight], lr=0.1).step()


def change_by_replacing(model: BertModel) -> None:
    first_weight(model).data = first_weight(model).data * 2


def change_and_come_back(model: BertModel) -> None:
    model.bfloat16().float()  # the addresses may be the old ones, the values are rounded


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_by_loading,
        change_by_assigning,
        change_by_loading_inside,
        change_by_optimizer,
        change_by_replacing,
        change_and_come_back,
        lambda model: model.double(),
    ],
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


# --- where the model comes from


def save_folder(model: BertModel, folder, safe: bool = True) -> None:
    state = model.language_backbone.body.model.state_dict()
    if safe:
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, f"{folder}/pytorch_model.bin")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(f"{mini_bert_folder()}/{name}", folder)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("pretrained", [True, "auto"])
def test_weights_of_a_folder_are_loaded(tmp_path, built, safe, pretrained):
    save_folder(built, tmp_path, safe)
    loaded = BertModel(name=str(tmp_path), pretrained=pretrained)
    assert loaded.training and all(m.training for m in loaded.modules())
    assert all(torch.equal(v, built.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_safetensors_are_preferred(tmp_path, built):
    save_folder(built, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a checkpoint")
    loaded = BertModel(name=str(tmp_path), pretrained=True)
    assert torch.equal(first_weight(loaded), first_weight(built))


def test_auto_without_weights_warns(caplog):
    logger = MMLogger.get_instance("a run without base weights")
    logger.addHandler(caplog.handler)
    try:
        BertModel(name=MINI_BERT)
        messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert (
            len(
                [m for m in messages if "random until a checkpoint that includes it is loaded" in m]
            )
            == 1
        )
        caplog.clear()
        BertModel(name=MINI_BERT, pretrained=False)
        assert not [r for r in caplog.records if "random" in r.getMessage()]
    finally:
        logger.removeHandler(caplog.handler)


def test_missing_weights_are_an_error_when_asked_for():
    with pytest.raises(FileNotFoundError, match="has no weights; give a folder with config.json"):
        BertModel(name=MINI_BERT, pretrained=True)


def test_incomplete_weights_are_an_error(tmp_path, built):
    save_folder(built, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.2.output.dense.bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match="lack 1 of BERT's parameters, first 'encoder.layer.2.output.dense.bias'"
    ):
        BertModel(name=str(tmp_path))


def test_weights_of_another_shape_are_an_error(tmp_path, built):
    save_folder(built, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["encoder.layer.1.output.dense.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"dense.bias' has shape \(3,\) instead of \(128,\)"):
        BertModel(name=str(tmp_path))


def test_names_of_the_first_years_and_of_models_with_heads_load(tmp_path, built):
    """As in bert-base-uncased: ``bert.`` in front, ``gamma`` and ``beta``, heads."""
    save_folder(built, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    old = {"cls.predictions.bias": torch.zeros(5), "bert.pooler.dense.bias": torch.zeros(128)}
    for key, value in state.items():
        if "LayerNorm" in key:
            key = key.replace("weight", "gamma").replace("bias", "beta")
        old[f"bert.{key}"] = value.half()
    save_file(old, tmp_path / "model.safetensors")
    loaded = BertModel(name=str(tmp_path), pretrained=True).state_dict()
    for key, value in built.state_dict().items():
        assert loaded[key].dtype == torch.float32 and torch.equal(loaded[key], value.half().float())


def test_weights_in_several_files_load_and_names_stay_in_the_folder(tmp_path, built):
    save_folder(built, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "whole")
    state = load_file(tmp_path / "whole")
    places = {key: f"part{i % 2}.safetensors" for i, key in enumerate(state)}
    for part in ("part0.safetensors", "part1.safetensors"):
        save_file({k: v for k, v in state.items() if places[k] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    loaded = BertModel(name=str(tmp_path), pretrained=True).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in built.state_dict().items())
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "../whole")}))
    with pytest.raises(CheckpointError, match="index.json does not name the files beside it"):
        BertModel(name=str(tmp_path))


def test_a_config_that_is_not_json_is_one_sentence(tmp_path, built):
    save_folder(built, tmp_path)
    for content, message in (("{", "is not a JSON file"), ("[]", "holds a list, expected an")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=message) as caught:
            BertModel(name=str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "load",
    [lambda m, s: m.load_state_dict(s), lambda m, s: mmengine_load_state_dict(m, s, strict=True)],
)
def test_old_checkpoints_with_position_ids_load(model, load):
    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.language_model = model

    detector = Detector()
    state = {k: v + 1 for k, v in detector.state_dict().items()}
    state["language_model.language_backbone.body.model.embeddings.position_ids"] = torch.arange(
        512
    )[None]
    size = len(state)
    load(detector, state)
    assert len(state) == size  # the caller's dict is left alone
    assert torch.equal(
        first_weight(model), state["language_model." + name_of(model, first_weight(model))]
    )


def name_of(model, parameter) -> str:
    return next(n for n, p in model.named_parameters() if p is parameter)


def is_one_sentence(error: BaseException) -> bool:
    """One line, without another exception's traceback above it."""
    return "\n" not in str(error) and error.__cause__ is None and error.__context__ is None


def test_unknown_name_offline_says_how_to_provide_it(offline, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        BertModel(name="some-org/no-such-bert")
    for part in (
        "'some-org/no-such-bert'",
        "--cfg-options lang_model_name=PATH",
        "config.json and vocab.txt",
    ):
        assert part in str(caught.value)
    assert is_one_sentence(caught.value)


def test_no_network_is_tried_offline(offline, monkeypatch):
    calls = []

    def download(name, local_files_only=False, **kwargs):
        calls.append(local_files_only)
        raise FileNotFoundError("nothing cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded \(offline mode is set\)"):
        bert_config("bert-base-uncased")
    assert calls == [True]


def test_a_cached_hub_model_needs_no_network(monkeypatch, tmp_path, built):
    save_folder(built, tmp_path)

    def download(name, allow_patterns, local_files_only=False):
        assert local_files_only
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert language_model_folder("bert-base-uncased", weights=True) == tmp_path


def test_weights_are_fetched_only_for_the_encoder(monkeypatch, tmp_path, built):
    """A config needs no 400 MB; an encoder asks the hub when the cache holds the text files
    only.
    """
    save_folder(built, tmp_path)
    weights = tmp_path / "model.safetensors"
    aside = weights.rename(tmp_path / "aside")

    def download(name, allow_patterns, local_files_only=False):
        if not local_files_only and weights.name in allow_patterns:
            shutil.copy(aside, weights)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    bert_config("bert-base-uncased")
    assert not weights.exists()
    language_model_folder("bert-base-uncased", weights=True)
    assert weights.exists()


def test_missing_folder_and_files_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="folder '/no/such/bert' does not exist; give a folder"
    ) as caught:
        bert_config("/no/such/bert")
    assert is_one_sentence(caught.value)
    with pytest.raises(FileNotFoundError, match="has no config.json; give a folder"):
        bert_config(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(FileNotFoundError, match="has no vocab.txt; give a folder"):
        bert_config(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(ValueError, match="is of type 'roberta', but GLIP needs type 'bert'"):
        bert_config(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="'mmsdpt://nothing' is not part of mmsdpt"):
        bert_config("mmsdpt://nothing")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"max_tokens": 300},
            "max_tokens is 300, but the language model 'mmsdpt://mini_bert' takes 256 at most",
        ),
        ({"pretrained": "yes"}, "pretrained must be True, False or 'auto', but it is 'yes'"),
        ({"max_cached_captions": 0}, "max_cached_captions must be at least 1"),
        ({"use_sub_sentence_represent": True}, "needs special_tokens_list"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BertModel(name=MINI_BERT, **{"pretrained": False, **kwargs})
