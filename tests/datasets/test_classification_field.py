"""What people's folders and lists do besides: nothing is merged, doubled or lost silently."""

from __future__ import annotations

import shutil

import pytest

from mmsdpt.utils.class_names import name_problems
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import make_class_folders, save_image
from tests.datasets.test_classification_own_data import load, log, paths  # noqa: F401

SPLITS = {"train": 3, "val": 2, "test": 2}


def write_list(root, change=lambda rows: rows) -> None:
    make_class_folders(root, SPLITS)
    rows = [
        [path.relative_to(root).as_posix(), path.parent.name, path.parts[-3]]
        for path in sorted(root.rglob("*.jpg"))
    ]
    lines = [",".join(row) for row in [["path", "class", "split"], *change(rows)]]
    (root / "list.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("twin", ["owl\u200b", "\ufeffowl", "owl\u00ad"])
def test_folders_of_one_class_name_are_refused_with_both(tmp_path, twin):
    make_class_folders(tmp_path, SPLITS)
    shutil.copytree(tmp_path / "train" / "owl", tmp_path / "train" / twin)
    with pytest.raises(InputError, match="have one class name, 'owl'") as error:
        load("folder", tmp_path)
    assert repr(f"train/{twin}") in str(error.value)


@pytest.mark.parametrize(
    "names", [("train_set", "test_set"), ("Training Data", "Validation Data", "Testing Data")]
)
def test_splits_may_be_a_word_of_the_folders_names(tmp_path, names):
    make_class_folders(tmp_path, dict.fromkeys(names, 3))
    data = load("folder", tmp_path)
    assert data["test"].metainfo["classes"] == ("owl", "red fox", "sea lion")
    assert all(path.startswith(f"{names[-1]}/") for path in paths(data["test"]))


def test_a_train_is_a_vehicle_beside_others(tmp_path):
    for name in ("train", "bus", "test tube"):
        for i in range(6):
            save_image(tmp_path / name / f"{i}.png", 9, i)
    assert load("folder", tmp_path)["train"].metainfo["classes"] == ("bus", "test tube", "train")


def test_classes_that_a_split_lacks_are_warned_of(tmp_path, log):  # noqa: F811
    make_class_folders(tmp_path, SPLITS)
    shutil.rmtree(tmp_path / "test" / "owl")
    save_image(tmp_path / "test" / "zebra" / "0.png", 9, 0)
    load("folder", tmp_path)
    assert "test has no image of 'owl': what has no image is not measured in test" in log.text
    assert "train has no image of 'zebra': what has no image is not trained" in log.text


def test_lists_of_windows_are_read(tmp_path):
    write_list(tmp_path, lambda rows: [[row[0].replace("/", "\\"), *row[1:]] for row in rows])
    data = load("csv", tmp_path, file="list.csv")
    assert len(data["train"]) == 9 and "train/owl/000.jpg" in paths(data["train"])


def test_a_list_counts_an_image_once_and_under_one_class(tmp_path, log):  # noqa: F811
    write_list(tmp_path / "a", lambda rows: rows + rows[:2])
    assert sum(map(len, load("csv", tmp_path / "a", file="list.csv").values())) == 21
    assert "2 test images are listed again and count once" in log.text
    write_list(tmp_path / "b", lambda rows: [*rows, [rows[0][0], "sea_lion", rows[0][2]]])
    with pytest.raises(InputError, match="two classes, 'owl' and 'sea_lion'"):
        load("csv", tmp_path / "b", file="list.csv")


def test_identifiers_are_doubtful_names():
    assert len(name_problems(["n01440764", "10000001", "cat", "M3", "747"])[2]) == 3
