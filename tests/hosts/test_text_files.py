"""Where the text encoder comes from: folders, weights under old names, the hub."""

import mmsdpt  # noqa: F401 - first: it makes MMDetection importable without compiled operators

# isort: split
import copy
import json
import logging
import shutil

import huggingface_hub
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict
from safetensors.torch import load_file, save_file

from mmsdpt.hosts.grounding.bert_folder import bert_config
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.utils.errors import CheckpointError, InputError
from mmsdpt.utils.language_models import MINI_BERT, language_model_folder
from tests.hosts.text_spy import first_weight, save_folder


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("pretrained", [True, "auto"])
def test_weights_of_a_folder_are_loaded(tmp_path, mini_bert, safe, pretrained):
    save_folder(mini_bert, tmp_path, safe)
    loaded = BertModel(name=str(tmp_path), pretrained=pretrained)
    assert loaded.training and all(m.training for m in loaded.modules())
    assert all(torch.equal(v, mini_bert.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_safetensors_are_preferred(tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a checkpoint")
    loaded = BertModel(name=str(tmp_path), pretrained=True)
    assert torch.equal(first_weight(loaded), first_weight(mini_bert))


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


def test_incomplete_weights_are_an_error(tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.2.output.dense.bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match="lack 1 of BERT's parameters, first 'encoder.layer.2.output.dense.bias'"
    ):
        BertModel(name=str(tmp_path))


def test_weights_of_another_shape_are_an_error(tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["encoder.layer.1.output.dense.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"dense.bias' has shape \(3,\) instead of \(128,\)"):
        BertModel(name=str(tmp_path))


def test_names_of_the_first_years_and_of_models_with_heads_load(tmp_path, mini_bert):
    """As in bert-base-uncased: ``bert.`` in front, ``gamma`` and ``beta``, heads."""
    save_folder(mini_bert, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    old = {"cls.predictions.bias": torch.zeros(5), "bert.pooler.dense.bias": torch.zeros(128)}
    for key, value in state.items():
        if "LayerNorm" in key:
            key = key.replace("weight", "gamma").replace("bias", "beta")
        old[f"bert.{key}"] = value.half()
    save_file(old, tmp_path / "model.safetensors")
    loaded = BertModel(name=str(tmp_path), pretrained=True).state_dict()
    for key, value in mini_bert.state_dict().items():
        assert loaded[key].dtype == torch.float32 and torch.equal(loaded[key], value.half().float())


def test_weights_in_several_files_load_and_names_stay_in_the_folder(tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "whole")
    state = load_file(tmp_path / "whole")
    places = {key: f"part{i % 2}.safetensors" for i, key in enumerate(state)}
    for part in ("part0.safetensors", "part1.safetensors"):
        save_file({k: v for k, v in state.items() if places[k] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    loaded = BertModel(name=str(tmp_path), pretrained=True).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in mini_bert.state_dict().items())
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "../whole")}))
    with pytest.raises(CheckpointError, match="index.json does not name the files beside it"):
        BertModel(name=str(tmp_path))


def test_a_config_that_is_not_json_is_one_sentence(tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)
    for content, message in (("{", "is not a JSON file"), ("[]", "holds a list, expected an")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=message) as caught:
            BertModel(name=str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "load",
    [lambda m, s: m.load_state_dict(s), lambda m, s: mmengine_load_state_dict(m, s, strict=True)],
)
def test_old_checkpoints_with_position_ids_load(mini_bert, load):
    model = copy.deepcopy(mini_bert)

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


def test_a_cached_hub_model_needs_no_network(monkeypatch, tmp_path, mini_bert):
    save_folder(mini_bert, tmp_path)

    def download(name, allow_patterns, local_files_only=False):
        assert local_files_only
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert language_model_folder("bert-base-uncased", weights=True) == tmp_path


def test_weights_are_fetched_only_for_the_encoder(monkeypatch, tmp_path, mini_bert):
    """A config needs no 400 MB; an encoder asks the hub when the cache holds the text files
    only.
    """
    save_folder(mini_bert, tmp_path)
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
    with pytest.raises(ValueError, match="is of type 'roberta', but the detectors need"):
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
