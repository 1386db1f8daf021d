"""Promises of what the page computes, without a browser."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from mmsdpt.apis import Classifier, Detector
from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.errors import InputError
from projects.web_demo import models
from projects.web_demo.__main__ import main as serve_page
from projects.web_demo.models import Workbench

ROOT = Path(__file__).parents[3]
TUNERS = ROOT / "projects" / "web_demo" / "tuners"


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> tuple[list[str], list[str]]:
    return models.draw_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    """The page's own tuner file, twice, and files that are none."""
    folder = tmp_path_factory.mktemp("tuners")
    (folder / "run 1").mkdir()
    shutil.copy(TUNERS / "thermal.safetensors", folder / "run 1" / "tuner.safetensors")
    shutil.copy(TUNERS / "thermal.safetensors", folder / "thermal.safetensors")
    shutil.copy(ROOT / "mmsdpt/assets/mini_glip/mini_glip.safetensors", folder)
    (folder / "broken.safetensors").write_bytes(b"none")
    config = str(ROOT / "configs/mini/sdpt_mini_thermal.py")
    return Workbench(Detector, [str(folder), "no such folder"], config, device="cpu")


def test_without_the_extra_the_page_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    monkeypatch.setattr(sys, "argv", ["web_demo"])
    with pytest.raises(InputError, match=r"pip install -e '\.\[web\]'"):
        serve_page()


def test_a_port_that_cannot_be_used_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        for port, reason in ((other.getsockname()[1], "already in use"), (70_000, "0-65535")):
            monkeypatch.setattr(sys, "argv", ["web_demo", "--port", str(port)])
            with pytest.raises(InputError, match=f"{reason}.*choose others with --port"):
                serve_page()


def test_only_tuner_files_of_the_host_can_be_chosen(bench):
    assert bench.files() == ["run 1/tuner.safetensors (SDPT)", "thermal.safetensors (SDPT)"]
    assert models.find_tuner_files(bench.folders, Classifier) == {}
    assert Workbench.slots(bench.files()) == ["run_1_tuner", "thermal"]
    assert Workbench.slots(["1.safetensors (A)", "s_1.safetensors (A)"]) == ["s_1", "s_1_"]
    names = Workbench.slots([f"{name}.safetensors (A)" for name in ("flöße", "train", "values")])
    assert names == list(resolve_slots(None, dict.fromkeys(names, {})))
    both = models.find_tuner_files([bench.folders[0], str(TUNERS)] * 2, Detector)
    assert {
        path for label, path in both.items() if label.endswith("/thermal.safetensors (SDPT)")
    } == {f"{folder}/thermal.safetensors" for folder in (bench.folders[0], TUNERS)}
    with pytest.raises(InputError, match="not there any more"):
        bench.classes(["/etc/passwd (SDPT)"])


def test_before_is_the_base_model_and_after_has_the_slots_that_are_on(bench, examples, tmp_path):
    path, chosen = examples[0][0], bench.files()[1:]
    before, after, rows = bench.predict(path, chosen, ["thermal"], "", 0.3, "", tmp_path)
    model = Detector(TUNERS / "thermal.safetensors", device="cpu")
    expected = [("after", each.name, round(each.score, 3)) for each in model(path)]
    with model.tuners_off():
        expected[:0] = [("before", each.name, round(each.score, 3)) for each in model(path)]
    assert [row[:3] for row in rows] == expected
    assert {when for when, *_ in expected} == {"before", "after"}
    assert Image.open(before).size == Image.open(after).size
    _, _, off = bench.predict(path, chosen, [], "", 0.3, "", tmp_path)
    names = [[row[1:] for row in off if row[0] == when] for when in ("before", "after")]
    assert names[0] == names[1] == [row[1:] for row in rows if row[0] == "before"]
    picture = bench.attention(path, chosen, ["thermal"], "", "", tmp_path)
    assert Image.open(picture).width > 600


@pytest.mark.parametrize(
    ("classes", "words"),
    [(",".join(map(str, range(51))), "51 classes"), ("x" * 2001, "2001 letters")],
)
def test_too_much_is_refused_before_a_model_is_built(bench, examples, classes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        bench.predict(examples[0][0], [], [], classes, 0.3, "", tmp_path)
    with pytest.raises(InputError, match="type some$"):
        bench.predict(examples[0][0], [], [], "", 0.3, "", tmp_path)
    assert models.classes_of("a, b,\n,a") == ["a", "b"] and models.classes_of(" ,") is None
    with pytest.raises(InputError, match="choose an example"):
        bench.predict(None, [], [], "", 0.3, "", tmp_path)
    Image.new("1", (6000, 5000)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="6000 x 5000 pixels"):
        bench.predict(str(tmp_path / "large.png"), [], [], "", 0.3, "", tmp_path)


def test_the_classifier_takes_any_words(examples, tmp_path):
    config = str(ROOT / "configs/mini/mudpt_mini_clothing.py")
    bench = Workbench(Classifier, [], config, device="cpu")
    path = examples[1][0]
    _, _, rows = bench.predict(path, [], [], "t-shirt, hat", 0.3, "a photo of a {}.", tmp_path)
    assert [row[0] for row in rows] == ["before"] * 2 + ["after"] * 2
    assert rows[:2] == [("before", *row[1:]) for row in rows[2:]]
    assert sum(row[2] for row in rows[:2]) == pytest.approx(1, abs=0.002)
    picture = bench.attention(path, [], [], "t-shirt, hat", "", tmp_path)
    assert Image.open(picture).height > 300


def test_the_tuner_file_of_clip_is_used_on_drawn_clothes(examples, tmp_path):
    config = str(ROOT / "configs/mini/mudpt_mini_clothing.py")
    bench = Workbench(Classifier, [str(ROOT / "projects/model_zoo")], config, device="cpu")
    chosen = bench.files()
    assert chosen == ["mudpt_mini_clip_drawn_clothes.safetensors (MuDPT)"]
    path = next(path for path in examples[1] if "glove" in path)
    *_, rows = bench.predict(path, chosen, Workbench.slots(chosen), "", 0.0, "", tmp_path)
    before, after = ([row[1:] for row in rows if row[0] == when] for when in ("before", "after"))
    assert {name for name, _ in after} == set(bench.classes(chosen)) and len(after) == 6
    assert before != after
