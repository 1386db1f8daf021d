"""Promises of the benchmarks' readers: every layout is read, and what is missing is named."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest

from mmsdpt.datasets.classification import (
    BENCHMARKS,
    ClassificationData,
)
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import (
    ALL_NAMES,
    NAMES,
    SPLIT_FILES,
    VARIANT_FOLDERS,
    make_dataset,
    save_image,
    wordnet_id,
)

TEMPLATES = {
    "oxford_pets": "a photo of a {}, a type of pet.",
    "oxford_flowers": "a photo of a {}, a type of flower.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "food-101": "a photo of {}, a type of food.",
    "ucf101": "a photo of a person doing {}.",
}


def labels(dataset: ClassificationData) -> list[int]:
    return [dataset.get_data_info(i)["gt_label"] for i in range(len(dataset))]


def names_of_files(dataset: ClassificationData) -> list[str]:
    return [dataset.get_data_info(i)["img_path"].rsplit("/", 1)[-1] for i in range(len(dataset))]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_layout_is_read(tmp_path, name):
    make_dataset(name, tmp_path, classes=3, per_class=(5, 2, 3))
    expected = {"train": 15, "val": 6, "test": 9}
    if name == "imagenet":
        expected["val"] = 9  # images/val
    if name in VARIANT_FOLDERS:
        expected = {"val": 9, "test": 9}
    for split, count in expected.items():
        data = ClassificationData(name, str(tmp_path), split)
        assert len(data) == count
        assert labels(data) == [label for label in range(3) for _ in range(count // 3)]
        assert data.metainfo["classes"] == ("red fox", "sea lion", "owl")
        assert data.metainfo["template"] == TEMPLATES.get(name, "a photo of a {}.")
        for i in range(count):
            with open(data.get_data_info(i)["img_path"], "rb") as file:
                assert file.read(2) == b"\xff\xd8"


def test_the_data_root_may_be_the_benchmarks_own_folder(tmp_path):
    make_dataset("oxford_pets", tmp_path)
    inside = ClassificationData("oxford_pets", str(tmp_path / "oxford_pets"), "test")
    assert len(inside) == len(ClassificationData("oxford_pets", str(tmp_path), "test")) > 0


def test_all_fifteen_benchmarks_have_a_miniature():
    assert set(ALL_NAMES) == set(BENCHMARKS)


def test_train_and_test_images_are_different_ones(tmp_path):
    for name in ("dtd", "stanford_cars", "fgvc_aircraft", "imagenet"):
        make_dataset(name, tmp_path, per_class=2)
        paths = [
            {data.get_data_info(i)["img_path"] for i in range(len(data))}
            for data in (ClassificationData(name, str(tmp_path), s) for s in ("train", "test"))
        ]
        assert not paths[0] & paths[1]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (name, path)
        for name, each in BENCHMARKS.items()
        for path in (*each.folders, *each.files)
        # Its two folders are found by the paths in the file; a missing one is missing images.
        if not path.startswith("stanford_cars/cars")
    ],
)
def test_a_missing_part_is_named_with_the_layout_and_the_doctor(tmp_path, name, path):
    make_dataset(name, tmp_path)
    whole = tmp_path / path
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    split = "train" if "train" in path else "val" if path.endswith("_val.txt") else "test"
    with pytest.raises(InputError) as caught:
        ClassificationData(name, str(tmp_path), split)
    message = str(caught.value)
    assert f"{whole} is missing" in message
    assert f"data_doctor.py --data-root {tmp_path} --datasets {name}" in message
    assert all(each in message for each in BENCHMARKS[name].folders)
    assert "\n" not in message


def test_missing_images_are_counted_before_training(tmp_path):
    make_dataset("stanford_cars", tmp_path, per_class=2)
    shutil.rmtree(tmp_path / "stanford_cars" / "cars_test")
    assert len(ClassificationData("stanford_cars", str(tmp_path), "train")) == 6
    with pytest.raises(InputError, match="6 of 6 test images are missing.*cars_test/00013.jpg"):
        ClassificationData("stanford_cars", str(tmp_path), "test")


def test_imagenet_is_tested_without_its_training_images(tmp_path):
    make_dataset("imagenet", tmp_path)
    shutil.rmtree(tmp_path / "imagenet/images/train")
    assert len(ClassificationData("imagenet", str(tmp_path), "test")) == 9


def test_variants_take_class_names_from_imagenet_where_they_have_no_copy(tmp_path):
    make_dataset("imagenet", tmp_path)
    make_dataset("imagenet-sketch", tmp_path)
    (tmp_path / "imagenet-sketch/classnames.txt").unlink()
    data = ClassificationData("imagenet-sketch", str(tmp_path), "test")
    assert data.metainfo["classes"] == ("red fox", "sea lion", "owl")


def test_imagenet_a_and_r_number_only_the_classes_they_have(tmp_path):
    make_dataset("imagenet-adversarial", tmp_path, classes=5)
    images = tmp_path / "imagenet-adversarial/imagenet-a"
    for label in (0, 3):
        shutil.rmtree(images / wordnet_id(label))
    (images / "README.txt").write_text("as in the real archive")
    data = ClassificationData("imagenet-adversarial", str(tmp_path), "test")
    assert data.metainfo["classes"] == ("sea lion", "owl", "ant")
    assert sorted(set(labels(data))) == [0, 1, 2]


def test_folders_of_imagenetv2_are_numbers(tmp_path):
    make_dataset("imagenetv2", tmp_path, classes=12, per_class=1)
    data = ClassificationData("imagenetv2", str(tmp_path), "test")
    assert labels(data) == list(range(12))
    assert data.metainfo["classes"] == tuple(name.replace("_", " ") for name in NAMES)
    folders = [data.get_data_info(i)["img_path"].split("/")[-2] for i in range(12)]
    assert folders == [str(i) for i in range(12)]


def test_a_test_set_has_no_training_images(tmp_path):
    make_dataset("imagenet-rendition", tmp_path)
    with pytest.raises(InputError, match="imagenet-rendition is a test set"):
        ClassificationData("imagenet-rendition", str(tmp_path), "train")


def test_images_in_class_folders_come_in_the_order_of_their_names(tmp_path):
    make_dataset("imagenet", tmp_path, classes=1, per_class=1)
    folder = tmp_path / "imagenet/images/train" / wordnet_id(0)
    for name in ("z.JPEG", "a.JPEG", "m.JPEG", ".hidden.JPEG"):
        save_image(folder / name, 0, 0)
    (folder / "notes.txt").write_text("no image")
    data = ClassificationData("imagenet", str(tmp_path), "train")
    assert names_of_files(data) == ["a.JPEG", "m.JPEG", "n00000001_00000000.JPEG", "z.JPEG"]


def test_underscores_become_spaces_and_nothing_else(tmp_path):
    make_dataset("eurosat", tmp_path, classes=["Annual_Crop-Land", "ÉTÉ", "  two"])
    data = ClassificationData("eurosat", str(tmp_path), "test")
    assert data.metainfo["classes"] == ("Annual Crop-Land", "ÉTÉ", "  two")


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "C:\\a.jpg", ""])
def test_no_list_leads_out_of_the_data_root(tmp_path, path):
    home = make_dataset("dtd", tmp_path)
    file = home / "split_zhou_DescribableTextures.json"
    content = json.loads(file.read_text())
    content["test"][0][0] = path
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is not below the data root"):
        ClassificationData("dtd", str(tmp_path), "test")

    home = make_dataset("fgvc_aircraft", tmp_path)
    (home / "images_variant_test.txt").write_text(f"{path or '/'} owl\n")
    with pytest.raises(InputError, match="is not below the data root"):
        ClassificationData("fgvc_aircraft", str(tmp_path), "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not a JSON file"),
        ("[]", "has no key train, val or test"),
        ('{"train": {}}', "train in .* is not a list"),
        ('{"train": [["a.jpg", "0", "cat"]]}', "has the entry"),
        ('{"train": [["a.jpg", true, "cat"]]}', "has the entry"),
        ('{"train": [["a.jpg", 0]]}', "has the entry"),
        ('{"train": [["a.jpg", 0, "a"], ["b.jpg", 0, "b"]]}', "has two names for label 0"),
        ('{"train": [["a.jpg", 0, "a"], ["b.jpg", 2, "b"]]}', "no label 1"),
    ],
)
def test_a_wrong_split_file_is_refused_with_the_reason(tmp_path, content, message):
    home = make_dataset("dtd", tmp_path)
    (home / "split_zhou_DescribableTextures.json").write_text(content)
    with pytest.raises(InputError, match=message):
        ClassificationData("dtd", str(tmp_path), "train")


def test_two_classes_may_share_a_name(tmp_path):
    make_dataset("dtd", tmp_path, classes=["crane", "maillot", "crane"])
    data = ClassificationData("dtd", str(tmp_path), "test")
    assert data.metainfo["classes"] == ("crane", "maillot", "crane")


def test_the_dataset_travels_to_workers_and_starts_lazily(tmp_path):
    make_dataset("dtd", tmp_path)
    lazy = ClassificationData("dtd", str(tmp_path), "test", lazy_init=True)
    assert "classes" not in lazy.metainfo
    copy = pickle.loads(pickle.dumps(lazy))
    assert len(copy) == 9 and copy.metainfo["classes"] == ("red fox", "sea lion", "owl")
    assert "dtd" in repr(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(name="cifar"), "unknown name='cifar'; expected one of imagenet"),
        (dict(name="dtd", split="valid"), "expected one of train, val, test"),
        (dict(name="dtd", classes="old"), "expected one of all, base, new"),
        (dict(name="dtd", shots=0), "shots must be at least 1"),
        (dict(name="dtd", shots=1.5), "shots must be a positive integer"),
        (dict(name="dtd", template="a photo"), "must be a string with one"),
        (dict(name="csv"), "needs file="),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    make_dataset("dtd", tmp_path)
    with pytest.raises(InputError, match=message):
        ClassificationData(data_root=str(tmp_path), **settings)


def test_a_template_of_ones_own_replaces_the_datasets(tmp_path):
    make_dataset("dtd", tmp_path)
    one = ClassificationData("dtd", str(tmp_path), "test", template="a {}.")
    several = ClassificationData("dtd", str(tmp_path), "test", template=("a {}.", "the {}."))
    assert one.metainfo["template"] == "a {}."
    assert several.metainfo["template"] == ["a {}.", "the {}."]


def test_split_files_are_those_of_the_downloads():
    files = {path.rsplit("/")[-1] for each in BENCHMARKS.values() for path in each.files}
    titles = {f"split_zhou_{title}.json" for title, _ in SPLIT_FILES.values()}
    assert titles <= files
