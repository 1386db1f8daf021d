"""COCO files as other tools export them become clean ones."""

import json
import os

import pytest

from mmsdpt.datasets.converters import convert_coco
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    coco,
    converter,
    counts,
    picture,
    read,
    roboflow,
)


def test_a_coco_export_is_mended_renamed_and_split(tmp_path):
    roboflow(tmp_path / "src")
    with pytest.raises(InputError, match="'cat', 'Cat' are the same text .*--rename"):
        convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    report = convert_coco(tmp_path / "src", tmp_path / "out", rename={"Cat": "cat"}, progress=False)
    assert report.categories == ("cat",) and balanced(report)
    assert {name: split["boxes"] for name, split in report.splits.items()} == {"train": 2, "val": 2}
    assert boxes(tmp_path / "out", "val") == [[1, 2, 10, 10], [5, 2, 10, 10]]
    (tmp_path / "src" / "valid" / "a.jpg").unlink()
    os.truncate(tmp_path / "src" / "train" / "a.jpg", 300)
    with pytest.raises(InputError, match="none of its images"):
        convert_coco(tmp_path / "src", tmp_path / "o", rename={"Cat": "cat"}, progress=False)


def test_missing_images_of_a_coco_export_leave_and_are_named(tmp_path):
    roboflow(tmp_path / "src")
    path = tmp_path / "src" / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["images"].append(dict(id=1, file_name="gone.jpg", width=40, height=30))
    path.write_text(json.dumps(content))
    report = convert_coco(
        path, tmp_path / "out", classes=["cat"], rename={"Cat": "Cat dog"}, progress=False
    )
    assert report.counts["image_missing"] == 1 and balanced(report)
    assert counts(report)["class_not_chosen"] == 1


def export(path, names, **annotation):
    """A COCO file with one box on each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = coco(names, **annotation)
    path.write_text(json.dumps(content))
    return content


def test_a_missing_image_does_not_come_from_another_splits_folder(tmp_path):
    for split, numbers in (("train", "123"), ("val", "0123")):
        for number in numbers:
            picture(tmp_path / "src" / "images" / split / f"{number}.jpg")
        export(tmp_path / "src" / f"{split}.json", [f"{number}.jpg" for number in "0123"])
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    assert counts(report, "mended") == {"image_missing": 1} and balanced(report)
    assert {name: split["images"] for name, split in report.splits.items()} == {
        "train": 3,
        "val": 4,
    }


def test_images_of_another_machine_are_found_in_the_usual_folder(tmp_path):
    picture(tmp_path / "src" / "images" / "a.jpg"), picture(tmp_path / "src" / "images" / "b.jpg")
    export(tmp_path / "src" / "result.json", ["/data/upload/1/a.jpg", "/data/upload/2/b.jpg"])
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    assert report.problems == 0 and len(boxes(tmp_path / "out")) == 2


@pytest.mark.parametrize("absolute", [False, True])
def test_a_coco_file_does_not_copy_images_from_outside(tmp_path, absolute):
    picture(tmp_path / "private" / "s.jpg"), picture(tmp_path / "src" / "a.jpg")
    outside = tmp_path / "private" / "s.jpg" if absolute else "../private/s.jpg"
    export(tmp_path / "src" / "train.json", ["a.jpg", str(outside)])
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    assert counts(report, "mended") == {"path_refused": 1} and balanced(report)
    assert [path.name for path in (tmp_path / "out").rglob("*.jpg")] == ["a.jpg"]
    # Where nothing is copied it may name them.
    report = convert_coco(tmp_path / "src", tmp_path / "kept", images="in-place", progress=False)
    assert report.problems == 0 and report.splits["train"]["images"] == 2


def test_a_coco_file_does_not_copy_images_through_links_to_outside(tmp_path):
    for name in ("private/s.jpg", "private/t.jpg", "src/images/b.jpg"):
        picture(tmp_path / name)
    (tmp_path / "src" / "images" / "a.jpg").symlink_to("../../private/t.jpg")
    (tmp_path / "src" / "more").symlink_to("../private")
    names = ["images/a.jpg", "images/b.jpg", "more/s.jpg"]
    export(tmp_path / "src" / "labels" / "train.json", names)
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    refused = report.named["path_refused"]
    assert [where.rpartition(": ")[2] for where, _ in refused] == ["more", "id 1", "id 3"]
    assert all("see --root" in told for _, told in refused)
    assert [path.name for path in (tmp_path / "out").rglob("*.jpg")] == ["b.jpg"]
    # --root says which folder is trusted.
    arguments = [str(tmp_path / "src"), "--out", str(tmp_path / "all"), "--quiet"]
    assert converter("coco2coco").main([*arguments, "--strict", "--root", str(tmp_path)]) == 0
    assert len(boxes(tmp_path / "all")) == 3
    for root, told in (("none", "is not a folder"), ("private", "does not contain")):
        with pytest.raises(InputError, match=f"--root .*{told}"):
            convert_coco(tmp_path / "src", tmp_path / "o", root=tmp_path / root, progress=False)


def test_images_inside_are_copied_however_a_coco_file_names_them(tmp_path):
    picture(tmp_path / "disk" / "src" / "images" / "a.jpg")
    (tmp_path / "home").symlink_to("disk")
    path, here = tmp_path / "disk" / "src" / "labels" / "train.json", tmp_path / "home" / "src"
    for name in (here / "images" / "a.jpg", "../images/a.jpg", "../../../home/src/images/a.jpg"):
        export(path, [str(name)])
        report = convert_coco(here, tmp_path / "out", overwrite=True, progress=False)
        assert report.problems == 0 and len(boxes(tmp_path / "out")) == 1
    export(path, ["../images/a.jpg"])
    with pytest.raises(InputError, match="not inside labels, see --root and --in-place"):
        convert_coco(path, tmp_path / "file", progress=False)
    report = convert_coco(path, tmp_path / "file", root=here, progress=False)
    assert report.problems == 0 and len(boxes(tmp_path / "file")) == 1


@pytest.mark.parametrize("image", ["images/train/a.jpg", "photos/a.jpg"])
def test_images_are_looked_for_in_the_root_folder(tmp_path, image):
    picture(tmp_path / image)
    export(tmp_path / "labels" / "train.json", ["a.jpg"])
    with pytest.raises(InputError, match="none of its images is below .*; --root names another"):
        convert_coco(tmp_path / "labels", None, progress=False)
    report = convert_coco(tmp_path / "labels", None, root=tmp_path, progress=False)
    assert report.problems == 0 and report.splits["train"]["boxes"] == 1


def test_images_of_an_earlier_result_in_the_source_are_not_found(tmp_path):
    picture(tmp_path / "photos" / "a.jpg")
    export(tmp_path / "train.json", ["a.jpg"])
    for again in (False, True):
        report = convert_coco(tmp_path, tmp_path / "out", overwrite=again, progress=False)
        assert report.problems == 0 and len(boxes(tmp_path / "out")) == 1


def test_area_and_marks_of_a_coco_box_are_kept(tmp_path):
    """The area tells small from large objects in COCO's metric, and training skips ``ignore``."""
    picture(tmp_path / "src" / "a.jpg")
    path = tmp_path / "src" / "train.json"
    content = export(path, ["a.jpg"], area=60.5, ignore=1, difficult=1)
    clipped = dict(content["annotations"][0], id=2, bbox=[-10, 2, 20, 10], area=80)
    none = dict(id=3, image_id=1, category_id=1, bbox=[30, 2, 20, 10])  # taken from the whole box
    content["annotations"] += [clipped, none]
    path.write_text(json.dumps(content))
    convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    kept = read(tmp_path / "out")["annotations"]
    assert [entry["area"] for entry in kept] == [60.5, 40, 100]
    assert [(entry.get("ignore"), entry.get("difficult")) for entry in kept] == [
        (1, 1),
        (1, 1),
        (None, None),
    ]


