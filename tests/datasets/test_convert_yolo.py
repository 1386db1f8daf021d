"""The YOLO converter handles what real folders hold, and counts it exactly."""

import shutil

import pytest

from mmsdpt.datasets.converters import files as converter_files
from mmsdpt.datasets.converters.files import scan
from mmsdpt.datasets.converters.report import ConversionReport
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    from_yolo,
    picture,
    read,
    truncated,
    yolo,
)


def test_label_lines_are_boxes_polygons_or_named_problems(tmp_path):
    text = "\ufeff" + "\n".join(
        [
            "0 0.5 0.5 0.5 0.5",
            "1 0.25 0.2 0.75 0.2 0.5 0.8",  # triangle
            "0 0.0 0.5 0.5 0.5",  # clipped
            "0 0.5 0.5 -0.4 0.5",  # negative width
            "0 0.5 0.5 0 0.5",
            "0 1.5 0.5 0.5 0.5",
            "7 0.5 0.5 0.5 0.5",
            "-1 0.5 0.5 0.5 0.5",
            "0.5 0.5 0.5 0.5 0.5",
            "0 0.5 0.5 0.5 0.4 0.9",  # a confidence
            "0 0.5 0.5",
            "cat 0.5 0.5 0.5 0.5",
            "0 nan 0.5 0.5 0.5",
            "",
        ]
    )
    source = yolo(tmp_path / "src", {"a": text, "empty": "", "bare": None})
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [
        [10, 7.5, 20, 15],
        [10, 6, 20, 18],
        [0, 7.5, 10, 15],
        [12, 7.5, 16, 15],
        [10, 9, 20, 12],
    ]
    assert report.counts == {
        "polygon": 1,
        "further_columns": 1,
        "box_clipped": 1,
        "box_swapped": 1,
        "box_empty": 1,
        "box_outside": 1,
        "class_unknown": 2,
        "object_malformed": 4,
        "label_missing": 1,
        "image_without_boxes": 2,
    }
    assert report.named["class_unknown"][0] == ("train/labels/a.txt:7", "class 7")
    assert report.boxes_found == 13 and balanced(report)


def test_rounding_of_six_decimals_is_no_clipping(tmp_path):
    source = yolo(tmp_path / "src", {"a": "0 0.500000 0.333333 1.000001 0.666667\n"})
    assert from_yolo(source, tmp_path / "out").counts == {}


def test_unusable_images_and_labels_of_yolo_are_named(tmp_path):
    src = tmp_path / "src"
    line = "0 0.5 0.5 0.5 0.5\n"
    source = yolo(src, {"a": line, "cut": line, "binary": line, "large": line, "twin": line})
    truncated(src / "train" / "images" / "cut.jpg")
    (src / "train" / "labels" / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with (src / "train" / "labels" / "large.txt").open("wb") as file:
        file.truncate(converter_files.MAX_LABEL_BYTES + 1)
    picture(src / "train" / "images" / "twin.png")
    (src / "train" / "labels" / "ghost.txt").write_text(line)
    (src / "train" / "labels" / "classes.txt").write_text("cat\ndog\n")
    report = from_yolo(source, tmp_path / "out")
    assert report.counts == {
        "image_unreadable": 1,
        "label_malformed": 1,
        "label_refused": 1,
        "image_without_usable_label": 2,
        "image_name_duplicate": 1,
        "label_without_image": 1,
    }
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
        "a.jpg",
        "twin.jpg",
    ]
    assert report.images_found == 6 and balanced(report)


ROBOFLOW = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n"
ULTRALYTICS = "path: .\ntrain: images/train\nval: [images/val]\ntest:\nnames:\n  0: cat\n  1: dog\n"
LISTS = "path: ''\ntrain: train.txt\nval: ./images/val\nnames: {1: dog, 0: cat}\n"


@pytest.mark.parametrize(
    ("data", "folders"),
    [
        (ROBOFLOW, ("train/{}", "valid/{}", "test/{}")),
        (ULTRALYTICS, ("{}/train", "{}/val", "{}/test")),
        (LISTS, ("{}/train", "{}/val", "{}/test")),
    ],
)
def test_data_files_as_roboflow_and_ultralytics_write_them(tmp_path, data, folders):
    src = tmp_path / "src"
    for number, folder in enumerate(folders):
        picture(src / folder.format("images") / f"{number}.jpg")
        label = src / folder.format("labels") / f"{number}.txt"
        label.parent.mkdir(parents=True)
        label.write_text("1 0.5 0.5 0.5 0.5")
    (src / "train.txt").write_text(
        "./images/train/0.jpg\nimages/train/0.jpg\n./images/train/ghost.jpg\n"
    )
    (src / "data.yaml").write_text(data)
    report = from_yolo(src, tmp_path / "out")
    expected = {"split_from_folder": 1}  # test is not named, but there
    if data == LISTS:
        expected |= {"image_listed_twice": 1, "listed_absent": 1}
    assert report.counts == expected and balanced(report)
    for split in ("train", "val", "test"):
        content = read(tmp_path / "out", split)
        assert len(content["images"]) == 1 and content["annotations"][0]["category_id"] == 2
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]


