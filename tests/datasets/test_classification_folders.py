"""Promises to people with images of their own in folders: they work without code."""

from __future__ import annotations

import json
import logging
import os
import unicodedata

import pytest

from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders, save_image
from tests.datasets.own_data import label_counts, load, paths

SPLIT = {"train": 4, "val": 2, "test": 3}
CLASSES = ("owl", "red fox", "sea lion")


def test_folders_with_their_own_split(tmp_path):
    make_class_folders(tmp_path, SPLIT)
    data = load("folder", tmp_path)
    assert [len(each) for each in data.values()] == [12, 6, 9]
    for split in SPLIT:
        assert all(path.startswith(f"{split}/") for path in paths(data[split]))
        # In the order of the names of the folders.
        assert data[split].metainfo["classes"] == CLASSES
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
    with pytest.raises(InputError, match="with sum 1"):
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
    assert "no val split found: taking a fifth of train" in log.text


def test_val_has_one_image_of_a_class_of_two(tmp_path):
    make_class_folders(tmp_path, {"train": 2, "test": 1})
    data = load("folder", tmp_path)
    assert label_counts(data["train"]) == label_counts(data["val"]) == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize("folders", [{"train": 1, "test": 1}, {"": 2}])
def test_where_no_val_can_be_drawn_the_way_out_is_said(tmp_path, log, folders):
    make_class_folders(tmp_path, folders)
    assert len(ClassificationData("folder", str(tmp_path), "train")) == 3
    assert "a fifth of train" not in log.text
    with pytest.raises(
        InputError, match="too few training images .* set val_dataloader, val_cfg and val_e"
    ):
        ClassificationData("folder", str(tmp_path), "val")
    assert len(ClassificationData("folder", str(tmp_path), "test")) == 3


def test_files_that_are_no_images_are_reported_and_not_fatal(tmp_path, log):
    make_class_folders(tmp_path, SPLIT)
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
    with pytest.raises(InputError, match="none of the 3 test images of .* can be read, such as"):
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
    with pytest.raises(InputError, match="are numbers, but CLIP needs names"):
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
        (lambda root: root.mkdir(), "has no folders; expected one per class"),
        (
            lambda root: (root / "a").mkdir(parents=True),
            "1 class folders in .* have no images.* a;",
        ),
        (
            lambda root: make_class_folders(root, {"train": 2}),
            "only the splits train; expected train",
        ),
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


# ---------------------------------------------------------------- what tools and archives make


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Validation", "Test"),
        ("training", "validation", "testing"),
        ("TRAIN", "VAL", "TEST"),
        ("train", "valid", "test"),
        ("trn", "dev", "tst"),
    ],
)
@pytest.mark.parametrize("around", ["", "archive", "archive/dataset"])
def test_splits_have_any_usual_name_and_archives_put_folders_around(tmp_path, names, around):
    make_class_folders(tmp_path / around, dict(zip(names, SPLIT.values(), strict=True)))
    data = load("folder", tmp_path)
    assert [len(each) for each in data.values()] == [12, 6, 9]
    assert all(each.metainfo["classes"] == CLASSES for each in data.values())
    assert all(f"{names[2]}/" in path for path in paths(data["test"]))


def test_a_folder_around_the_classes_of_a_split_is_entered(tmp_path):
    make_class_folders(tmp_path, {"train/images": 4, "test/images": 3})
    data = load("folder", tmp_path)
    assert data["test"].metainfo["classes"] == CLASSES and len(data["test"]) == 9


def test_splits_below_each_class_stay_apart(tmp_path):
    for split, count in SPLIT.items():
        for number, name in enumerate(("owl", "fox")):
            for i in range(count):
                save_image(tmp_path / name / split / f"{i}.jpg", number, i)
    data = load("folder", tmp_path)
    assert data["train"].metainfo["classes"] == ("fox", "owl")
    for split, each in data.items():
        assert len(each) == 2 * SPLIT[split] and all(f"/{split}/" in p for p in paths(each))


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".ipynb_checkpoints", "lost+found", ".git"],
)
def test_folders_of_tools_are_no_classes_and_hold_no_images(tmp_path, name):
    make_class_folders(tmp_path, SPLIT)
    for folder in ("", "train", "train/owl"):
        save_image(tmp_path / folder / name / "x" / "SYNOPHOTO_THUMB_M.jpg", 0, 0)
    data = load("folder", tmp_path)
    assert data["train"].metainfo["classes"] == CLASSES and len(data["train"]) == 12


def test_the_log_names_the_classes(tmp_path, log):
    make_class_folders(tmp_path, SPLIT)
    load("folder", tmp_path)
    assert "3 classes: owl, red fox, sea lion" in log.text


def test_one_class_is_refused(tmp_path):
    make_class_folders(tmp_path, SPLIT, classes=["owl"])
    with pytest.raises(InputError, match="has only one class, owl"):
        ClassificationData("folder", str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"],
            "has the test images without class folders.*or remove the folder",
        ),
        (["cat.1.jpg"], "has images without class folders"),
    ],
)
def test_images_without_class_folders_are_refused(tmp_path, files, message):
    for number, name in enumerate(files):
        save_image(tmp_path / name, number, 0)
    with pytest.raises(InputError, match=message):
        ClassificationData("folder", str(tmp_path))


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    make_class_folders(tmp_path, SPLIT)
    scandir = os.scandir

    def guarded(path="."):
        if str(path).endswith("train/owl"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(
        InputError, match="the folder .*train/owl cannot be read .Permission denied"
    ):
        ClassificationData("folder", str(tmp_path))


def test_class_folders_in_two_encodings_of_a_letter_are_one_class(tmp_path):
    name = "caf\u00e9"
    make_class_folders(tmp_path, {"train": 2, "val": 1}, classes=[name, "tea"])
    make_class_folders(tmp_path, {"test": 1}, classes=[unicodedata.normalize("NFD", name), "tea"])
    data = load("folder", tmp_path)
    assert data["test"].metainfo["classes"] == (name, "tea") and len(data["test"]) == 2


@pytest.mark.parametrize("twin", ["Owl", "owl_"])
def test_class_folders_of_one_text_are_refused_with_both_names(tmp_path, twin):
    make_class_folders(tmp_path, {"train": 2, "test": 1}, classes=["owl", twin])
    with pytest.raises(InputError, match="are the same text to the model .'owl'.; .*classnames"):
        ClassificationData("folder", str(tmp_path))


def test_images_of_train_in_test_are_refused_or_said(tmp_path, log):
    make_class_folders(tmp_path, SPLIT)
    for number, path in enumerate(sorted((tmp_path / "test").rglob("*.jpg"))):
        save_image(path, number, 100 + number)
    copied = tmp_path / "test" / "owl" / "copy.jpg"
    copied.write_bytes((tmp_path / "train" / "owl" / "000.jpg").read_bytes())
    ClassificationData("folder", str(tmp_path), "test")
    assert "1 of 10 test images are copies of training images" in log.text
    rows = [["test/owl/000.jpg", 0, "owl"], ["train/red_fox/000.jpg", 1, "fox"]]
    both = {"train": rows, "test": rows[:1]}
    (tmp_path / "leak.json").write_text(json.dumps(both))
    with pytest.raises(InputError, match="1 images in both train and test, .* test/owl/000.jpg"):
        ClassificationData("json", str(tmp_path), file="leak.json")


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path, log):
    make_class_folders(tmp_path, SPLIT)
    os.mkfifo(tmp_path / "train" / "owl" / "pipe.jpg")
    assert len(ClassificationData("folder", str(tmp_path))) == 12
    assert "pipe.jpg: it is not a regular file" in log.text
