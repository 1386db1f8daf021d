"""Promises of tools/image_demo.py, and of tools/test.py --out FILE.json."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsdpt.analysis.models import BEFORE, Pictures, each_model
from mmsdpt.apis import Classifier, Detector
from mmsdpt.engine import build_runner
from mmsdpt.evaluation import JsonResults
from mmsdpt.utils.errors import InputError
from tests.apis.conftest import CLASSES, COLOURS, save_with_noise
from tests.apis.test_toolbox import as_file
from tests.run_tools import run


def test_image_demo_writes_pictures_json_and_coco_results(
    tuned, squares, tiny_folder, tmp_path, capsys
):
    code = run(
        "image_demo.py", Path(squares[0]).parent, tuned, "--out-dir", tmp_path / "out",
        "--threshold", 0, "--json", tmp_path / "a.json", "--coco-json", tmp_path / "coco.json",
        "--annotations", tiny_folder / "squares/annotations.json", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert f"{squares[0]}: " in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == len(squares)
    results = Detector(tuned, device="cpu")(squares, threshold=0)
    found = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [image["detections"] for image in found] == [r.to_dict()["detections"] for r in results]
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert coco == results.to_coco(tiny_folder / "squares/annotations.json")


def test_image_demo_takes_many_classes_in_several_captions(tuned, squares, tmp_path, capsys):
    words = ["--classes", ",".join(["red square", *(f"thing {i}" for i in range(300))])]
    words += ["--threshold", 0, "--device", "cpu", "--out-dir", tmp_path]
    assert run("image_demo.py", squares[0], tuned, *words) == 2
    assert "--chunked-size 40" in capsys.readouterr().err
    assert run("image_demo.py", squares[0], tuned, *words, "--chunked-size", 40) == 0
    assert "thing 2" in capsys.readouterr().out


def test_image_demo_classifies_with_other_words(tuned_clip, squares, tmp_path, capsys):
    words = ["--classes", "boat,green", "--template", "a {}.", "--device", "cpu"]
    assert run("image_demo.py", squares[0], tuned_clip, *words, "--out-dir", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "boat 0." in shown and "green 0." in shown
    with Image.open(tmp_path / "0.png") as picture:
        assert picture.width >= 640


def test_image_demo_takes_what_a_folder_may_hold(tuned, squares, tmp_path):
    """Formats that no picture is written in, and a name that is no UTF-8."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = ["a.png", "b.bmp", "c.jfif", "d.ppm", os.fsdecode(b"caf\xe9.png")]
    with Image.open(squares[0]) as image:
        for name in names:
            image.save(folder / name)
    file, out = tmp_path / "a.json", tmp_path / "out"
    options = ["--json", file, "--out-dir", out, "--device", "cpu"]
    assert run("image_demo.py", folder, tuned, *options) == 0
    results = json.loads(file.read_bytes())["results"]
    assert sorted(each["image"] for each in results) == sorted(str(folder / n) for n in names)
    pictures = {"a.png", "b.bmp.png", "c.jfif.png", "d.ppm.png", names[-1]}
    assert {path.name for path in out.iterdir()} == pictures