def test_one_image_behind_links_of_train_and_val_is_said(tmp_path):
    picture(tmp_path / "pool" / "a.jpg")
    for split in ("train", "val"):
        image = tmp_path / "images" / split / f"{split}.jpg"
        label = tmp_path / "labels" / split / f"{split}.txt"
        image.parent.mkdir(parents=True), label.parent.mkdir(parents=True)
        image.symlink_to(tmp_path / "pool" / "a.jpg")
        label.write_text("0 0.5 0.5 0.5 0.5")
    source = yolo(tmp_path, {}, "train: images/train\nval: images/val\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out")
    assert report.counts["image_in_two_splits"] == 1


def test_one_folder_for_train_and_val_is_said(tmp_path):
    data = "train: train/images\nval: train/images\nnc: 3\nnames: [cat]\n"
    source = yolo(tmp_path / "src", {"a": "0 0.5 0.5 0.5 0.5"}, data)
    report = from_yolo(source, tmp_path / "out")
    assert report.counts == {"image_in_two_splits": 1, "nc_differs": 1}
    assert balanced(report)


def test_an_image_of_two_splits_is_found_and_drawn_once(tmp_path):
    data = "train: train/images\nval: train/images\nnames: [cat]\n"
    source = yolo(tmp_path / "src", {"a": "0 0.5 0.5 0.5 0.5", "b": "0 2 2 9 9"}, data)
    report = from_yolo(source, tmp_path / "out", split=(1, 1, 0))
    assert (report.images_found, report.boxes_found) == (2, 2) and balanced(report)


def test_yolo_classes_can_be_chosen(tmp_path):
    source = yolo(tmp_path / "src", {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n"})
    report = from_yolo(source, tmp_path / "out", classes=["dog"])
    assert report.counts == {"class_not_chosen": 1} and len(boxes(tmp_path / "out")) == 1
    with pytest.raises(InputError, match="cat, dog"):
        from_yolo(source, tmp_path / "out2", classes=["emu"])


def split_folders(root, folder, labels):
    """Images ``folder`` of train and valid, with the labels that are listed for each split."""
    for split, stems in labels.items():
        for stem in "abc":
            picture(root / folder.format("images", split) / f"{stem}.jpg")
        for stem in stems:
            label = root / folder.format("labels", split) / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.5 0.5")


@pytest.mark.parametrize(
    ("folder", "first", "second"),
    [
        ("{1}/{0}", "train", "valid"),  # Roboflow
        ("{0}/{1}", "train", "valid"),  # Ultralytics
        ("{0}/{1}", "cam1", "cam2"),
        ("{1}/{0}", "cam1", "cam2"),
    ],
)
def test_an_image_without_boxes_takes_no_label_of_another_folder(tmp_path, folder, first, second):
    split_folders(tmp_path, folder, {first: "a", second: "abc"})
    (tmp_path / folder.format("images", second) / "c.jpg").unlink()  # its label is left over
    paths = f"train: {folder.format('images', first)}\nval: {folder.format('images', second)}\n"
    (tmp_path / "data.yaml").write_text(f"{paths}names: [cat]\n")
    report = from_yolo(tmp_path, None)
    assert report.splits["train"]["images_without_boxes"] == 2
    assert report.splits["val"]["boxes"] == 2 and balanced(report)
    assert report.counts == {
        "label_missing": 2,
        "label_without_image": 1,
        "image_without_boxes": 2,
    }


def test_labels_of_images_in_no_split_and_of_another_split_are_not_taken(tmp_path):
    split_folders(tmp_path, "{0}/{1}", {"cam1": "a", "cam2": "b"})
    (tmp_path / "data.yaml").write_text("train: images/cam1\nnames: [cat]\n")
    assert from_yolo(tmp_path, None).splits["train"]["boxes"] == 1
    root = tmp_path / "alone"
    split_folders(root, "{1}/{0}", {"train": "a", "valid": "abc"})
    shutil.rmtree(root / "valid" / "images")
    (root / "data.yaml").write_text("train: train/images\nnames: [cat]\n")
    assert from_yolo(root, None).splits["train"]["boxes"] == 1


@pytest.mark.parametrize("train", ["images", "images/cam1"])
def test_labels_in_one_folder_serve_images_in_folders_below(tmp_path, train):
    """Also where an image above, in a split or left over, has its label among them."""
    for name in ("a", "cam1/b", "cam1/c"):
        picture(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "labels").mkdir()
    for stem in "abc":
        (tmp_path / "labels" / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5")
    picture(tmp_path / "images" / "cam1" / "a.jpg")  # without boxes, or a copy of the one above
    (tmp_path / "data.yaml").write_text(f"train: {train}\nnames: [cat]\n")
    report = from_yolo(tmp_path, None)
    missing = {"images": ["images/cam1/a.jpg"], "images/cam1": []}[train]
    assert report.splits["train"]["boxes"] == 3 and balanced(report)
    assert [where for where, _ in report.named.get("label_missing", ())] == missing
    # A folder whose images have labels of their own takes none.
    (tmp_path / "labels" / "cam1").mkdir()
    (tmp_path / "labels" / "b.txt").rename(tmp_path / "labels" / "cam1" / "b.txt")
    assert from_yolo(tmp_path, None).splits["train"]["boxes"] == (2 if missing else 1)


def test_images_that_are_links_have_the_labels_of_their_own_names(tmp_path):
    for n in range(2):
        target = picture(tmp_path / "pool" / f"DSC{n}.jpg")
        target.with_suffix(".txt").write_text("0 0.5 0.5 0.1 0.1")  # of another task
        link = tmp_path / "images" / "train" / f"{n}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../pool/DSC{n}.jpg")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "train.txt").write_text("images/train/0.jpg\n./images/../images/train/1.jpg\n")
    for train in ("train.txt", "images/train"):
        (tmp_path / "data.yaml").write_text(f"train: {train}\nnames: [cat]\n")
        report = from_yolo(tmp_path, tmp_path / "out", overwrite=True)
        assert boxes(tmp_path / "out") == [[10, 7.5, 20, 15]]
        assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
            "0.jpg",
            "1.jpg",
        ]
        assert report.named["label_missing"][0][0] == "images/train/1.jpg"


