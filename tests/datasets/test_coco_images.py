"""The images of COCO files: found under other spellings and never replaced by others, and compared
with what the file says of them.
"""

import json
import os

import pytest
from PIL import Image

from mmsdpt.datasets.coco_checks import check_coco
from mmsdpt.datasets.coco_report import CocoReport
from mmsdpt.engine.data_checks import prepare_data
from mmsdpt.utils.errors import InputError
from tests.datasets.coco_splits import EXPECTED, coco, labelled, picture
from tests.datasets.test_image_files import animation


def checked(root, names, folder, **options) -> CocoReport:
    """What a check says of a file with images of these names, which are looked for in a folder."""
    content = coco("train", len(names))
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    (root / "train.json").write_text(json.dumps(content))
    return check_coco(root / "train.json", folder, **options)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is logged of the data."""
    lines: list[str] = []
    monkeypatch.setattr(
        "mmsdpt.engine.data_checks.print_log", lambda text, **options: lines.append(text)
    )
    return lines


def test_an_animation_among_the_images_is_said(data, caplog):
    animation(data.root / "images" / "train" / "a.gif", 5)
    data.splits["train"]["images"][0].update(file_name="a.gif", width=9, height=6)
    data.splits["train"]["annotations"] = [
        dict(entry, bbox=[1, 1, 4, 4]) for entry in data.splits["train"]["annotations"]
    ]
    data.save()
    assert data.report().sentences("doubtful") == [
        "images of several frames or pages, of which only the first is used (1: a.gif: 5)"
    ]


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: f"{name} ",
        lambda name: f"images\\{name}",
        lambda name: f"C:\\Users\\me\\data\\{name}",
        lambda name: f"/data/upload/1/{name}",
        lambda name: f"/data/upload/1/{name} ",
        lambda name: f"../media/{name}",
        lambda name: name.upper(),
        lambda name: name.replace("_", "%5F"),
    ],
)
def test_file_names_of_other_machines_are_found(data, spell):
    for content in data.splits.values():
        for image in content["images"]:
            image["file_name"] = spell(image["file_name"])
    data.save()
    dataset = data.prepare()["train"]
    assert all(os.path.isfile(dataset.get_data_info(n)["img_path"]) for n in range(2))
    assert labelled(dataset) == EXPECTED


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (("cam1/0.jpg", "cam2/0.jpg"), "cam2/0.jpg"),
        (("/home/me/cam1/0.jpg",), "cam2/0.jpg"),
        (("cam1/0.jpg", "0.jpg"), "0.jpg"),
        (("/upload/1/0.jpg", "/upload/2/0.jpg"), "0.jpg"),
        (("A.jpg", "a.jpg"), "a.jpg"),
        (("cam1/rgb/0.jpg", "cam1/rgb/1.jpg"), "cam2/rgb/{}.jpg"),
        (("siteA/images/0.jpg", "siteA/images/1.jpg"), "siteB/images/{}.jpg"),
        (("data/siteA/rgb/0.jpg",), "data/siteB/rgb/0.jpg"),
        (("/home/me/cam1/0.jpg", "/home/me/cam1/1.jpg"), "cam2/{}.jpg"),
        (("/home/me/cam1/rgb/0.jpg", "/home/me/cam1/rgb/1.jpg"), "cam2/rgb/{}.jpg"),
        (("/home/me/train/0.jpg", "/home/me/train/1.jpg"), "val/{}.jpg"),
        (("/home/me/a/0.jpg", "/home/me/b/1.jpg"), "photos/{}.jpg"),
        (("/home/me/a/0.jpg", "/home/me/a/9.jpg"), "photos/0.jpg"),
        (("images/0.jpg", "images/1.jpg"), "photos/{}.jpg"),
    ],
)
def test_a_missing_image_is_not_replaced_by_another_of_its_name(tmp_path, names, there):
    """Its boxes would be learned on another picture."""
    for number in range(3):
        picture(tmp_path / "images" / there.format(number))
    (sentence,) = checked(tmp_path, names, tmp_path / "images").sentences("errors")
    missing = [name for name in names if name != there]
    assert "not used); put them there" in sentence and f"({len(missing)}: " in sentence
    assert all(name in sentence for name in missing)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a/0.JPEG", "a/0.jpg"),
        ("a\\0.png", "a/0.jpg"),
        ("a/0.v1", "a/0.v1.jpg"),
        ("0.jpg", "0.png"),
    ],
)
def test_a_missing_image_with_another_suffix_is_told_and_not_used(tmp_path, name, there):
    """A picture of the same name may be a mask."""
    picture(tmp_path / there)
    (sentence,) = checked(tmp_path, [name], tmp_path).sentences("errors")
    assert sentence.endswith(f"(1: {name}, but {there} is there)")
    both = checked(tmp_path, [name, there], tmp_path, leave_out_missing=True)
    (sentence,) = both.sentences("left_out")
    assert f"(1: {name})" in sentence  # that file is another image


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("0.jpg", "cam1/0.jpg"),
        ("images/0.jpg", "images/train/0.jpg"),
        ("images/train/0.jpg", "images/0.jpg"),
        ("/home/me/data/cam1/0.jpg", "cam1/0.jpg"),
    ],
)
def test_an_image_that_lies_deeper_or_higher_is_found(tmp_path, name, there):
    picture(tmp_path / there)
    report = checked(tmp_path, [name], tmp_path)
    assert [image["file_name"] for image in report.content["images"]] == [there]
    assert not report.errors


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (("/home/x/data/cam1/0.jpg", "/home/x/data/cam2/0.jpg"), "images/{}/0.jpg"),
        (("D:\\proj\\cam1\\0.jpg", "D:\\proj\\cam2\\0.jpg"), "images/{}/0.jpg"),
        (("data/cam1/0.jpg", "data/cam2/0.jpg"), "images/{}/0.jpg"),
        (("/data/coco/cam1/0.jpg",), "images/{}/0.jpg"),
        (("images/cam1/0.jpg",), "{}/images/0.jpg"),
        (("images/cam1/0.jpg", "images/cam2/0.jpg"), "photos/{}/0.jpg"),
        (("/home/x/data/cam1/0.jpg", "/home/x/data/cam2/0.jpg"), "photos/{}/0.jpg"),
        (("/home/x/imgs/cam1.jpg", "/home/x/imgs/cam2.jpg"), "photos/{}.jpg"),
        (("C:\\Users\\x\\imgs\\cam1.jpg", "C:\\Users\\x\\imgs\\cam2.jpg"), "photos/{}.jpg"),
        (("/data/upload/3/cam1.jpg", "/data/upload/3/cam2.jpg"), "photos/{}.jpg"),
        (("s3://data/imgs/cam1.jpg", "s3://data/imgs/cam2.jpg"), "photos/{}.jpg"),
    ],
)
@pytest.mark.parametrize("contradiction", ["", "stands", "moved", "split"])
def test_folders_that_took_the_place_of_others_for_all_names_are_found(
    tmp_path, names, there, contradiction
):
    names, paths = list(names), [there.format(f"cam{n}") for n, _ in enumerate(names, 1)]
    if contradiction == "stands":  # so these folders are not another machine's
        names.append("data/cam1/9.jpg"), paths.append("data/cam1/9.jpg")
    elif contradiction == "moved":
        names.append("proj/cam1/9.jpg"), paths.append("other/cam1/9.jpg")
    elif contradiction:
        names, paths = ["train/cam1/0.jpg"], ["val/cam1/0.jpg"]
    for path in paths:
        picture(tmp_path / path)
    report = checked(tmp_path, names, tmp_path, leave_out_missing=True)
    found = [image["file_name"] for image in report.content["images"]]
    if contradiction:
        assert set(names).issuperset(found)
    else:
        assert found == paths and not report.errors


def test_missing_images_are_named_before_the_first_step(data):
    data.save()
    (data.root / "images" / "train" / "train_1.jpg").unlink()
    (data.root / "images" / "val" / "val_0.jpg").unlink()
    with pytest.raises(InputError, match=r"(?s)missing .*1: train_1.jpg.*1: val_0.jpg"):
        data.prepare()


def test_broken_images_leave_with_their_boxes_and_are_named(data):
    data.save()
    path = data.root / "images" / "train" / "train_1.jpg"
    path.write_bytes(path.read_bytes()[:300])
    os.mkfifo(data.root / "images" / "val" / "pipe.jpg")
    data.splits["val"]["images"][0]["file_name"] = "pipe.jpg"
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["train"]) == EXPECTED[:1]
    assert labelled(datasets["val"]) == EXPECTED[1:]
    assert data.report("val").sentences("left_out") == [
        "images that cannot be read (1: pipe.jpg: it is not a regular file)"
    ]


def test_sizes_that_are_missing_are_those_of_the_images(data):
    for content in data.splits.values():
        for image in content["images"]:
            image.pop("width")
            image["height"] = None
    data.save()
    dataset = data.prepare()["train"]
    assert labelled(dataset) == EXPECTED
    assert (dataset.get_data_info(0)["width"], dataset.get_data_info(0)["height"]) == (96, 80)


def test_boxes_on_the_unturned_image_are_refused(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(data.root / "images" / "train" / "train_0.jpg", exif=exif)
    data.save()
    with pytest.raises(InputError, match="EXIF orientation .*train_0.jpg"):
        data.prepare()


def test_a_turn_that_keeps_the_size_is_said(data):
    exif = Image.Exif()
    exif[0x0112] = 3  # by 180 degrees
    picture(data.root / "images" / "train" / "train_0.jpg", exif=exif)
    data.save()
    (sentence,) = data.report().sentences("filled")
    assert "EXIF orientation turns" in sentence and "1: train_0.jpg" in sentence


def test_one_file_for_train_and_val_is_said(data, said):
    data.save()
    loaders = {role: dict(dataset=data.config("train")) for role in ("train", "val")}
    prepare_data(loaders, {}, data.root / "work")
    assert any("2 of its images are also in train" in line for line in said)


def test_images_of_train_in_another_split_are_said(data, said):
    source = data.root / "images" / "train" / "train_0.jpg"
    (data.root / "images" / "val" / "val_1.jpg").write_bytes(source.read_bytes())
    data.splits["val"]["annotations"] = []
    data.save()
    data.prepare()
    assert any("1 of its images are also in train (val_1.jpg" in line for line in said)
    assert any("its AP will be -1" in line for line in said)
