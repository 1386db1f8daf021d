"""Conversions on disks that are full or closed to writing, label files in other encodings, and what
lies in folders beside the labels.
"""

import json
import os
import resource
import shutil
import unicodedata
import zipfile
from contextlib import contextmanager

import pytest

from mmsdpt.datasets.classification.items import read_split
from mmsdpt.datasets.coco_checks import check_coco
from mmsdpt.datasets.converters import convert_coco
from mmsdpt.datasets.converters.files import LabelRefused
from mmsdpt.datasets.converters.voc_xml import parse_xml
from mmsdpt.utils.atomic import staged
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    coco,
    converter,
    from_yolo,
    pair,
    picture,
    voc,
    xml,
    yolo,
)

BOX = "0 0.5 0.5 0.5 0.5\n"


@contextmanager
def small_disk():
    """No file may become larger than 1,000 bytes: JSON files of a few boxes fit, images do not. It
    ends before the test does: what pytest writes about it is longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def listing(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_without_room_nothing_is_left_and_the_earlier_conversion_stays(tmp_path, capsys):
    tool, out = converter("yolo2coco"), tmp_path / "out"
    first = str(yolo(tmp_path / "first", {"a": BOX}))
    second = str(yolo(tmp_path / "second", {"a": BOX, "b": BOX}))
    assert tool.main([first, "--out", str(out), "--quiet"]) == 0
    before = listing(out)
    for arguments in ([str(out), "--overwrite"], [str(tmp_path / "new" / "folder")]):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop, small_disk():
            tool.main([second, "--quiet", "--out", *arguments])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.count("\n") == 1 and arguments[0] in error and "Errno" not in error
    assert listing(out) == before
    assert not (tmp_path / "new").exists()


def test_a_conversion_takes_the_place_of_an_earlier_one(tmp_path):
    out = tmp_path / "out"
    from_yolo(yolo(tmp_path / "first", {"a": BOX}), out)
    (out / "mine.txt").write_text("of somebody else")
    os.mkdir(out / ".killed.unfinished")
    (out / "annotations" / "val.json").write_text("{}")
    from_yolo(yolo(tmp_path / "second", {"b": BOX}), out, overwrite=True)
    assert {str(path) for path in listing(out)} >= {"mine.txt", "images/train/b.jpg"}
    assert not (out / "annotations" / "val.json").exists()
    assert not [path for path in os.listdir(out) if path.startswith(".")]


def test_staged_files_move_the_last_folder_last(tmp_path, monkeypatch):
    moved, replace = [], os.replace
    with staged(tmp_path / "out", last="a") as stage:
        for name in ("a/1", "b/2", "a/3", "c"):
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(name)
        monkeypatch.setattr(os, "replace", lambda x, y: (moved.append(y.name), replace(x, y)))
    assert set(moved[:2]) == {"2", "c"} and set(moved[2:]) == {"1", "3"}


# ---------------------------------------------------------------- encodings

TEXT = "<annotation><object><name>中</name></object></annotation>"


@pytest.mark.parametrize(
    "content",
    [
        f'<?xml version="1.0" encoding="{declared}"?>{TEXT}'.encode(real)
        for declared, real in (
            ("utf8", "utf-8"),
            ("UTF-8", "utf-8-sig"),
            ("utf-16", "utf-8"),  # what .NET writes into a UTF-8 file
            ("utf-16", "utf-16"),
            ("utf-8", "utf-16"),
            ("utf-32", "utf-32"),
            ("us-ascii", "utf-8"),
            ("gb2312", "gbk"),
            ("gbk", "utf-8-sig"),
            ("Big5", "big5"),
            ("Shift_JIS", "cp932"),
        )
    ]
    + [f"\n  {TEXT}".encode(), f'\n<?xml version="1.0"?>{TEXT}'.encode()],
)
def test_xml_of_any_usual_encoding_is_read(content):
    assert parse_xml(content).findtext("object/name") == "中"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("gbk"),  # declares nothing
        f'<?xml version="1.0" encoding="utf-8"?>{TEXT}'.encode("gbk"),
        *(
            f'<?xml version="1.0" encoding="{name}"?>{TEXT}'.encode()
            for name in ("utfm8", "utf-9", "punycode", "idna", "hex", "zlib", "unicode_escape")
        ),
        b"\xff\xfe" + TEXT.encode("utf-16-le")[:-1],
    ],
)
def test_xml_of_another_encoding_is_refused_with_the_reason(content):
    with pytest.raises(LabelRefused, match="encoding|it is not text in utf"):
        parse_xml(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_yolo_files_of_windows_are_read(tmp_path, encoding, end):
    source = yolo(tmp_path / "yolo", {"a": BOX})
    label = tmp_path / "yolo" / "train" / "labels" / "a.txt"
    label.write_bytes((BOX + "1 0.25 0.25 0.5 0.5\n").replace("\n", end).encode(encoding))
    source.write_bytes(source.read_text().replace("\n", end).encode(encoding))
    from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 7.5, 20, 15], [0, 0, 20, 15]]


@pytest.mark.parametrize("text", ["[" * 200, "names: " + "{a: [" * 60, "[[" * 50_000])
def test_deep_yaml_is_refused_at_once(tmp_path, text):
    source = yolo(tmp_path / "yolo", {"a": BOX}, data=text)
    with pytest.raises(InputError, match="nested over 100 deep"):
        from_yolo(source, tmp_path / "out")


# ---------------------------------------------------------------- layouts


def roboflow_darknet(root):
    for split in ("train", "valid"):
        picture(root / split / f"{split}_0.jpg")
        (root / split / f"{split}_0.txt").write_text(BOX)
        (root / split / "_darknet.labels").write_text("cat\ndog")


def one_level_deeper(root):
    yolo(root / "archive", {"a": BOX})
    shutil.copytree(root / "archive" / "train", root / "archive" / "valid")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "data.yaml").write_text("names: [x]")


def capital_folders(root):
    for split in ("train", "val"):  # the same names in both, so that a name alone finds no label
        picture(root / "IMAGES" / split / "1.jpg")
        (root / "Labels" / split).mkdir(parents=True)
        (root / "Labels" / split / "1.txt").write_text(BOX)
    (root / "data.yaml").write_text("train: IMAGES/train\nval: IMAGES/val\nnames: [cat]")


@pytest.mark.parametrize("make", [roboflow_darknet, one_level_deeper, capital_folders])
def test_further_yolo_layouts(tmp_path, make):
    make(tmp_path / "src")
    report = from_yolo(tmp_path / "src", tmp_path / "out")
    for split in ("train", "val"):
        assert boxes(tmp_path / "out", split) == [[10, 7.5, 20, 15]]
    assert report.problems == 0


def test_cocos_files_of_other_tasks_are_left_out(tmp_path):
    names = ["1.jpg", "2.jpg"]
    for name in names:
        picture(tmp_path / "src" / "train2017" / name)
    folder = tmp_path / "src" / "annotations"
    folder.mkdir()
    images = coco(names)["images"]
    captions = [dict(id=image["id"], image_id=image["id"], caption="a cat") for image in images]
    for name, content in (
        ("instances_train2017", coco(names)),
        ("person_keypoints_train2017", coco(names, keypoints=[1, 2, 2])),
        ("captions_train2017", dict(images=images, annotations=captions)),
        ("image_info_test2017", dict(coco([]), images=images)),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    assert boxes(tmp_path / "out") == [[1, 2, 10, 10]] * 2
    assert report.counts["other_task"] == 3 and report.problems == 0
    # A file that is named itself is used, whatever it is called.
    keypoints = folder / "person_keypoints_train2017.json"
    convert_coco(keypoints, tmp_path / "out2", progress=False)
    assert boxes(tmp_path / "out2") == [[1, 2, 10, 10]] * 2


def test_photographs_in_formats_that_are_not_read_are_counted(tmp_path):
    source = yolo(tmp_path / "yolo", {"a": BOX})
    for name in ("b.HEIC", "c.avif"):
        (source.parent / "train" / "images" / name).write_bytes(b"ftypheic")
        (source.parent / "train" / "labels" / name).with_suffix(".txt").write_text(BOX)
    report = from_yolo(source, tmp_path / "out")
    assert report.counts["image_other_format"] == 2


def test_archives_are_called_so(tmp_path):
    yolo(tmp_path / "yolo", {"a": BOX})
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "yolo" / "data.yaml", "data.yaml")
    shutil.make_archive(str(tmp_path / "data"), "gztar", tmp_path / "yolo")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    for path, reason in (
        (archive, "is an archive: unpack it"),
        (tmp_path / "data.tar.gz", "is an archive: unpack it"),
        (tmp_path / "link", "is a broken link"),
        (tmp_path / "nowhere", "does not exist"),
    ):
        for convert in (from_yolo, voc, lambda src, out: convert_coco(src, out, progress=False)):
            with pytest.raises(InputError, match=reason):
                convert(path, tmp_path / "out")


@pytest.mark.parametrize("spelt", ["A B \u00c9.txt", "a b \u00e9.TXT"])
def test_labels_are_found_in_another_case_or_form(tmp_path, spelt):
    name = "a b \u00e9"
    source = yolo(tmp_path / "yolo", {"other": BOX})
    picture(source.parent / "train" / "images" / f"{unicodedata.normalize('NFD', name)}.jpg")
    (source.parent / "train" / "labels" / spelt).write_text(BOX)
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 7.5, 20, 15]] * 2 and report.problems == 0


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_voc_names_are_found_in_another_case_or_form(tmp_path, form):
    names = ("Caf\u00e9", "ni\u00f1o")
    for name in names:
        picture(tmp_path / "JPEGImages" / f"{unicodedata.normalize('NFD', name)}.jpg")
        file_name = f"{unicodedata.normalize(form, name)}.jpg"
        stem = unicodedata.normalize("NFC", name)
        xml(tmp_path / "Annotations" / f"{stem}.xml", filename=file_name)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, name in zip(("train", "val"), names, strict=True):
        (lists / f"{split}.txt").write_text(unicodedata.normalize(form, name).lower())
    report = voc(tmp_path, None)
    assert [split["boxes"] for split in report.splits.values()] == [1, 1]
    assert report.problems == 0


@pytest.mark.parametrize("line", ["0 20 15 20 15", "0 50 50 50 50", "0 1e308 1e308 1e308 1e308"])
def test_boxes_in_pixels_or_percent_are_called_so(tmp_path, line):
    with pytest.raises(InputError, match="numbers over 1; a box is in fractions of its image"):
        from_yolo(yolo(tmp_path / "yolo", {"a": line}), tmp_path / "out")


def test_corners_in_place_of_centres_are_refused(tmp_path):
    corners = "0 0.1 0.1 0.4 0.4\n1 0.5 0.55 0.9 0.95\n"
    with pytest.raises(InputError, match="seem to be x1 y1 x2 y2.*, 2 of 3 leave"):
        from_yolo(yolo(tmp_path / "a", {"a": corners, "b": "0 0.1 0.1 0.2 0.2"}), tmp_path / "out")
    # A box that leaves its image is no proof, as long as another cannot be two corners.
    report = from_yolo(yolo(tmp_path / "b", {"a": corners + "0 0.5 0.5 0.2 0.2"}), tmp_path / "out")
    assert report.counts["box_clipped"] == 2


def test_an_image_that_was_resized_after_labelling_is_left_out(tmp_path):
    src = tmp_path / "src"
    pair(src, "a")
    pair(src, "b", size=(80, 60), boxes=[(30, 20, 70, 50)])
    pair(src, "turned", size=(30, 40), boxes=[(2, 2, 20, 38)])
    pair(src, "zero", size=(0, 0), boxes=[(1, 1, 20, 20)])
    pair(src, "outside", size=(50, 30), boxes=[(1, 1, 70, 20)])  # fits neither: clipped
    report = voc(src, tmp_path / "out")
    assert {name for name, _ in report.named["resized"]} == {
        "JPEGImages/b.jpg",
        "JPEGImages/turned.jpg",
    }
    assert report.splits["train"]["images"] == 3 and report.counts["size_wrong"] == 4


HALF = [(1, 1, 9, 9), (5, 5, 20, 15), (2, 2, 35, 28)]  # all within 40x30
WHOLE = [(30, 20, 70, 50), *HALF]  # one reaches beyond 40x30, all within 80x60


@pytest.mark.parametrize(
    ("sizes", "own", "kept"),
    [
        # <size> of the images, their own size, and the images that stay
        ({"all": ((80, 60), WHOLE)}, (40, 30), {}),  # halved: one of four proves it
        ({"all": ((40, 30), HALF)}, (80, 60), {}),  # enlarged: no box reaches beyond the half
        ({"all": ((40, 30), WHOLE)}, (80, 60), {"all": 4}),  # <size> alone is wrong
        ({"all": ((80, 60), HALF * 4)}, (40, 30), {"all": 12}),  # the boxes were halved, too
        ({"all": ((80, 60), HALF)}, (40, 30), {}),  # too few to tell
        ({"all": ((41, 31), HALF)}, (40, 30), {"all": 3}),  # rounding
        ({"all": ((90, 40), WHOLE[1:])}, (40, 30), {"all": 3}),  # nothing tells
        ({"all": ((90, 60), WHOLE)}, (40, 30), {}),  # stretched
        (
            {"a": ((80, 60), WHOLE), "b": ((40, 30), HALF), "c": ((0, 0), HALF)},
            (40, 30),
            {"b": 3, "c": 3},
        ),
    ],
)
def test_resized_images_are_known_by_all_of_their_boxes(tmp_path, sizes, own, kept):
    for name, (size, found) in sizes.items():
        for n, box in enumerate(found):
            picture(tmp_path / f"{name}{n}.jpg", own)
            xml(tmp_path / f"{name}{n}.xml", [box], size=size)
    if not kept:
        with pytest.raises(InputError, match="resized after .* all0.jpg, its boxes are of"):
            voc(tmp_path, None)
        return
    report = voc(tmp_path, None)
    assert report.splits["train"]["images"] == report.splits["train"]["boxes"] == sum(kept.values())
    assert report.counts["resized"] == sum(len(f) for _, f in sizes.values()) - sum(kept.values())
    assert balanced(report)


def test_boxes_that_an_image_has_twice_are_left_out(tmp_path):
    source = yolo(tmp_path / "yolo", {"a": BOX + "1 0.5 0.5 0.5 0.5\n" + BOX})
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 7.5, 20, 15]] * 2  # of two classes
    assert report.counts["box_repeated"] == 1 and report.boxes_dropped == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>", "an HTML page, probably from a failed download"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"PK\x03\x04", "an archive: unpack it"),
        (b"", "empty: download the file again"),
    ],
)
def test_files_that_are_no_json_are_called_what_they_are(tmp_path, content, what):
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"not a JSON file: it is {what}"):
        check_coco(path).refuse()
    with pytest.raises(InputError, match=f"not a JSON file: it is {what}"):
        read_split(path)


def test_annotations_that_repeat_another_are_counted(tmp_path):
    path = tmp_path / "train.json"
    content = coco(["1.jpg", "2.jpg"])
    content["annotations"] += [dict(each, id=each["id"] + 10) for each in content["annotations"]]
    path.write_text(json.dumps(content))
    report = check_coco(path)
    assert report.filled["annotations that repeat another one exactly, kept"] == ["id 11", "id 12"]
