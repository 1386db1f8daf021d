"""Promises of the data doctor on detection benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mmsdpt.datasets.detection_doctor import examine_detection, present_benchmarks
from mmsdpt.utils.detection_benchmarks import find_benchmark
from mmsdpt.utils.errors import InputError
from tests.run_tools import load_tool


def make(root: Path, name: str, count: int = 2, **changes) -> Path:
    """A benchmark's folder with ``count`` images in each split; returns it."""
    benchmark = find_benchmark(name)
    classes = benchmark.classes or ("cat",)
    for split, (file_name, folder) in benchmark.files.items():
        images, boxes = [], []
        (root / benchmark.root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            file = f"{split}_{number}.png"
            shade = (40 * number, 20, {"train": 0, "val": 90, "test": 180}[split])
            Image.new("RGB", (32, 32), shade).save(root / benchmark.root / folder / file)
            images.append(
                dict(
                    id=number,
                    file_name=file,
                    coco_url=f"http://images.cocodataset.org/{file}",
                    width=32,
                    height=32,
                )
            )
            box = dict(bbox=[2, 2, 20, 20], area=400, iscrowd=0)
            boxes.append(dict(id=number, image_id=number, category_id=1, **box))
        categories = [dict(id=i, name=each) for i, each in enumerate(classes, start=1)]
        content = dict(images=images, annotations=boxes, categories=categories)
        path = root / benchmark.root / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**content, **changes}))
    return root / benchmark.root


@pytest.mark.parametrize(
    "name", ["odinw35/BCCD", "odinw35/dice", "rf100-vl/cats", "voc", "odinw35/EgoHands_specific"]
)
def test_what_is_right_is_ok(tmp_path, name):
    make(tmp_path, name)
    finding = examine_detection(name, tmp_path, check_images=True)
    assert (finding.state, finding.problems) == ("OK", [])
    assert finding.counts == dict(train=2, val=2, test=2)
    assert finding.num_classes == len(find_benchmark(name).classes or ("cat",))


def test_miscounted_missing_and_other_versions_are_named(tmp_path):
    make(tmp_path, "odinw13/pothole")
    (finding,) = [examine_detection("odinw13/pothole", tmp_path)]
    assert "2 train images instead of 465" in finding.problems

    folder = make(tmp_path, "odinw35/BCCD", categories=[dict(id=1, name="RBC")])
    (folder / "test/annotations_without_background.json").unlink()
    finding = examine_detection("odinw35/BCCD", tmp_path)
    assert any("has no category 'Platelets', 'WBC'" in each for each in finding.problems)
    assert any("test" in each and "download ODinW" in each for each in finding.problems)


def test_images_that_are_gone_or_broken_are_named(tmp_path):
    folder = make(tmp_path, "odinw35/BCCD")
    (folder / "train/train_0.png").unlink()
    (folder / "valid/val_1.png").write_bytes(b"no image")
    problems = "\n".join(examine_detection("odinw35/BCCD", tmp_path, check_images=True).problems)
    assert "train_0.png" in problems and "val_1.png" in problems


def test_lvis_is_counted_by_its_coco_addresses(tmp_path):
    folder = make(tmp_path, "lvis/minival")
    problems = examine_detection("lvis/minival", tmp_path).problems
    assert problems == [
        "2 train images instead of 100,170",
        "2 val images instead of 4,809",
    ]
    (folder / "test_1.png").unlink()  # val and test are one
    assert any(
        "1 of 2 val images are missing: 'test_1.png'" in each
        for each in examine_detection("lvis/minival", tmp_path).problems
    )


def test_what_is_not_there_says_where_to_get_it(tmp_path):
    finding = examine_detection("rf100-vl/cats", tmp_path)
    assert finding.state == "not there" and "package rf100vl" in finding.problems[0]
    with pytest.raises(InputError, match="unknown detection benchmark"):
        examine_detection("odinw99/cats", tmp_path)


def test_present_benchmarks_are_found_once(tmp_path):
    assert present_benchmarks(tmp_path) == []
    for name in ("odinw13/Raccoon", "odinw35/dice", "rf20-vl/some things"):
        make(tmp_path, name)
    assert sorted(present_benchmarks(tmp_path)) == [
        "odinw35/Raccoon",
        "odinw35/dice",
        "rf20-vl/some things",
    ]


def test_the_tool_takes_both_kinds_of_benchmarks(tmp_path, capsys):
    make(tmp_path, "odinw35/dice")
    tool = load_tool("data_doctor.py")
    root = ["--data-root", str(tmp_path)]
    assert tool.main([*root, "--datasets", "odinw35/dice"]) == 0
    assert "odinw35/dice" in capsys.readouterr().out
    assert tool.main([*root, "--datasets", "odinw35/dice", "dtd"]) == 1
    assert tool.main(root) == 0
