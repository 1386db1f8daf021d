"""Promises to people with data of their own: folders, CSV and JSON work without code."""

from __future__ import annotations

import csv
import gc
import json
import logging
from collections import Counter
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders, make_dataset, save_image


@pytest.fixture(autouse=True, scope="module")
def _short_collections():
    """Every dataset collects garbage while it serialises; skip the toolboxes' own objects."""
    gc.freeze()
    yield
    gc.unfreeze()


def paths(dataset: ClassificationData) -> list[str]:
    root = f"{dataset.source.root}/"
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [info["img_path"].removeprefix(root) for info in infos]


def label_counts(dataset: ClassificationData) -> dict[int, int]:
    return Counter(dataset.get_data_info(i)["gt_label"] for i in range(len(dataset)))


def load(name: str, root: Path, **settings) -> dict[str, ClassificationData]:
    return {
        split: ClassificationData(name, str(root), split, **settings)
        for split in ("train", "val", "test")
    }


@pytest.fixture
def log(caplog):
    """Records of MMEngine's logger, which does not hand them on to pytest's by itself."""
    logger = MMLogger.get_instance("classification_data_test")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folders_with_their_own_split(tmp_path, val):
    make_class_folders(tmp_path, {"train": 4, val: 2, "test": 3})
    data = load("folder", tmp_path)
    assert [len(each) for each in data.values()] == [12, 6, 9]
    for split, folder in (("train", "train"), ("val", val), ("test", "test")):
        assert all(path.startswith(f"{folder}/") for path in paths(data[split]))
        # In the order of the names of the folders.
        assert data[split].metainfo["classes"] == ("owl", "red fox", "sea lion")
        assert data[split].metainfo["template"] == "a photo of a {}."
    assert paths(data["train"])[0] == "train/owl/000.jpg"


def test_one_folder_is_split_the_same_way_every_time(tmp_path):
    make_class_folders(tmp_path, {"": 10})
    data, again = load("folder", tmp_path), load("folder", tmp_path)
    other = load("folder", tmp_path, split_seed=1)
    assert [len(each) for each in data.values()] == [15, 6, 9]
    assert all(label_counts(each).keys() == {0, 1, 2} for each in data.values())
    assert all(paths(data[split]) == paths(again[split]) for split in data)
    assert paths(data["train"]) != paths(other["train"])
    together = [path for each in data.values() for path in paths(each)]
    assert len(set(together)) == len(together) == 30


def test_shares_of_the_split_are_a_setting(tmp_path):
    make_class_folders(tmp_path, {"": 10})
    data = load("folder", tmp_path, fractions=(0.2, 0.2, 0.6))
    assert [len(each) for each in data.values()] == [6, 6, 18]
    with pytest.raises(InputError, match="sum to 1"):
        load("folder", tmp_path, fractions=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(("images", "split"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (2, 0, 1))])
def test_a_class_of_few_images_is_trained_before_it_is_tested(tmp_path, images, split):
    make_class_folders(tmp_path, {"": 10})
    for i in range(images):
        save_image(tmp_path / "zebra" / f"{i}.png", 9, i)
    assert tuple(label_counts(each).get(3, 0) for each in load("folder", tmp_path).values()) == (
        split
    )


def test_val_is_held_out_of_train_where_it_is_missing(tmp_path, log):
    make_class_folders(tmp_path, {"train": 10, "test": 3})
    data = load("folder", tmp_path)
    assert [len(each) for each in data.values()] == [24, 6, 9]
    assert not set(paths(data["train"])) & set(paths(data["val"]))
    assert all(path.startswith("train/") for path in paths(data["val"]))
    assert "no val, so it is a fifth of train" in log.text


