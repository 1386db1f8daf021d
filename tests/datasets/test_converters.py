"""What the converters write, in which splits, and what their tools say."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config

from mmsdpt.datasets.converters import ProblemsFound
from mmsdpt.datasets.converters import files as converter_files
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    converter,
    counts,
    from_yolo,
    pair,
    picture,
    read,
    voc,
    xml,
    yolo,
)

# ---------------------------------------------------------------- what is written


def test_voc_boxes_follow_mmdetections_pixel_convention(tmp_path):
    pair(tmp_path / "src", "a")
    report = voc(tmp_path / "src", tmp_path / "out")
    content = read(tmp_path / "out")
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
    assert content["categories"] == [{"id": 1, "name": "cat", "supercategory": "none"}]
    assert content["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10.0, 5.0, 10.0, 10.0],
            "area": 100.0,
            "iscrowd": 0,
        }
    ]
    assert counts(report) == {} and report.problems == 0 and balanced(report)
    (tmp_path / "list.txt").write_text("a\n")
    oracle = XMLDataset(
        ann_file=str(tmp_path / "list.txt"),
        data_prefix=dict(sub_data_root=str(tmp_path / "src")),
        metainfo=dict(classes=("cat",)),
        pipeline=[],
    )
    x, y, w, h = boxes(tmp_path / "out")[0]
    assert oracle.get_data_info(0)["instances"][0]["bbox"] == [x, y, x + w, y + h]
    voc(tmp_path / "src", tmp_path / "zero", zero_based=True)
    assert boxes(tmp_path / "zero") == [[11.0, 6.0, 10.0, 10.0]]


def test_yolo_fractions_become_pixels(tmp_path):
    source = yolo(tmp_path / "src", {"a": "1 0.5 0.5 0.25 0.2\n"})
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [[15.0, 12.0, 10.0, 6.0]]
    assert read(tmp_path / "out")["annotations"][0]["category_id"] == 2
    assert report.counts == {} and balanced(report)


@pytest.mark.parametrize("mode", ["copy", "link", "in-place"])
def test_coco_dataset_and_metric_read_the_result(tmp_path, mode):
    pair(tmp_path / "src", "a", boxes=[(1, 1, 20, 20), (11, 6, 31, 26)])
    pair(tmp_path / "src", "b", boxes=[])
    out = tmp_path / "out"
    voc(tmp_path / "src", out, images=mode)
    dataset = CocoDataset(
        data_root=str(out),
        ann_file="annotations/train.json",
        data_prefix=dict(img="images/train/"),
        metainfo=dict(classes=("cat",)),
        test_mode=True,
        pipeline=[dict(type="LoadImageFromFile", imdecode_backend="pillow")],
    )
    assert [len(dataset.get_data_info(i)["instances"]) for i in range(2)] == [2, 0]
    assert dataset[0]["img"].shape == (30, 40, 3)
    assert (out / "images" / "train" / "a.jpg").is_symlink() == (mode == "link")
    assert (out / "images").exists() == (mode != "in-place")

    metric = CocoMetric(ann_file=str(out / "annotations" / "train.json"))
    metric.dataset_meta = dict(classes=("cat",))
    for i in range(2):
        info = dataset.get_data_info(i)
        found = np.array([box["bbox"] for box in info["instances"]], dtype=np.float32).reshape(
            -1, 4
        )
        predicted = dict(
            bboxes=found, scores=np.ones(len(found)), labels=np.zeros(len(found), dtype=int)
        )
        metric.results.append(
            (
                dict(img_id=info["img_id"], width=40, height=30),
                {"img_id": info["img_id"], **predicted},
            )
        )
    assert metric.evaluate(size=2)["coco/bbox_mAP"] == 1.0


def test_a_second_run_writes_the_same_bytes_and_needs_overwrite(tmp_path):
    for stem in ("b", "a", "c"):
        pair(tmp_path / "src", stem)
    out = tmp_path / "out"
    voc(tmp_path / "src", out, split=(1, 1, 1), seed=5)
    first = {path.name: path.read_bytes() for path in (out / "annotations").iterdir()}
    assert sorted(first) == ["conversion_report.json", "test.json", "train.json", "val.json"]
    with pytest.raises(InputError, match="--overwrite"):
        voc(tmp_path / "src", out, split=(1, 1, 1), seed=5)
    voc(tmp_path / "src", out, split=(1, 1, 1), seed=5, overwrite=True)
    assert first == {path.name: path.read_bytes() for path in (out / "annotations").iterdir()}
    voc(tmp_path / "src", out, overwrite=True)
    assert not (out / "annotations" / "val.json").exists(), (
        "a stale val.json would hold training images"
    )


def test_an_interrupted_write_leaves_neither_half_a_file_nor_litter(tmp_path, monkeypatch):
    pair(tmp_path / "src", "a")

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(converter_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        voc(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_output_inside_the_source_is_not_taken_for_input(tmp_path):
    pair(tmp_path, "a")
    for _ in range(2):
        report = voc(tmp_path, tmp_path / "coco", overwrite=True)
        assert report.images_found == 1 and counts(report) == {}
    with pytest.raises(InputError, match="contains the source folder"):
        voc(tmp_path / "JPEGImages", tmp_path)


# ---------------------------------------------------------------- splits


def test_split_by_counts_or_fractions_depends_on_names_and_seed_alone(tmp_path):
    for number in range(20):
        pair(tmp_path / "src", f"{number:02}")
    report = voc(tmp_path / "src", tmp_path / "a", split=(14, 3, 2), seed=1)
    assert [report.splits[name]["images"] for name in ("train", "val", "test")] == [14, 3, 2]
    assert report.counts["not_in_split"] == 1 and report.problems == 0 and balanced(report)
    report = voc(tmp_path / "src", tmp_path / "b", split=(0.75, 0.145, 0.105), seed=1)
    assert [report.splits[name]["images"] for name in ("train", "val", "test")] == [15, 3, 2]
    chosen = [image["file_name"] for image in read(tmp_path / "a", "val")["images"]]
    assert chosen == ["03.jpg", "07.jpg", "08.jpg"]
    voc(tmp_path / "src", tmp_path / "c", split=(14, 3, 2), seed=2)
    assert chosen != [image["file_name"] for image in read(tmp_path / "c", "val")["images"]]
    with pytest.raises(InputError, match="asks for 21 images, but only 20"):
        voc(tmp_path / "src", tmp_path / "d", split=(19, 1, 1))


def test_image_sets_are_used_and_checked(tmp_path):
    for stem in ("a", "b", "c", "d"):
        pair(tmp_path / "src", stem)
    main = tmp_path / "src" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("a\r\nb\nb\n")
    (main / "val.txt").write_text("b\nghost\n../../etc/passwd\n\n")
    (main / "cat_train.txt").write_text("d 1\n")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["a.jpg", "b.jpg"]
    assert [image["file_name"] for image in read(tmp_path / "out", "val")["images"]] == ["b.jpg"]
    assert report.counts == {
        "image_listed_twice": 1,
        "listed_absent": 2,
        "image_in_two_splits": 1,
        "not_in_split": 2,
    }
    assert report.named["listed_absent"][0] == ("ImageSets/Main/val.txt:2", "ghost")
    assert balanced(report)


@pytest.mark.parametrize("folder", ["ImageSets/Main", "ImageSets"])
def test_lists_of_splits_may_be_in_image_sets_itself(tmp_path, folder):
    for stem in "ab":
        pair(tmp_path / "src", stem)
    for name, stem in (("ImageSets/train", "b"), (f"{folder}/train", "a"), (f"{folder}/val", "b")):
        path = tmp_path / "src" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stem)
    report = voc(tmp_path / "src", tmp_path / "out")
    assert report.counts == {} and list(report.splits) == ["train", "val"]


def test_split_folders_with_equal_file_names_are_kept_apart(tmp_path):
    src = tmp_path / "src"
    for folder in ("train", "valid", "test"):
        picture(src / folder / "0001.jpg")
        xml(src / folder / "0001.xml")
    (src / "train" / "0001.jpg").unlink()
    report = voc(src, tmp_path / "out")
    # train's XML has lost its image and must not take another split's of the same name.
    assert report.counts == {"label_without_image": 1} and list(report.splits) == ["val", "test"]
    picture(src / "train" / "0001.jpg")
    report = voc(src, tmp_path / "out2")
    assert report.counts == {} and list(report.splits) == ["train", "val", "test"]


# ---------------------------------------------------------------- the tools


def test_strict_writes_nothing_and_accepts_notes(tmp_path):
    pair(tmp_path / "src", "a", boxes=[])
    pair(tmp_path / "src", "b")
    voc(tmp_path / "src", tmp_path / "out", strict=True)
    pair(tmp_path / "src", "c", size=(1, 1))
    with pytest.raises(ProblemsFound, match="1 problems"):
        voc(tmp_path / "src", tmp_path / "out2", strict=True)
    assert not (tmp_path / "out2").exists()


def test_the_tools_report_and_exit_as_documented(tmp_path, capsys):
    src, out = tmp_path / "src", tmp_path / "out"
    pair(src, "a", size=(1, 1))
    pair(src, "b")
    tool = converter("voc2coco")
    assert tool.main([str(src), "--out", str(out), "--split", "1,1,0", "--quiet"]) == 0
    assert "size_wrong" in capsys.readouterr().out
    written = json.loads((out / "annotations" / "conversion_report.json").read_text())
    assert written["problems"]["size_wrong"]["where"] == [
        "Annotations/a.xml (1x1, the image is 40x30)"
    ]
    assert written["images"] == {"found": 2, "written": 2, "left_out": 0}
    assert tool.main([str(src), "--out", str(tmp_path / "o"), "--strict", "--quiet"]) == 1
    capsys.readouterr()
    for arguments in (
        [str(src), "--out", str(out)],  # already there
        [str(tmp_path / "none"), "--out", str(out)],
        [str(src), "--out", str(tmp_path / "o"), "--split", "1,2"],
        [str(src), "--out", str(tmp_path / "o"), "--split", "0.5,0.2,0.1"],
        [str(src), "--out", str(tmp_path / "o"), "--split", "nan,1,1"],
        [str(src), "--out", str(tmp_path / "o"), "--classes", "a,a"],
    ):
        with pytest.raises(SystemExit) as stop:
            tool.main([*arguments, "--quiet"])
        error = capsys.readouterr().err
        assert (
            stop.value.code == 2
            and error.startswith("voc2coco.py: error: ")
            and error.count("\n") == 1
        )

    source = yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.5 0.5\n9 0.5 0.5 0.5 0.5"})
    tool = converter("yolo2coco")
    assert tool.main([str(source), "--out", str(tmp_path / "y"), "--quiet"]) == 0
    assert "class_unknown" in capsys.readouterr().out
    assert tool.main([str(source), "--out", str(tmp_path / "z"), "--quiet", "--strict"]) == 1
    with pytest.raises(SystemExit) as stop:
        tool.main([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "z")])
    assert stop.value.code == 2


# ---------------------------------------------------------------- real datasets


def sizes(report) -> dict[str, int]:
    return {name: split["images"] for name, split in report.splits.items()}


def test_raccoon_converts_to_odinws_split_sizes(real_data, tmp_path):
    report = voc(
        real_data / "raccoon_voc", tmp_path, split=(150, 29, 17), seed=3, images="in-place"
    )
    assert sizes(report) == {"train": 150, "val": 29, "test": 17}
    assert report.boxes_found == 217 and report.counts == {"not_in_split": 4} and balanced(report)


def test_bccd_converts_by_its_image_sets(real_data, tmp_path):
    report = voc(real_data / "bccd_voc", tmp_path, images="in-place")
    assert sizes(report) == {"train": 205, "val": 87, "test": 72}
    assert report.categories == ("Platelets", "RBC", "WBC")
    assert report.boxes_found == 4888 and report.counts == {"box_empty": 2} and balanced(report)


def test_packages_converts_to_odinws_split(real_data, tmp_path):
    report = from_yolo(real_data / "packages_yolo" / "data.yaml", tmp_path, images="in-place")
    assert sizes(report) == {"train": 19, "val": 4, "test": 3}
    assert report.boxes_found == 42 and report.counts == {} and balanced(report)


def test_aquarium_converts_to_odinws_split(real_data, tmp_path):
    report = from_yolo(real_data / "aquarium_yolo" / "data.yaml", tmp_path, images="in-place")
    assert sizes(report) == {"train": 448, "val": 127, "test": 63}
    assert report.counts == {"box_empty": 3, "image_without_boxes": 1, "split_from_folder": 1}
    assert report.boxes_found == 4817 and balanced(report)


@pytest.mark.parametrize(
    "name, source",
    [
        ("raccoon", "raccoon_voc"),
        ("packages", "packages_yolo"),
        ("bccd", "bccd_voc"),
        ("aquarium", "aquarium_yolo"),
    ],
)
def test_the_command_in_a_config_gives_the_classes_that_it_names_in_order(
    name, source, real_data, repository, tmp_path
):
    path = repository / f"configs/mini/sdpt_mini_{name}.py"
    header = re.sub(r"\\\n#", "", path.read_text().partition("_base_")[0])
    (command,) = re.findall(r"^#   python (.*)$", header, re.MULTILINE)
    tool, given, *options = shlex.split(command)
    options[options.index("--out") + 1] = str(tmp_path)
    given = given.replace(name.upper(), str(real_data / source))
    assert converter(Path(tool).stem).main([given, *options, "--in-place", "--quiet"]) in (0, None)
    for split in ("train", "val", "test"):
        found = [each["name"] for each in read(tmp_path, split)["categories"]]
        assert found == [*Config.fromfile(path).test_dataloader.dataset.metainfo.classes]
