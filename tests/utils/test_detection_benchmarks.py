"""``benchmark`` in a config: the table against MMDetection's own files, and what a run reads."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmsdpt.utils.cli import load_config
from mmsdpt.utils.data_files import dataset_configs
from mmsdpt.utils.detection_benchmarks import (
    benchmark_names,
    complete_detection_data,
    find_benchmark,
)
from mmsdpt.utils.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
OWN = str(CONFIGS / "sdpt/glip_l_own_data_k10.py")
MINI = str(CONFIGS / "mini/sdpt_mini_raccoon.py")
LVIS = str(CONFIGS / "sdpt/glip_l_lvis_k10.py")


def loaded(path: str, data_root: str | None = None, **options) -> Config:
    arguments = dict(config=path, cfg_options=options, data_root=data_root)
    return load_config(argparse.Namespace(**arguments))


def plain(cfg: Config, split: str) -> dict:
    (dataset,) = dataset_configs(cfg[f"{split}_dataloader"].dataset)
    return dataset


@pytest.fixture(scope="module")
def mmdetections() -> dict[str, dict]:
    """MMDetection's data sets of ODinW35 for GLIP-T (B) and (C), which read caption prompts."""
    cfg = Config.fromfile(
        str(
            Path(__import__("mmdet").__file__).parent
            / ".mim/configs/glip/odinw/glip_atss_swin-t_bc_fpn_dyhead_pretrain_odinw35.py"
        )
    )
    found = {key[8:]: value for key, value in cfg.items() if key.startswith("dataset_")}
    return {name: value for name, value in found.items() if "ann_file" in value}


def test_odinw_is_mmdetections(mmdetections):
    ours = [name for name in benchmark_names() if name.startswith("odinw35/")]
    assert sorted(name.partition("/")[2] for name in ours) == sorted(mmdetections)
    for name, theirs in mmdetections.items():
        benchmark = find_benchmark(f"odinw35/{name}")
        annotations, images = benchmark.files["val"]
        # MMDetection has the categories renamed in a copy of the file.
        assert annotations == theirs.ann_file.replace("new_annotations", "annotations")
        assert (f"data/{benchmark.root}", images) == (theirs.data_root, theirs.data_prefix.img)
        read = [benchmark.overrides.get(each, each) for each in benchmark.classes]
        if name == "ChessPieces":  # their first name is two spaces, which no model reads
            read[0] = "  "
        assert read == list(theirs.metainfo.classes), name
        if name != "Aquarium":  # prompts of GLIP's own file, which MMDetection leaves out
            assert benchmark.captions == (theirs.get("caption_prompt") or {}), name


def test_odinw13_has_thirteen_members_with_the_protocols_counts():
    members = [name for name in benchmark_names() if name.startswith("odinw13/")]
    counts = [find_benchmark(name).counts for name in members]
    assert len(members) == 13
    assert sum(each["train"] for each in counts) == 24_488
    assert sum(each["val"] for each in counts) == 4_938
    assert sum(each.get("test", 0) for each in counts) == 1_153


def test_a_member_sets_data_metrics_classes_and_captions():
    cfg = loaded(OWN, benchmark="odinw13/POTHOLE")
    assert cfg.data_root == "data/odinw/pothole/"
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        dataset = plain(cfg, split)
        assert dataset["data_root"] == "data/odinw/pothole/"
        assert dataset["ann_file"] == f"{folder}/annotations_without_background.json"
        assert dataset["metainfo"] == dict(classes=("pothole",))
        assert dataset["caption_prompt"]["pothole"]["name"] == "holes"
        assert "caption_prompt" in dataset["pipeline"][-1]["meta_keys"]
    for split, folder in (("val", "valid"), ("test", "test")):
        path = f"data/odinw/pothole/{folder}/annotations_without_background.json"
        assert cfg[f"{split}_evaluator"].ann_file == path


def test_it_can_be_applied_twice_and_with_another_folder():
    cfg = loaded(OWN, data_root="elsewhere/holes", benchmark="odinw13/pothole")
    assert plain(cfg, "train")["data_root"] == cfg.data_root == "elsewhere/holes/"
    once = copy.deepcopy(cfg)
    complete_detection_data(cfg)
    assert cfg.to_dict() == once.to_dict()


def test_captions_can_be_left_out_but_overrides_stay():
    named = {"benchmark.name": "odinw13/Packages", "benchmark.captions": False}
    assert not plain(loaded(OWN, **named), "train").get("caption_prompt")
    named["benchmark.name"] = "odinw13/NorthAmericaMushrooms"
    words = plain(loaded(OWN, **named), "train")["caption_prompt"]
    assert words == {"CoW": {"name": "flat mushroom"}, "chanterelle": {"name": "yellow mushroom"}}


