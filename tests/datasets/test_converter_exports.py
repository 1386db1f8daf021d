"""Exports of CVAT, Roboflow, Label Studio, labelImg and others are read in the layout that these
tools write, and names that a model cannot tell apart are refused with the way out.
"""

import math

import pytest

from mmsdpt.datasets.converters import convert_coco
from mmsdpt.utils.errors import InputError

from .converter_sources import (
    balanced,
    boxes,
    converter,
    from_yolo,
    pair,
    picture,
    read,
    voc,
    yolo,
)

BOX = "0 0.5 0.5 0.5 0.5\n"  # 10, 7.5, 20, 15 in 40x30
PIXELS = [10, 7.5, 20, 15]


def label(path, text=BOX):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cvat(root):
    """CVAT's YOLO 1.1."""
    for split in ("train", "valid"):
        for n in range(2):
            picture(root / f"obj_{split}_data" / f"{split}_{n}.jpg")
            label(root / f"obj_{split}_data" / f"{split}_{n}.txt")
        names = "".join(f"data/obj_{split}_data/{split}_{n}.jpg\n" for n in range(2))
        (root / f"{split}.txt").write_text(names)
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
        "backup = backup/\n"
    )


def label_studio(root):
    for n in range(2):
        picture(root / "images" / f"a_{n}.jpg")
        label(root / "labels" / f"a_{n}.txt")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "notes.json").write_text('{"categories": []}')


def label_img(root):
    """Images, labels and classes.txt in one folder."""
    for n in range(2):
        picture(root / f"a_{n}.JPG")
        label(root / f"a_{n}.txt")
    (root / "classes.txt").write_text("cat\r\ndog\r\n")


def label_img_two_folders(root):
    for n in range(2):
        picture(root / "pictures" / f"a_{n}.jpg")
        label(root / "labels" / f"a_{n}.txt")
    (root / "labels" / "classes.txt").write_text("cat\ndog\n")


def dead_paths(root):
    for split in ("train", "val"):
        picture(root / "images" / split / f"{split}.jpg")
        label(root / "labels" / split / f"{split}.txt")
    (root / "data.yaml").write_text(
        "path: /content/datasets/x\ntrain: /content/datasets/x/images/train\n"
        "val: C:\\Users\\me\\x\\images\\val\nnames: [cat, dog]\n"
    )


def ultralytics_lists(root):
    """CVAT's Ultralytics export: lists with a folder in front that is not there."""
    dead_paths(root)
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text(f"data/images/{split}/{split}.jpg\n")
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: {0: cat, 1: dog}\n")


def capital(root):
    for n in range(2):
        picture(root / "Train" / "images" / f"{n}.JPG")
        label(root / "Train" / "labels" / f"{n}.TXT")
    (root / "dataset.yml").write_text("Train: Train/images\nnames: [cat, dog]\n")


def flat_labels(root):
    for split in ("training", "validation"):
        picture(root / split / f"{split}.jpg")
        label(root / "annotations" / f"{split}.txt")
    (root / "data.yaml").write_text("names: [cat, dog]\n")


LAYOUTS = {
    cvat: {"train": 2, "val": 2},
    label_studio: {"train": 2},
    label_img: {"train": 2},
    label_img_two_folders: {"train": 2},
    dead_paths: {"train": 1, "val": 1},
    ultralytics_lists: {"train": 1, "val": 1},
    capital: {"train": 2},
    flat_labels: {"train": 1, "val": 1},
}


@pytest.mark.parametrize("make", LAYOUTS)
def test_yolo_layouts_of_labelling_tools_are_read(tmp_path, make):
    make(tmp_path / "src")
    report = from_yolo(tmp_path / "src", tmp_path / "out")
    assert {name: split["images"] for name, split in report.splits.items()} == LAYOUTS[make]
    for split, images in LAYOUTS[make].items():
        assert boxes(tmp_path / "out", split) == [PIXELS] * images
    assert report.categories == ("cat", "dog") and balanced(report)
    if make is dead_paths:
        assert {where for where, _ in report.named["path_moved"]} == {
            "data.yaml train",
            "data.yaml val",
        }