def test_image_demo_writes_results_before_pictures(tuned, squares, tmp_path, capsys):
    image = tmp_path / "image.png"
    shutil.copy(squares[0], image)
    options = ["--json", tmp_path / "a.json", "--coco-json", tmp_path / "b.json", "--device", "cpu"]
    assert run("image_demo.py", image, tuned, *options, "--out-dir", tmp_path) == 2
    assert "image.png would overwrite one of the images" in capsys.readouterr().err
    assert image.read_bytes() == Path(squares[0]).read_bytes()
    assert (tmp_path / "a.json").is_file() and (tmp_path / "b.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jpg", "x.safetensors"], "image or folder not found: nowhere.jpg"),
        (["tests", "nowhere.safetensors"], "tuner file not found"),
        (["tests"], "give a tuner file"),
        (["tests", "a=x.safetensors", "y.safetensors"], "write SLOT=FILE"),
        (["tests", "no such folder"], "neither a tuner file, nor a folder"),
        (["tests", "x.safetensors", "--classes", "cat,cat"], "--classes needs different names"),
        (["tests", "x.safetensors", "--classes", ","], "--classes needs different names"),
        (["tests", "x.safetensors", "--threshold", "7"], "between 0 and 1, got 7"),
        (["tests", "x.safetensors", "--chunked-size", "0"], "--chunked-size must be a positive"),
        (["tests", "x.safetensors", "--top-k", "-1"], "--top-k must be a positive integer"),
        (["FOLDER/tuner.safetensors", "FOLDER/photo.jpg"], "give the image or folder first"),
        (["tests", "FOLDER/epoch_3.pth"], "the checkpoint of a run: give the tuner file"),
        (["tests", "FOLDER/photo.jpg"], "not a tuner file: give the tuner file"),
        (["tests", "x.safetensors", "--json", "FOLDER/photo.jpg"], "--json must be a .json file"),
        (
            ["tests", "x.safetensors", "--coco-json", "a.json", "--annotations", "FOLDER/none"],
            "FOLDER/none cannot be read",
        ),
    ],
)
def test_image_demo_says_in_one_sentence_what_is_wrong(arguments, words, capsys, tmp_path):
    for name in ("tuner.safetensors", "photo.jpg", "epoch_3.pth"):
        (tmp_path / name).touch()
    arguments = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    assert run("image_demo.py", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words.replace("FOLDER", str(tmp_path)) in error


def test_a_place_that_nothing_can_be_written_to_is_named_before_the_work(
    tuned, squares, tmp_path, capsys
):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert run("image_demo.py", squares[0], tuned, "--device", "cpu", "--out-dir", out) == 2
    shown = capsys.readouterr()
    assert not shown.out and "there is a file where a folder is needed" in shown.err


def test_annotations_of_other_images_or_classes_are_refused_before_the_work(
    tuned, squares, tiny_folder, tmp_path, capsys
):
    annotations = tiny_folder / "squares/annotations.json"
    other = shutil.copy(squares[0], tmp_path / "other.png")
    for arguments, words in (
        ([other], "has no image " + str(other)),
        ([tmp_path], "has no image " + str(other)),
        ([squares[0], "--classes", "tree"], "has no class tree"),
    ):
        code = run(
            "image_demo.py", arguments[0], tuned, *arguments[1:], "--device", "cpu", "--out-dir",
            tmp_path / "out", "--coco-json", tmp_path / "a.json", "--annotations", annotations,
        )  # fmt: skip
        shown = capsys.readouterr()
        assert code == 2 and words in shown.err and str(other) + ":" not in shown.out
        assert not list((tmp_path).glob("out/*"))


def test_an_image_that_cannot_be_read_is_said_without_annotations(tuned, tmp_path):
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(InputError, match="replace the file or leave it out$"):
        Detector(tuned, device="cpu")(tmp_path / "a.png")


def test_options_of_the_other_kind_of_model_are_refused(tuned, tuned_clip, squares, capsys):
    arguments = [squares[0], tuned_clip, "--device", "cpu", "--chunked-size", 40]
    assert run("image_demo.py", *arguments) == 2
    assert "--chunked-size is for detectors" in capsys.readouterr().err
    arguments = [squares[0], tuned, "--device", "cpu", "--template", "a {}."]
    assert run("image_demo.py", *arguments) == 2
    assert "--template is for classifiers" in capsys.readouterr().err


def test_slots_that_cannot_be_are_refused_in_one_sentence(tuned, tuned_clip, squares, capsys):
    assert run("image_demo.py", squares[0], f"my-fish={tuned}", "--device", "cpu") == 2
    assert "letters, digits and _, got 'my-fish'" in capsys.readouterr().err
    two = [f"{slot}={tuned_clip}" for slot in "ab"]
    assert run("image_demo.py", squares[0], *two, "--device", "cpu") == 2
    assert "MuDPT and MuDPT both replace text_inputs[0]" in capsys.readouterr().err


def test_the_test_tool_writes_boxes_as_cocos_metric_does(tuned, make_tiny_cfg, tmp_path):
    cfg = make_tiny_cfg(tmp_path)
    cfg.test_evaluator.outfile_prefix = str(tmp_path / "metric")
    config = as_file(cfg, tmp_path)
    assert run("test.py", config, tuned, "--out", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == json.loads((tmp_path / "metric.bbox.json").read_text()) and found


def test_the_test_tool_writes_the_probabilities_of_a_classifier(tuned_clip, clip_cfg, tmp_path):
    config = as_file(clip_cfg, tmp_path)
    assert run("test.py", config, tuned_clip, "--out", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found) == 2 * len(COLOURS)
    for image in found:
        assert Path(image["image"]).is_file() and np.argmax(image["scores"]) == image["label"]
        assert image["name"] == sorted(COLOURS)[image["label"]]


def test_tuners_off_is_the_base_model_where_parts_of_it_trained_beside_the_tuner(
    make_tiny_cfg, tuned, squares, tmp_path
):
    cfg = make_tiny_cfg(tmp_path / "run")
    cfg.model.trainable = ["bbox_pred"]
    file = save_with_noise(build_runner(cfg), tmp_path / "tuner.safetensors", CLASSES)
    config = as_file(cfg, tmp_path)

    def boxes(model: Detector) -> list:
        return model(squares[0], threshold=0).to_dict()["detections"]

    plain = Detector(tuned, device="cpu")  # of the same tokens
    on = boxes(plain)
    with plain.tuners_off():
        base = boxes(plain)
    for model in (Detector(file, device="cpu"), Detector(file, config=config, device="cpu")):
        assert boxes(model) != on
        with model.tuners_off():
            assert boxes(model) == base
    out = [tmp_path / f"{name}.json" for name in ("base", "off", "on")]
    for path, arguments in zip(out, ([], [file, "--tuners-off"], [file]), strict=True):
        assert run("test.py", config, *arguments, "--out", path) == 0
    assert out[0].read_bytes() == out[1].read_bytes() != out[2].read_bytes()


def test_the_test_tool_refuses_other_endings(capsys):
    assert run("test.py", "config.py", "--out", "x.txt") == 2
    assert "--out must end in .pkl or .json" in capsys.readouterr().err


def test_labels_are_counted_from_one_where_no_ids_are_known():

    metric = JsonResults("unused.json")
    boxes = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    found = dict(bboxes=boxes, scores=torch.tensor([0.5]), labels=torch.tensor([1]))
    metric.process(None, [dict(img_id=7, pred_instances=found)])
    assert metric.results == [
        [dict(image_id=7, category_id=2, bbox=[1.0, 2.0, 3.0, 6.0], score=0.5)]
    ]


@pytest.mark.parametrize("kind", ["glip", "clip"])
def test_lora_goes_to_peft_and_back_by_the_tool(kind, make_tiny_cfg, clip_cfg, squares, tmp_path):
    """With classes, templates and caption prompts."""
    if kind == "glip":
        cfg, classes, load = make_tiny_cfg(tmp_path / "run"), CLASSES, Detector
        cfg.model.tuner = dict(type="mmsdpt.LoRA", rank=2)
        cfg.test_dataloader.dataset.caption_prompt = {"red square": {"prefix": "one "}}
    else:
        cfg, classes, load = deepcopy(clip_cfg), tuple(sorted(COLOURS)), Classifier
        cfg.model.tuner = dict(type="mmsdpt.CLIPLoRA")
        cfg.default_hooks.classes.template = "a blurry {}."
    runner = build_runner(cfg)
    if kind == "clip":
        runner.host.set_classes(classes, "a blurry {}.")
    file = save_with_noise(runner, tmp_path / "lora.safetensors", classes)
    adapter, back = tmp_path / "adapter", tmp_path / "back.safetensors"
    assert run("model_converters/peft_lora.py", "export", file, adapter) == 0
    config = as_file(cfg, tmp_path)
    assert run("model_converters/peft_lora.py", "import", adapter, config, back) == 0
    expected, found = (load(each, device="cpu") for each in (file, back))
    assert found.classes == classes
    assert found.recipe.templates == expected.recipe.templates
    assert found.recipe.captions == cfg.test_dataloader.dataset.get("caption_prompt")
    expected, found = (each(squares[0], classes=classes) for each in (expected, found))
    assert found.to_dict() == expected.to_dict()


def test_pages_of_a_classifier_use_the_templates_of_a_test(tuned_clip, clip_cfg):
    cfg = deepcopy(clip_cfg)
    cfg.test_dataloader.dataset.template = "a drawing of {}."
    models = each_model(cfg, {"tuned": tuned_clip}, sorted(COLOURS))
    found = {name: host.templates for name, host in models}
    assert found == {"tuned": ("a photo of a {}.",), BEFORE: ("a drawing of {}.",)}


def test_pages_of_a_detector_use_the_caption_prompts_of_a_test(make_tiny_cfg, squares, tmp_path):
    cfg = make_tiny_cfg(tmp_path / "run")
    dataset = cfg.test_dataloader.dataset
    dataset.caption_prompt = {"red square": {"prefix": "one "}}
    dataset.pipeline[-1].meta_keys = (*dataset.pipeline[-1].meta_keys, "caption_prompt")
    own = shutil.copy(squares[0], tmp_path)
    known, other = Pictures(cfg).choose([squares[0], own], 2)
    assert known.has_truth and not other.has_truth
    for picture in (known, other):
        assert picture.item["data_samples"].caption_prompt == dataset.caption_prompt


def test_without_its_data_an_imported_adapter_has_no_classes_and_that_is_said(
    clip_cfg, tmp_path, capsys
):
    cfg = deepcopy(clip_cfg)
    cfg.model.tuner = dict(type="mmsdpt.CLIPLoRA")
    file = save_with_noise(build_runner(cfg), tmp_path / "lora.safetensors", ())
    assert run("model_converters/peft_lora.py", "export", file, tmp_path / "adapter") == 0
    cfg.train_dataloader.dataset.data_root = str(tmp_path / "gone")
    arguments = (tmp_path / "adapter", as_file(cfg, tmp_path), tmp_path / "back.safetensors")
    assert run("model_converters/peft_lora.py", "import", *arguments) == 0
    assert "the classes are unknown" in capsys.readouterr().out
