"""Promises to people with lists of images of their own: CSV and JSON files work without code."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders, make_dataset, save_image
from tests.datasets.own_data import label_counts, load, paths

SPLIT = {"train": 4, "val": 2, "test": 3}


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
        (["path|class"], ["a.jpg|a"], r"has the columns path\|class; expected path"),
        (["path", "class"], ["a.jpg", ""], "line 2, has no class"),
        (["path", "class"], ["../a.jpg", "a"], "line 2, names the image '../a.jpg', which is"),
        (["path", "class"], ["a.jpg", "a", "b"], "line 2, has more cells than the header"),
        (["path", "class", "split"], ["a.jpg", "a", "later"], "line 2, has the split 'later'"),
    ],
)
def test_a_wrong_csv_file_is_refused_with_the_line(images, header, row, message):
    write_csv(images, header, [row])
    with pytest.raises(InputError, match=message):
        ClassificationData("csv", str(images), file="labels.csv")


def test_a_label_of_a_csv_file_has_one_name(images):
    rows = [["pictures/0.jpg", 0, "a"], ["pictures/1.jpg", 0, "b"]]
    write_csv(images, ["path", "label", "class"], rows)
    with pytest.raises(InputError, match="has two names for label 0, 'a' and 'b'"):
        ClassificationData("csv", str(images), file="labels.csv")


def test_a_json_file_in_coops_form(tmp_path):
    home = make_dataset("eurosat", tmp_path, per_class=(5, 0, 3))
    settings = dict(file="split_zhou_EuroSAT.json", image_dir="2750")
    data = load("json", home, **settings)
    assert [len(each) for each in data.values()] == [12, 3, 9]  # val out of train
    content = json.loads((home / settings["file"]).read_text())
    del content["test"]
    (home / settings["file"]).write_text(json.dumps(content))
    with pytest.raises(InputError, match="has only the splits train; expected train and test"):
        load("json", home, **settings)
    with pytest.raises(InputError, match="the file .*nowhere.json is missing"):
        load("json", home, file="nowhere.json")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_of_spreadsheets_are_read(images, delimiter):
    rows = [["path", "class"], *([f"pictures/{i}.jpg", "ab"[i % 2]] for i in range(20))]
    text = "\n".join(delimiter.join(row) for row in rows)
    (images / "labels.csv").write_text(text, encoding="utf-8-sig")
    data = load("csv", images, file="labels.csv")
    assert sum(map(len, data.values())) == 20


@pytest.mark.parametrize("key", ["valid", "Validation", "VAL"])
def test_keys_of_a_json_file_have_any_usual_name(tmp_path, key):
    make_class_folders(tmp_path, SPLIT)
    content = {
        name: [
            [f"{split}/{folder}/000.jpg", n, folder] for n, folder in enumerate(("owl", "red_fox"))
        ]
        for name, split in (("train", "train"), (key, "val"), ("test", "test"))
    }
    (tmp_path / "split.json").write_text(json.dumps(content))
    data = load("json", tmp_path, file="split.json")
    assert paths(data["val"]) == ["val/owl/000.jpg", "val/red_fox/000.jpg"]


def _named(name: str) -> str:
    rows = [["train/owl/000.jpg", 0, name], ["train/red_fox/000.jpg", 1, "y"]]
    return json.dumps({"train": rows, "test": [["test/owl/000.jpg", 0, name]]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not a JSON file"),
        ('{"train": [["a", 0, "x"]], "tests": []}', "has the key 'tests'"),
        (_named("\ud800"), "broken or control character"),
        (_named(""), "'' is empty"),
    ],
    ids=["deep", "unknown key", "surrogate", "empty name"],
)
def test_json_files_of_no_use_are_refused_in_one_sentence(tmp_path, text, message):
    make_class_folders(tmp_path, SPLIT)
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=message):
        ClassificationData("json", str(tmp_path), file="split.json")