def test_files_that_are_no_images_are_reported_and_not_fatal(tmp_path, log):
    make_class_folders(tmp_path, {"train": 4, "val": 2, "test": 3})
    folder = tmp_path / "train/owl"
    whole = (folder / "000.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(b"this is text")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "._000.jpg").write_bytes(b"\0")
    (tmp_path / "train/.cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    data = ClassificationData("folder", str(tmp_path), "train")
    assert label_counts(data) == {0: 4, 1: 4, 2: 4}
    assert "left out 2 hidden, 1 without an image's suffix (notes.txt)" in log.text
    assert "train leaves out 3 that cannot be read (train/owl/broken.jpg: " in log.text
    warned = [record for record in log.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert len(ClassificationData("folder", str(tmp_path), "train", check_images=False)) == 15


def test_data_with_no_readable_image_is_refused(tmp_path):
    make_class_folders(tmp_path, {"train": 1, "test": 1})
    for path in tmp_path.glob("test/*/*.jpg"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="none of the 3 test images of .* can be read; the first"):
        ClassificationData("folder", str(tmp_path), "test")


def test_a_class_may_be_called_train(tmp_path):
    make_class_folders(tmp_path, {"": 4}, classes=["train", "car", "test"])
    data = ClassificationData("folder", str(tmp_path), "train")
    assert data.metainfo["classes"] == ("car", "test", "train")


def test_images_may_lie_deeper_and_have_any_common_suffix(tmp_path):
    expected = ["a/1.PNG", "a/deep/er/2.jpeg", "b/3.webp", "b/4.Bmp"]
    for i, name in enumerate(expected):
        save_image(tmp_path / "train" / name, i, i)
    make_class_folders(tmp_path, {"val": 1, "test": 1}, classes=["a", "b"])
    data = load("folder", tmp_path)
    assert paths(data["train"]) == [f"train/{name}" for name in expected]


def test_classnames_txt_gives_folders_better_names(tmp_path):
    make_class_folders(tmp_path, {"": 4}, classes=["0", "1", "10", "2"])
    with pytest.raises(InputError, match="numbers its classes, and CLIP compares images with name"):
        ClassificationData("folder", str(tmp_path))
    lines = ["0 safe driving", "1\ttexting", "10 talking to a passenger"]
    (tmp_path / "classnames.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match="has no name for '2'"):
        ClassificationData("folder", str(tmp_path))
    (tmp_path / "classnames.txt").write_text("\n".join([*lines, "2 drinking"]))
    assert ClassificationData("folder", str(tmp_path)).metainfo["classes"] == (
        "safe driving",
        "texting",
        "talking to a passenger",
        "drinking",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "is missing"),
        (lambda root: root.mkdir(), "has no folders; expected one for each class"),
        (lambda root: (root / "a").mkdir(parents=True), "of 1 classes in .* have no images.* a;"),
        (lambda root: make_class_folders(root, {"train": 2}), "images for train; expected train"),
        (
            lambda root: make_class_folders(root, {"train": 1, "val": 1, "valid": 1, "test": 1}),
            "has both val and valid",
        ),
    ],
)
def test_folders_that_do_not_fit_are_refused_in_one_sentence(tmp_path, make, message):
    make(tmp_path / "own")
    with pytest.raises(InputError, match=message) as caught:
        ClassificationData("folder", str(tmp_path / "own"))
    assert "docs/classification_data.md" in str(caught.value)


def write_csv(root: Path, header: list[str], rows: list[list]) -> None:
    with open(root / "labels.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])


@pytest.fixture
def images(tmp_path) -> Path:
    """Twenty images in the folder pictures."""
    for i in range(20):
        save_image(tmp_path / f"pictures/{i}.jpg", i % 2, i)
    return tmp_path


def test_a_csv_file_with_names_and_splits(images):
    splits = ["train"] * 10 + ["Validation"] * 4 + ["test"] * 6
    rows = [[f"pictures/{i}.jpg", "red_fox" if i % 2 else "owl", splits[i]] for i in range(20)]
    write_csv(images, ["Path", "class", "Split"], rows)
    data = load("csv", images, file="labels.csv")
    assert [len(each) for each in data.values()] == [10, 4, 6]
    assert data["test"].metainfo["classes"] == ("owl", "red fox")
    assert paths(data["val"]) == [f"pictures/{i}.jpg" for i in range(10, 14)]
    assert label_counts(data["train"]) == {0: 5, 1: 5}


def test_a_csv_file_without_splits_is_split(images):
    write_csv(images, ["path", "label"], [[f"{i}.jpg", "ab"[i % 2]] for i in range(20)])
    data = load("csv", images, file="labels.csv", image_dir="pictures")
    assert [len(each) for each in data.values()] == [10, 4, 6]


def test_labels_of_a_csv_file_are_ordered_as_numbers(images):
    labels = [10, 2, 9]
    names = {10: "ten", 2: "two", 9: "nine"}
    rows = [[f"pictures/{i}.jpg", labels[i % 3], names[labels[i % 3]]] for i in range(20)]
    write_csv(images, ["path", "label", "class"], rows)
    named = ClassificationData("csv", str(images), file="labels.csv")
    assert named.metainfo["classes"] == ("two", "nine", "ten")
    write_csv(images, ["path", "label"], [row[:2] for row in rows])
    with pytest.raises(InputError, match="add .*classnames.txt with lines such as '2 name of the"):
        ClassificationData("csv", str(images), file="labels.csv")
    (images / "classnames.txt").write_text("9 nine\n10 ten\n2 two\n")
    named = ClassificationData("csv", str(images), file="labels.csv")
    assert named.metainfo["classes"] == ("two", "nine", "ten")


def test_images_that_a_csv_file_lists_but_are_not_there_are_counted(images, log):
    rows = [[f"pictures/{i}.jpg", "ab"[i % 2], ["train", "test"][i // 15]] for i in range(25)]
    write_csv(images, ["path", "class", "split"], rows)
    data = ClassificationData("csv", str(images), "test", file="labels.csv")
    assert len(data) == 5
    assert "test leaves out 5 that cannot be read (pictures/20.jpg: there is no such" in log.text


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["file", "class"], ["a.jpg", "a"], "has the columns file, class; expected path"),
        (["path;class"], ["a.jpg;a"], "has the columns path;class; expected path"),
        (["path", "class"], ["a.jpg", ""], "line 2, has no class"),
        (["path", "class"], ["../a.jpg", "a"], "line 2, names the image '../a.jpg', which does"),
        (["path", "class"], ["a.jpg", "a", "b"], "line 2, has more cells than the header"),
        (["path", "class", "split"], ["a.jpg", "a", "dev"], "line 2, has the split 'dev'"),
    ],
)
def test_a_wrong_csv_file_is_refused_with_the_line(images, header, row, message):
    write_csv(images, header, [row])
    with pytest.raises(InputError, match=message):
        ClassificationData("csv", str(images), file="labels.csv")


def test_a_label_of_a_csv_file_has_one_name(images):
    rows = [["pictures/0.jpg", 0, "a"], ["pictures/1.jpg", 0, "b"]]
    write_csv(images, ["path", "label", "class"], rows)
    with pytest.raises(InputError, match="gives label 0 two names, 'a' and 'b'"):
        ClassificationData("csv", str(images), file="labels.csv")


def test_a_json_file_in_coops_form(tmp_path):
    home = make_dataset("eurosat", tmp_path, per_class=(5, 0, 3))
    settings = dict(file="split_zhou_EuroSAT.json", image_dir="2750")
    data = load("json", home, **settings)
    assert [len(each) for each in data.values()] == [12, 3, 9]  # val out of train
    content = json.loads((home / settings["file"]).read_text())
    del content["test"]
    (home / settings["file"]).write_text(json.dumps(content))
    with pytest.raises(InputError, match="has images for train; expected train and test"):
        load("json", home, **settings)
    with pytest.raises(InputError, match="the file .*nowhere.json is missing"):
        load("json", home, file="nowhere.json")


def test_shots_and_halves_work_on_data_of_ones_own(tmp_path):
    make_class_folders(tmp_path, {"train": 6, "val": 6, "test": 3}, classes=5)
    data = load("folder", tmp_path, shots=5, seed=2, classes="base")
    assert [label_counts(each) for each in data.values()] == [
        {0: 5, 1: 5, 2: 5},
        {0: 4, 1: 4, 2: 4},
        {0: 3, 1: 3, 2: 3},
    ]


def test_a_broken_image_is_no_shot(tmp_path):
    make_class_folders(tmp_path, {"train": 6, "test": 1})
    for i in range(2):
        (tmp_path / f"train/owl/{i:03d}.jpg").write_bytes(b"broken")
    for seed in range(5):
        data = ClassificationData("folder", str(tmp_path), shots=3, seed=seed)
        assert label_counts(data) == {0: 3, 1: 3, 2: 3}
        assert not {"train/owl/000.jpg", "train/owl/001.jpg"} & set(paths(data))


@pytest.mark.real_data
def test_real_photographs_of_clothing_are_read(real_data):
    data = load("folder", real_data / "clothing")
    assert [len(each) for each in data.values()] == [1000, 341, 372]
    assert len(data["test"].metainfo["classes"]) == 10
    assert "t-shirt" in data["test"].metainfo["classes"]
