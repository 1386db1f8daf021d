"""What is shared comes back: from a folder for every method, and through a hub."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mmsdpt.apis import Classifier, Detector, sharing
from mmsdpt.apis import recipe as recipes
from mmsdpt.apis.recipe import Recipe
from mmsdpt.apis.sharing import write_shared
from mmsdpt.utils.errors import InputError
from tests.apis.conftest import CLASSES, COLOURS
from tests.apis.test_untrusted_files import with_header
from tests.tuners.test_files_of_version_0_1 import FOLDER, NOW_SAID, RECORDS, reference


def test_a_shared_folder_gives_the_same_boxes_elsewhere(tuned, squares, tmp_path):
    detector = Detector({"fish": tuned, "night": tuned}, device="cpu")
    shared = detector.save_pretrained(tmp_path / "a", licence="apache-2.0")
    moved = shutil.move(shared, tmp_path / "b")
    again = Detector.from_pretrained(moved, device="cpu")
    assert again.slots == ("fish", "night") and again.classes == CLASSES
    expected, found = (model(squares[0], threshold=0) for model in (detector, again))
    assert np.array_equal(expected.boxes, found.boxes)
    assert np.array_equal(expected.scores, found.scores)
    again.save_pretrained(moved)  # over itself
    assert Detector.from_pretrained(moved, device="cpu").slots == again.slots


def test_sharing_replaces_no_other_training(tuned, tmp_path):
    """Neither a source of another slot nor a file of a run; what was shared before is replaced."""
    x, y = (tmp_path / f"{name}.safetensors" for name in "xy")
    shutil.copy(tuned, x)
    with_header(tuned, y, "extra.epoch", 2)
    swapped = Recipe.from_files({"x": str(y), "y": str(x)})
    shutil.copy(x, tmp_path / "tuner.safetensors")
    for recipe in (swapped, Recipe.from_files(str(y))):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(InputError, match="is from another training: choose another folder"):
            write_shared(recipe, tmp_path, kind="Detector")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    for file in (x, y):
        write_shared(Recipe.from_files(str(file)), tmp_path / "shared", kind="Detector")
        assert (tmp_path / "shared/tuner.safetensors").read_bytes() == file.read_bytes()


def test_sharing_leaves_no_files_of_other_slots(tuned, tmp_path):
    two, one = (
        Recipe.from_files(each) for each in ({"x": str(tuned), "y": str(tuned)}, str(tuned))
    )
    folder = write_shared(two, tmp_path / "shared", kind="Detector")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"so x.safetensors, y.safetensors would be left in it"):
        write_shared(one, folder, kind="Detector")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert write_shared(two, folder, kind="Detector") == folder


def test_sharing_replaces_no_readme_or_config_of_another_project(tuned, tmp_path):
    recipe = Recipe.from_files(str(tuned))
    for name, content in {"README.md": "# My project", "config.json": '{"files": []}'}.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(
            InputError, match=f"{name} would be overwritten, but is not part of a shared"
        ):
            write_shared(recipe, folder, kind="Detector")
        assert [path.read_text() for path in folder.iterdir()] == [content]


def test_a_share_that_fails_leaves_the_earlier_one_whole(tuned, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    with_header(tuned, other, "extra.classes", ["boat"])
    folder = write_shared(Recipe.from_files(str(tuned)), tmp_path / "shared", kind="Detector")
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def full(path, content):
        if Path(path).name != "tuner.safetensors":
            raise OSError(28, "No space left on device", str(path))
        Path(path).write_bytes(content)

    monkeypatch.setattr(sharing, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        write_shared(Recipe.from_files(str(other)), folder, kind="Detector")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_shared_is_what_was_loaded(tuned, tmp_path, monkeypatch):
    """Not the file of a training that came after, and from whatever directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tuned, "tuner.safetensors")
    detector = Detector("tuner.safetensors", device="cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    detector.save_pretrained("shared")
    assert Path("shared/tuner.safetensors").read_bytes() == Path(tuned).read_bytes()
    with_header(tuned, tmp_path / "tuner.safetensors", "extra.epoch", 2)
    for share in (detector.save_pretrained, detector.push_to_hub):
        with pytest.raises(InputError, match="replaced after it was loaded: load it again"):
            share("person/model")
    (tmp_path / "tuner.safetensors").unlink()
    with pytest.raises(InputError, match="tuner file not found"):
        detector.save_pretrained("shared")


def test_from_pretrained_takes_a_tuner_file(tuned):
    assert Detector.from_pretrained(tuned, device="cpu").classes == CLASSES


def test_files_of_a_study_and_of_a_run_have_one_model(tuned, tmp_path):
    """A study's have the copies that MMDetection puts into the head's config."""
    of_study = tmp_path / "of_study.safetensors"
    with_header(tuned, of_study, "model.config.bbox_head.test_cfg", {"score_thr": 0.0})
    with_header(of_study, of_study, "model.config.bbox_head.train_cfg", None)
    found = Recipe.from_files({"a": str(tuned), "b": str(of_study)})
    assert list(found.tuners) == ["a", "b"] and found.model == Recipe.from_files(str(tuned)).model


def test_files_add_up_and_what_contradicts_is_said(tuned, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(recipes, "print_log", lambda text, *_: said.append(text))
    other, third = tmp_path / "other.safetensors", tmp_path / "third.safetensors"
    with_header(tuned, other, "data.captions", {"boat": {"prefix": "a "}})
    with_header(other, other, "extra.classes", ["boat", CLASSES[0]])
    files = {"a": str(tuned), "b": str(other)}
    found = Recipe.from_files(files)
    assert found.classes == [*CLASSES, "boat"] and found.captions == {"boat": {"prefix": "a "}}
    assert list(found.tuners) == list(found.files) == ["a", "b"] and not said
    with_header(other, third, "data.captions", {"boat": {"prefix": "the "}})
    with_header(third, third, "data.pipeline.1.scale", [640, 640])
    with_header(third, third, "data.templates", ["a {}."])
    found = Recipe.from_files({**files, "c": str(third)})
    assert found.captions == {"boat": {"prefix": "a "}} and found.templates == ["a {}."]
    assert found.pipeline == Recipe.from_files(files).pipeline
    assert len(said) == 1 and "different pipeline of the images and captions than" in said[0]


def test_with_a_config_the_classes_of_all_files_are_known(tuned, tmp_path):
    other, config = tmp_path / "other.safetensors", tmp_path / "config.json"
    with_header(tuned, other, "extra.classes", ["boat"])
    recipe = Recipe.from_files({"a": str(tuned), "b": str(other)})
    dataset = dict(type="CocoDataset", pipeline=recipe.pipeline)
    content = dict(model=dict(recipe.model, tuners=recipe.tuners))
    content["test_dataloader"] = dict(dataset=dataset)
    config.write_text(json.dumps(content))
    assert Recipe.from_config(str(config), recipe.files).classes == [*CLASSES, "boat"]


def test_the_card_says_what_the_files_say(tuned, tmp_path):
    detector = Detector(tuned, device="cpu")
    licence = "CC BY 4.0: ask #me"
    detector.save_pretrained(tmp_path, licence=licence, data="squares <b>", command="train.py `x`")
    _, head, body = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["license"] == licence
    for words in ("| method | `SDPT` |", "red square, blue square", "bbox_mAP", "base.safetensors"):
        assert words in body
    assert "<b>" not in body and "`train.py x`" in body


# The first file of each method.
BY_METHOD = {
    (name.split("/")[0], record["tuner"]["type"]): name
    for name, record in sorted(RECORDS["files"].items(), reverse=True)
}


@pytest.mark.parametrize("name", sorted(BY_METHOD.values()))
def test_files_of_every_method_come_back_from_a_folder(name, bases, tmp_path):
    """Those of version 0.1, which need a config: the folder then says what it said."""
    host, file = name.split("/")
    tuner = {**RECORDS["files"][name]["tuner"], **NOW_SAID.get(name, {})}
    model = json.loads(json.dumps(RECORDS["hosts"][host]).replace('"BERT"', f'"{FOLDER}/bert"'))
    scope = dict(glip="mmdet", clip="mmpretrain")[host]
    pack = dict(glip="PackDetInputs", clip="PackInputs")[host]
    pipeline = [dict(type="LoadImageFromFile"), dict(type=pack)]
    config = tmp_path / "config.json"
    content = dict(
        default_scope=scope,
        model=dict(model, tuner=tuner),
        load_from=str(bases[host]),
        test_dataloader=dict(dataset=dict(type="CocoDataset", pipeline=pipeline)),
    )
    config.write_text(json.dumps(content))
    kind = dict(glip=Detector, clip=Classifier)[host]
    expected = kind(FOLDER / f"{name}.safetensors", config=config, device="cpu")
    expected.save_pretrained(tmp_path / "shared")
    found = kind.from_pretrained(tmp_path / "shared", device="cpu")
    before, after = (each.model.state_dict() for each in (expected, found))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert found.model.tuners["default"].config() == expected.model.tuners["default"].config()


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """Base weights of the hosts of version 0.1."""
    folder, found = tmp_path_factory.mktemp("bases"), {}
    for host, config in RECORDS["hosts"].items():
        state = reference.build(host, config).state_dict()
        found[host] = folder / f"{host}.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, found[host])
    return found


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as one model takes: files are kept in ``files``."""

    files: dict[str, bytes] = {}
    created: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://{self.headers['Host']}/person/model"

    def log_message(self, *args) -> None:
        pass

    def _answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        name = self.path.partition("/resolve/main/")[2]
        if name in self.files:
            content = self.files[name]
            self._answer(content, ETag=f'"{sha1(content).hexdigest()}"', X_Repo_Commit="a" * 40)
        else:
            self._answer(b"{}", 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self._answer(json.dumps(dict(url=self.url)).encode())
        elif self.path == "/api/validate-yaml":
            self._answer(b'{"errors": [], "warnings": []}')
        elif "/preupload/" in self.path:
            modes = [
                dict(path=f["path"], uploadMode="regular", shouldIgnore=False)
                for f in json.loads(body)["files"]
            ]
            self._answer(json.dumps(dict(files=modes)).encode())
        else:
            assert "/commit/" in self.path
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            commit = dict(commitUrl=f"{self.url}/commit/1", commitOid="a" * 40)
            self._answer(json.dumps(commit).encode())


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[type[Hub]]:
    """The stand-in, where huggingface_hub looks for the hub (HF_ENDPOINT)."""
    from huggingface_hub import constants, file_download

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    for module in (constants, file_download):  # where versions of huggingface_hub read it
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    Hub.files, Hub.created = {}, []
    yield Hub
    server.shutdown()


def test_a_model_goes_to_the_hub_and_comes_back(tuned_clip, squares, hub):
    classifier = Classifier(tuned_clip, device="cpu")
    url = classifier.push_to_hub("person/model", token="hf_x", licence="mit")
    assert url.endswith("/commit/1")
    # huggingface_hub 2 writes the word in place of the flag.
    assert hub.created[0].get("private") is True or hub.created[0]["visibility"] == "private"
    assert sorted(hub.files) == ["README.md", "config.json", "tuner.safetensors"]
    again = Classifier.from_pretrained("person/model", device="cpu")
    assert again.classes == tuple(sorted(COLOURS))
    assert np.array_equal(again(squares[0]).scores, classifier(squares[0]).scores)


def test_a_model_that_is_not_on_the_hub_ends_in_one_sentence(hub):
    with pytest.raises(InputError, match="could not be downloaded from the hub"):
        Detector.from_pretrained("person/other")


def test_a_hub_that_cannot_be_reached_ends_in_one_sentence(tuned_clip, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match="the upload of person/model to the hub failed: .*refused"):
        Classifier(tuned_clip, device="cpu").push_to_hub("person/model", token="hf_x")


def test_a_hub_model_cannot_name_files_outside_its_repository(tuned, hub, tmp_path):
    Detector(tuned, device="cpu").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["files"] = {"default": "../../other/model/tuner.safetensors"}
    hub.files["config.json"] = json.dumps(content).encode()
    with pytest.raises(InputError, match="outside its folder"):
        Detector.from_pretrained("person/model")


def test_a_folder_in_place_of_a_tuner_file_is_called_one(tmp_path):
    with pytest.raises(InputError, match="is a folder: .* from_pretrained$"):
        Detector(tmp_path, device="cpu")