def test_all_that_leaves_a_coco_export_is_counted(tmp_path):
    picture(tmp_path / "src" / "a.jpg")
    path = tmp_path / "src" / "train.json"
    content = export(path, ["a.jpg"])
    content["images"] += [dict(content["images"][0]), "x"]
    content["annotations"].append(None)
    content["categories"].append(7)
    path.write_text(json.dumps(content))
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    assert counts(report, "mended") == {
        "image_listed_twice": 1,
        "image_malformed": 1,
        "category_malformed": 1,
        "object_malformed": 1,
    }
    assert balanced(report) and (report.images_found, report.boxes_found) == (3, 2)


@pytest.mark.parametrize("split", [None, (1, 1, 0)])
def test_images_of_several_files_or_ids_have_all_boxes_once(tmp_path, split):
    for name in "ab":
        picture(tmp_path / "src" / "images" / f"{name}.jpg")
    content = export(tmp_path / "src" / "cat.json", ["a.jpg", "b.jpg", "a.jpg"])
    content["annotations"][2]["bbox"] = [20, 2, 10, 10]
    (tmp_path / "src" / "cat.json").write_text(json.dumps(content))
    content = export(tmp_path / "src" / "dog.json", ["a.jpg", "b.jpg"])
    content["categories"][0]["name"] = "dog"
    content["annotations"].pop()
    (tmp_path / "src" / "dog.json").write_text(json.dumps(content))
    report = convert_coco(
        tmp_path / "src", tmp_path / "out", split=split, missing_labels="skip", progress=False
    )
    written = {}
    for name in report.splits:
        content = read(tmp_path / "out", name)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        for entry in content["annotations"]:
            written.setdefault(names[entry["image_id"]], []).append(entry["category_id"])
    assert written == {"a.jpg": [1, 1, 2], "b.jpg": [1]}
    assert sum(each["images"] for each in report.splits.values()) == 2
    assert report.counts["image_listed_twice"] == 3 and balanced(report)


def test_cvats_file_names_tell_the_split(tmp_path):
    roboflow(tmp_path / "src")
    for split, name in (("train", "instances_Train"), ("valid", "instances_default")):
        folder = tmp_path / "src" / split
        (folder / "_annotations.coco.json").rename(folder / f"{name}.json")
    (tmp_path / "src" / "valid").rename(tmp_path / "src" / "more")
    report = convert_coco(
        tmp_path / "src", tmp_path / "out", rename={"Cat": "cat"}, split=(1, 1, 0), progress=False
    )
    assert {name: split["images"] for name, split in report.splits.items()} == {
        "train": 1,
        "val": 1,
    }