def test_yolo_images_can_be_split_by_seed(tmp_path):
    label_studio(tmp_path / "src")
    report = from_yolo(tmp_path / "src", tmp_path / "out", split=(1, 0, 1), seed=2)
    assert {name: split["images"] for name, split in report.splits.items()} == {
        "train": 1,
        "test": 1,
    }
    assert balanced(report)


def test_a_folder_that_no_tool_writes_is_refused_with_the_layouts(tmp_path):
    picture(tmp_path / "src" / "a.jpg")
    with pytest.raises(InputError, match="data.yaml .*obj.data .*classes.txt .*found none"):
        from_yolo(tmp_path / "src", tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("[yes, no]", ("yes", "no")),
        ("[on, off]", ("on", "off")),
        ("[null, ~x]", ("null", "~x")),
        ('["a, b", 1.0]', ("a, b", "1.0")),
        ("{0: y, 1: n}", ("y", "n")),
        ("classes.txt", ("cat", "hot dog")),
    ],
)
def test_class_names_of_data_yaml_are_texts(tmp_path, names, found):
    source = yolo(tmp_path / "src", {"a": BOX}, f"train: train/images\nnc: 2\nnames: {names}\n")
    (tmp_path / "src" / "classes.txt").write_text("cat\nhot  dog\n")
    report = from_yolo(source, tmp_path / "out")
    assert report.categories == found and "nc_differs" not in report.counts


@pytest.mark.parametrize(
    ("shape", "extra"), [("[2, 2]", "0.1 0.2 0.3 0.4"), ("[1, 3]", "0.1 0.2 2"), ("[1,3]", "")]
)
def test_poses_give_their_boxes(tmp_path, shape, extra):
    source = yolo(
        tmp_path / "src",
        {"a": f"{BOX.strip()} {extra}\n"},
        f"train: train/images\nkpt_shape: {shape}\nnames: [cat]\n",
    )
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [PIXELS] and report.problems == 0
    assert report.counts["keypoints"] == bool(extra)


@pytest.mark.parametrize("extra", ["0.93", "7", "0.93 7"])
def test_confidences_and_track_numbers_are_left_aside(tmp_path, extra):
    source = yolo(tmp_path / "src", {"a": f"{BOX.strip()} {extra}\n"})
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [PIXELS] and report.counts["further_columns"] == 1


LOST = {
    "pixels for fractions": {"a": "0 200 150 50 50\n"},
    "another kpt_shape": {"a": BOX.strip() + " 0.1 0.2 2\n"},
    "unknown class": {"a": "9 0.5 0.5 0.5 0.5\n"},
    "no label at all": {"a": None, "b": None},
}


@pytest.mark.parametrize("labels", LOST.values(), ids=LOST)
def test_a_conversion_that_loses_every_box_fails_with_the_first_place(tmp_path, labels, capsys):
    source = yolo(tmp_path / "src", labels)
    if "0.1" in str(labels):
        source.write_text("train: train/images\nkpt_shape: [3, 3]\nnames: [cat]\n")
    with pytest.raises(SystemExit) as stop:
        converter("yolo2coco").main([str(source), "--out", str(tmp_path / "out"), "--quiet"])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and "train/" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- VOC


def test_lists_of_any_case_and_synonym_are_splits(tmp_path):
    src = tmp_path / "src"
    for stem in "abc":
        pair(src, stem)
    lists = src / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "Train.txt").write_text("a\n")
    (lists / "Validation.TXT").write_text("b\nc\n")
    report = voc(src, tmp_path / "out")
    assert {name: split["images"] for name, split in report.splits.items()} == {
        "train": 1,
        "val": 2,
    }
    (lists / "valid.txt").write_text("b\n")
    with pytest.raises(InputError, match="list the same split"):
        voc(src, tmp_path / "out2")


@pytest.mark.parametrize("encoding", ["GBK", "Shift_JIS", "euc-kr", "windows-1252", "ISO-8859-15"])
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path, encoding):
    name = {"GBK": "\u5706", "Shift_JIS": "\u4e38", "euc-kr": "\uc6d0"}.get(
        encoding, "\u00e9t\u00e9"
    )
    pair(tmp_path / "src", "a", name=name)
    path = tmp_path / "src" / "Annotations" / "a.xml"
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + path.read_text(encoding="utf-8")
    path.write_bytes(text.encode(encoding))
    pair(tmp_path / "src", "b")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert set(report.categories) == {name, "cat"}
    assert ("class_name_doubtful" in report.counts) == (not name[1:])


