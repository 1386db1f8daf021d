"""Headers and configs from strangers: nothing of theirs is executed, fetched, or read elsewhere."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmsdpt.analysis import models
from mmsdpt.apis import Detector, recipe
from mmsdpt.apis.recipe import Recipe
from mmsdpt.utils.data_files import dataset_configs
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.untrusted import is_known_part

BOMB = "__import__('os').system('true')"
CASES = {
    "a function of a module": ("model.config.neck.type", "os.system", "the type os.system"),
    "MMEngine's own loader": ("model.config.neck.type", "mmengine.load", "the type mmengine.load"),
    "a name that reaches eval": ("model.config.test_cfg.nms.type", BOMB, "the type __import__"),
    "a part that fetches": (
        "model.config.backbone.type",
        "mmpretrain.TIMMBackbone",
        "does not build from a file",
    ),
    "weights of a part": ("model.config.backbone.pretrained", "http://a/b.pth", "pretrained="),
    "a URL": ("model.config.language_model.name", "https://a/b", "https://a/b"),
    "another host": ("model.config.type", "mmdet.RTMDet", "does not build"),
    "a huge size": ("model.config.backbone.embed_dims", 10**12, "more than"),
    "a transform that loads": ("data.pipeline.0.type", "Albu", "the type Albu"),
    "a package to import": ("model.config.backbone._scope_", "spy", "_scope_=spy"),
    "a storage of one's own": ("data.pipeline.0.backend_args", {"backend": "x"}, "backend_args"),
    "another registry": ("model.scope", "os", "scope"),
    "classes that are no texts": ("extra.classes", [1], "classes"),
    "no model": ("model.config", None, "does not name its model"),
    "a slot that is not there": ("slot", "other", "no slot other"),
    "an object in place of a list": (
        "data.pipeline",
        {"type": "os.system"},
        "does not name its model",
    ),
}


def with_header(path: Path, out: Path, key: str, value) -> Path:
    """The file with one entry of its header replaced."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["mmsdpt"])
    *parents, last = key.split(".")
    place = header
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    save_file(load_file(path), out, metadata={"mmsdpt": json.dumps(header)})
    return out


@pytest.mark.parametrize("name", CASES)
def test_a_header_that_asks_for_more_than_a_model_is_refused(name, tuned, tmp_path, monkeypatch):
    key, value, words = CASES[name]
    path = with_header(tuned, tmp_path / "bad.safetensors", key, value)
    monkeypatch.setattr(Recipe, "build", lambda self: pytest.fail("it was built"))
    with pytest.raises(InputError, match=words):
        Detector(path)


def test_what_a_header_says_of_init_weights_is_dropped(tuned, tmp_path):
    init = dict(type="Pretrained", checkpoint="http://127.0.0.1:9/weights.pth")
    path = with_header(tuned, tmp_path / "init.safetensors", "model.config.backbone.init_cfg", init)
    assert "init_cfg" not in Recipe.from_files(str(path)).model["backbone"]


def test_the_scope_of_an_inherited_config_is_accepted(tuned, tmp_path):
    """MMEngine notes it in each part of a config with ``_base_ = "mmsdpt::..."``."""
    for scope in ("mmsdpt", "mmdet"):
        path = with_header(tuned, tmp_path / "own.safetensors", "model.config._scope_", scope)
        assert Recipe.from_files(str(path)).model["_scope_"] == scope


def test_what_a_header_says_of_training_is_dropped(tuned, tmp_path):
    """MMEngine would import the module that a name of phrases begins with."""
    retention = dict(phrases="spy.Phrases")
    path = with_header(tuned, tmp_path / "kept.safetensors", "model.config.retention", retention)
    found = Recipe.from_files(str(path))
    assert (
        found.joined(replace(Recipe.from_files(str(tuned)), files={"b": "b"})).model == found.model
    )
    (tmp_path / "config.json").write_text(
        replace(found, model={**found.model, "retention": retention}).to_json()
    )
    assert "retention" not in Recipe.from_json(tmp_path / "config.json").model


def test_a_file_of_version_0_2_with_the_former_name_of_a_training_setting_loads(
    tuned_clip, tmp_path
):
    path = with_header(tuned_clip, tmp_path / "old.safetensors", "model.config.class_chunk", 40)
    assert Recipe.from_files(str(path)).model == Recipe.from_files(str(tuned_clip)).model