@pytest.mark.parametrize("data", ["train: images/train\nval: images/val\n", ""])
def test_linked_folders_inside_the_data_set_are_entered(tmp_path, data):
    for split in ("train", "val"):
        picture(tmp_path / "raw" / split / "deep" / "0.jpg")
        folder = tmp_path / "texts" / split / "deep"
        folder.mkdir(parents=True)
        (folder / "0.txt").write_text("0 0.5 0.5 0.5 0.5")
        for name, target in (("images", "raw"), ("labels", "texts")):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / split).symlink_to(f"../{target}/{split}")
    (tmp_path / "raw" / "train" / "loop").symlink_to(".")
    (tmp_path / "data.yaml").write_text(f"{data}names: [cat]\n")
    report = from_yolo(tmp_path, tmp_path / "out", images="link")
    assert report.problems == 0 and balanced(report)
    for split in ("train", "val"):
        assert boxes(tmp_path / "out", split) == [[10, 7.5, 20, 15]]


def test_labels_of_images_in_linked_folders_are_not_taken_by_others(tmp_path):
    split_folders(tmp_path, "{0}/{1}", {"cam1": "ab", "cam2": "a"})
    (tmp_path / "images").rename(tmp_path / "raw")
    (tmp_path / "images").mkdir()
    for camera in ("cam1", "cam2"):
        (tmp_path / "images" / camera).symlink_to(f"../raw/{camera}")
    (tmp_path / "data.yaml").write_text("train: images/cam1\nval: images/cam2\nnames: [cat]\n")
    report = from_yolo(tmp_path, None)
    assert [split["boxes"] for split in report.splits.values()] == [2, 1]
    assert report.counts == {"label_missing": 3, "image_without_boxes": 3}


def test_a_folder_that_is_linked_twice_or_around_itself_is_listed_once(tmp_path):
    inside = picture(tmp_path / "images" / "a" / "a.jpg").parent
    (inside / "up").symlink_to("..")
    (inside / "top").symlink_to("../..")
    for name in ("b", "c"):
        (tmp_path / "images" / name).symlink_to("../pool")
    picture(tmp_path / "pool" / "p.jpg")
    (tmp_path / "pool" / "back").symlink_to("../images/b")
    for folder, expected in (("images", ["a/a.jpg", "b/p.jpg"]), (".", None)):
        found = scan(tmp_path / folder, tmp_path, {".jpg"}, ConversionReport(tmp_path, "yolo"))
        names = [path.relative_to(tmp_path / folder).as_posix() for path in found]
        assert names == (expected or ["images/a/a.jpg", "pool/p.jpg"])


def test_a_label_that_two_images_may_mean_is_not_taken(tmp_path):
    for folder in ("one", "two"):
        picture(tmp_path / folder / "a.jpg")
        picture(tmp_path / folder / f"{folder}.jpg")
    for stem in ("a", "one", "two"):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("cat")
    report = from_yolo(tmp_path, None)
    assert report.counts["label_elsewhere"] == 2 == report.counts["label_missing"]