@pytest.mark.parametrize("path", [OWN, MINI])
def test_caption_prompts_of_ones_own_data_reach_the_samples(path, tmp_path):
    own = tmp_path / "own.py"
    prompts = dict(caption_prompt={"raccoon": dict(prefix="a wild ")})
    own.write_text(
        f"_base_ = {path!r}\n"
        f"train_dataloader = dict(dataset=dict(dataset={prompts}))\n"
        f"test_dataloader = dict(dataset={prompts})\n"
    )
    cfg, plain_cfg = loaded(str(own)), loaded(path)
    for split in ("train", "test"):
        assert "caption_prompt" in plain(cfg, split)["pipeline"][-1]["meta_keys"]
        assert "caption_prompt" not in plain(plain_cfg, split)["pipeline"][-1]["meta_keys"]


def test_what_cannot_be_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="did you mean odinw13/pothole"):
        loaded(OWN, benchmark="odinw13/pothol")
    with pytest.raises(InputError, match="unknown detection benchmark 'odinw13/BCCD'"):
        loaded(OWN, benchmark="odinw13/BCCD")
    with pytest.raises(InputError, match="has the setting 'captoins'"):
        loaded(OWN, **{"benchmark.name": "coco", "benchmark.captoins": False})
    with pytest.raises(InputError, match="needs mmsdpt.LVISDataset.*inherit.*glip_l_lvis_k10"):
        loaded(OWN, benchmark="lvis")
    with pytest.raises(InputError, match="needs a config with CocoDataset"):
        loaded(LVIS, benchmark="odinw13/pothole")
    own = tmp_path / "own.py"
    own.write_text(
        f"_base_ = {str(CONFIGS / 'sdpt/glip_l_aquarium_k10.py')!r}\n"
        "train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/mine/')))\n"
    )
    with pytest.raises(InputError, match="benchmark odinw13/Aquarium but also its own data"):
        loaded(str(own))


def test_lvis_minival_takes_its_own_file():
    cfg = loaded(LVIS, benchmark="lvis/minival")
    assert cfg.val_evaluator.ann_file.endswith("lvis_v1_minival_inserted_image_name.json")
    assert plain(cfg, "train")["ann_file"].endswith("lvis_v1_train.json")
    assert "metainfo" not in plain(cfg, "test")


@pytest.fixture
def roboflow(tmp_path: Path) -> Path:
    """A folder as RF100-VL's: three splits, and a category that only groups the others."""
    folder = tmp_path / "rf100-vl" / "flatfish"
    groups = [
        dict(id=0, name="fish", supercategory="none"),
        dict(id=1, name="red box", supercategory="fish"),
        dict(id=2, name="blue box", supercategory="fish"),
    ]
    for split in ("train", "valid", "test"):
        (folder / split).mkdir(parents=True)
        images, boxes = [], []
        for number in range(2):
            colour = [(200, 30, 30), (30, 30, 200)][number]
            image = Image.new("RGB", (64, 64), (120, 120, 120))
            image.paste(colour, (10, 10, 40, 40))
            image.save(folder / split / f"{split}{number}.png")
            images.append(dict(id=number, file_name=f"{split}{number}.png", width=64, height=64))
            boxes.append(
                dict(
                    id=number,
                    image_id=number,
                    category_id=number + 1,
                    bbox=[10, 10, 30, 30],
                    area=900,
                    iscrowd=0,
                )
            )
        content = dict(images=images, annotations=boxes, categories=groups)
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def test_a_folder_of_a_collection_brings_its_own_classes(roboflow):
    cfg = loaded(MINI, data_root=str(roboflow), benchmark="rf100-vl/flatfish")
    assert plain(cfg, "train")["metainfo"]["classes"] == ("red box", "blue box")
    assert plain(cfg, "val")["ann_file"] == "valid/_annotations.coco.json"


def test_captions_act_in_training_as_in_testing(roboflow, monkeypatch):
    """The caption that the loss reads is the one that testing reads, from the data set on."""
    words = {"red box": dict(prefix="a ", name="scarlet square", suffix=" here")}
    monkeypatch.setattr(
        "mmsdpt.utils.detection_benchmarks.find_benchmark",
        lambda name: dataclasses.replace(find_benchmark(name), captions=words),
    )
    cfg = loaded(MINI, data_root=str(roboflow), benchmark="rf100-vl/flatfish")
    init_default_scope("mmdet")
    model = MODELS.build({**cfg.model, "tuner": None}).eval()
    samples = {
        split: DATASETS.build(plain(cfg, split))[0]["data_samples"] for split in ("train", "test")
    }
    trained = model._training_prompt(samples["train"])[0]
    assert trained == model._prediction_prompt(samples["test"])[0][1]
    assert trained.startswith("a scarlet square here. blue box")