@pytest.mark.parametrize("file", ["../tuner.safetensors", "/etc/passwd", "..", "a\\b", ""])
def test_a_shared_config_names_no_file_outside_its_folder(file, tuned, tmp_path):
    content = json.loads(Recipe.from_files(str(tuned)).to_json())
    content["files"] = {"default": file}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="outside its folder"):
        Recipe.from_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.config.tuner.later", 1, "model.tuners.default.later is not a setting of mmsdpt.SD"),
        ("model.config.later", 1, "model.later is not a setting of mmsdpt.GLIP"),
        (
            "model.config.tuner.num_tokens",
            "ten",
            "num_tokens must be a positive integer, got 'ten'",
        ),
        ("model.config.tuner", {"num_tokens": 10}, "its tuner has a part without a type"),
        ("data.pipeline.1.later", 1, "pipeline.1.later is not a setting of"),
    ],
)
def test_settings_that_cannot_be_built_are_named_with_the_file(key, value, words, tuned, tmp_path):
    path = with_header(tuned, tmp_path / "odd.safetensors", key, value)
    with pytest.raises(InputError, match=f"odd.safetensors.*{words}"):
        Detector(path, device="cpu")


@pytest.mark.parametrize("files", [{}, {"x": "tuner.safetensors"}])
def test_a_shared_config_has_a_file_for_each_of_its_slots(files, tuned, tmp_path):
    content = json.loads(Recipe.from_files(str(tuned)).to_json())
    (tmp_path / "config.json").write_text(json.dumps({**content, "files": files}))
    with pytest.raises(InputError, match="slots default, but files for (none|x): each slot needs"):
        Recipe.from_json(tmp_path / "config.json")


@pytest.mark.parametrize("content", [b"[]", b"{", pickle.dumps({}), b'{"format": 1}'])
def test_what_is_no_shared_config_is_refused_in_one_sentence(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="is not the config of a shared model"):
        Recipe.from_json(tmp_path / "config.json")


def test_files_of_our_own_configs_can_be_used(repository):
    """Every part that a config of ours names is one that is built from a file."""

    def types(value):
        if isinstance(value, dict):
            yield from [value["type"]] if "type" in value else []
            value = [item for key, item in value.items() if key != "init_cfg"]
        if isinstance(value, (list, tuple)):
            for item in value:
                yield from types(item)

    unknown = set()
    for path in repository.glob("configs/_base_/models/*.py"):
        unknown |= {t for t in types(Config.fromfile(path).model.to_dict()) if not is_known_part(t)}
    for name in ("mini/sdpt_mini_raccoon", "mini/mudpt_mini_clothing", "sdpt/glip_l_coco_k10"):
        cfg = Config.fromfile(repository / f"configs/{name}.py", import_custom_modules=False)
        dataset = next(dataset_configs(cfg.test_dataloader.dataset))
        steps = {step.type for step in dataset.pipeline} - {"LoadAnnotations"}
        unknown |= {name for name in steps if not is_known_part(name)}
    assert unknown == set()


def test_files_of_version_0_1_ask_for_their_config(repository):
    path = repository / "tests/data/version_0_1/glip/sdpt.safetensors"
    with pytest.raises(InputError, match="give the config that it was trained with"):
        Detector(path)


def test_no_address_that_a_header_names_is_fetched(tuned, tmp_path):
    address = "http://127.0.0.1:9/base.pth"
    path = with_header(tuned, tmp_path / "url.safetensors", "model.load_from", address)
    with pytest.raises(InputError, match="download the file and give its path"):
        Detector(path, device="cpu")


@pytest.mark.parametrize("method", [None, ["SDPT"]])
def test_pages_of_models_refuse_a_header_without_a_method(method, tuned, make_tiny_cfg, tmp_path):
    path = str(with_header(tuned, tmp_path / "odd.safetensors", "method", method))
    tuners, _ = models.split_arguments([path])
    with pytest.raises(InputError, match="odd.safetensors holds method"):
        list(models.each_model(make_tiny_cfg(tmp_path / "run"), tuners, ()))


def test_pages_of_models_build_no_part_that_a_tuner_file_makes_up(monkeypatch):
    tuner = dict(type="os.system", command="true")
    header = dict(method="SDPT", slot="default", model=dict(config=dict(tuner=tuner)))
    header["data"] = dict(pipeline=[dict(type="PackDetInputs")])
    monkeypatch.setattr(recipe, "read_tuner_header", lambda path: header)
    cfg = Config(dict(model=dict(type="mmsdpt.CLIP")))
    with pytest.raises(InputError, match="has the type os.system, which mmsdpt does not build"):
        next(models.each_model(cfg, dict(SDPT="tuner.safetensors"), ()))