@pytest.mark.parametrize("declared", ["klingon", "hex", "utf-8"])
def test_one_file_in_a_wrong_encoding_is_left_out_and_named(tmp_path, declared):
    pair(tmp_path / "src", "a", name="\u00e9")
    path = tmp_path / "src" / "Annotations" / "a.xml"
    text = f'<?xml version="1.0" encoding="{declared}"?>' + path.read_text(encoding="utf-8")
    path.write_text(text, encoding="latin-1")
    pair(tmp_path / "src", "b")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert len(read(tmp_path / "out")["images"]) == 1
    assert report.counts["label_refused"] == 1


def objects(path, inner):
    path.write_text(f"<annotation><object><name>cat</name>{inner}</object></annotation>")


def test_rotated_boxes_and_polygons_give_their_bounding_boxes(tmp_path):
    for stem in "abc":
        pair(tmp_path / "src", stem)
    folder = tmp_path / "src" / "Annotations"
    quarter = math.pi / 2
    objects(
        folder / "a.xml",
        f"<robndbox><cx>20</cx><cy>15</cy><w>20</w><h>10</h><angle>{quarter}</angle></robndbox>",
    )
    points = ((5, 5), (25, 5), (15, 20))
    pts = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points)
    objects(folder / "b.xml", f"<polygon>{pts}</polygon>")
    numbered = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(points, 1))
    objects(folder / "c.xml", f"<polygon>{numbered}</polygon>")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[15, 5, 10, 20], [5, 5, 20, 15], [5, 5, 20, 15]]
    assert report.counts["polygon"] == 3


def test_objects_without_a_box_are_refused_with_what_they_have(tmp_path):
    pair(tmp_path / "src", "a")
    objects(tmp_path / "src" / "Annotations" / "a.xml", "<circle>1</circle>")
    with pytest.raises(InputError, match="without a <bndbox> of four numbers, it has <circle>"):
        voc(tmp_path / "src", tmp_path / "out")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "names", [("circle", "Circle", "circle_"), ("M (3)", "M (5)"), ("(unknown)", "cat")]
)
def test_classes_that_a_model_cannot_tell_apart_are_refused_with_the_way_out(tmp_path, names):
    for number, name in enumerate(names):
        pair(tmp_path / "src", str(number), name=name)
    with pytest.raises(InputError, match="--rename"):
        voc(tmp_path / "src", tmp_path / "out")
    rename = dict.fromkeys(names, "disc")
    report = voc(tmp_path / "src", tmp_path / "out", rename=rename)
    assert report.categories == ("disc",) and len(boxes(tmp_path / "out")) == len(names)
    apart = {name: f"thing {'abc'[n]}" for n, name in enumerate(names)}
    report = voc(tmp_path / "src", tmp_path / "out2", rename=apart)
    assert report.categories == tuple(sorted(apart.values()))


def test_classes_are_renamed_in_every_format(tmp_path):
    yolo_source = yolo(tmp_path / "yolo", {"a": BOX + "1 0.5 0.5 0.4 0.5\n"})
    report = from_yolo(yolo_source, tmp_path / "y", rename={"dog": "cat"})
    assert report.categories == ("cat",) and len(boxes(tmp_path / "y")) == 2
    pair(tmp_path / "voc", "a", name="RBC")
    arguments = [str(tmp_path / "voc"), "--out", str(tmp_path / "v"), "--quiet"]
    assert converter("voc2coco").main([*arguments, "--rename", "RBC=red blood cell"]) == 0
    assert read(tmp_path / "v")["categories"][0]["name"] == "red blood cell"
    report = convert_coco(tmp_path / "v", tmp_path / "c", rename={"red blood cell": "cell"})
    assert report.categories == ("cell",)
    for convert, src in ((from_yolo, yolo_source), (voc, tmp_path / "voc")):
        with pytest.raises(InputError, match="--rename has 'emu', which is not one of"):
            convert(src, tmp_path / "none", rename={"emu": "x"})
