"""Habits of people and tools that cost boxes, or gave them to another class or image, silently."""

import json
import shutil
from pathlib import PurePath

import pytest

from mmsdpt.datasets.converters import convert_coco, convert_voc, convert_yolo
from mmsdpt.datasets.folder_doctor import examine_folder
from mmsdpt.utils.errors import InputError

from .converter_sources import balanced, boxes, coco, from_yolo, pair, picture, read, voc, xml, yolo
from .test_converter_exports import BOX, PIXELS, label
from .test_image_files import animation


@pytest.mark.parametrize("track", ["0", "1"])
def test_the_first_track_is_no_corner_of_a_triangle(tmp_path, track):
    report = from_yolo(
        yolo(tmp_path / "src", {"a": f"{BOX.strip()} 0.9 {track}"}), tmp_path / "out"
    )
    assert boxes(tmp_path / "out") == [PIXELS] and report.counts["further_columns"] == 1
    triangle = yolo(tmp_path / "polygons", {"a": "0 0.25 0.25 0.75 0.25 0.5 0.75"})
    from_yolo(triangle, tmp_path / "out2")
    assert boxes(tmp_path / "out2") == [PIXELS]


def test_a_triangle_that_ends_in_a_corner_is_one_among_polygons(tmp_path):
    triangle, square = "0 0 .5 .25 .75 .5 1\n", "0 .1 .1 .5 .1 .5 .5 .1 .5\n"
    tracks = f"{BOX.strip()} 0.9 2\n{BOX.strip()} 0.9 3\n"
    for number, (other, first) in enumerate(
        ((square, [0, 15, 20, 15]), ("", [0, 3.75, 5, 22.5]), (square + tracks, [0, 3.75, 5, 22.5]))
    ):
        source = yolo(tmp_path / f"{number}", {"a": triangle, "b": other + BOX})
        from_yolo(source, tmp_path / f"out{number}")
        assert boxes(tmp_path / f"out{number}")[0] == first


@pytest.mark.parametrize(
    ("labels", "data", "message"),
    [
        (f"1{BOX[1:]}2{BOX[1:]}", "[cat, dog]", "have the classes 1 to 2, but the names .* 0 to 1"),
        (f"0{BOX[1:]}1{BOX[1:]}", "{1: cat, 2: dog}", "have the classes 0 to 1, .* 1 to 2"),
        (BOX.strip() + " 1.57", "[cat]", "after the box in .*a.txt:1 .* rotated"),
        (BOX.strip() + " -0.3", "[cat]", "after the box in .*a.txt:1 .* rotated"),
        (BOX, "[cat]\nnames: [dog]", "the key names twice"),
        (BOX, "[cat]\nkpt_shape: 17", r"kpt_shape .* as in \[17, 3\]; got '17'"),
        (BOX, "[cat]\nval: train/images\ntrain: tren", "the key train twice"),
        ("cat 0.5 0.5 0.5 0.5", "[cat]", "a column is not a number: cat 0.5 0.5 0.5 0.5"),
    ],
)
def test_what_would_give_boxes_another_meaning_is_refused(tmp_path, labels, data, message):
    source = yolo(tmp_path / "src", {"a": labels}, f"train: train/images\nnames: {data}\n")
    with pytest.raises(InputError, match=message):
        from_yolo(source, tmp_path / "out")


def test_boxes_from_their_corner_are_refused(tmp_path):
    """x y w h of the upper left corner, as COCO counts, in fractions."""
    labels = {f"{i}": f"0 0.0{i} 0.{i} 0.4 0.{9 - i}" for i in range(1, 9)}
    with pytest.raises(InputError, match="x y w h from the upper left corner.* 8 of 8 leave"):
        from_yolo(yolo(tmp_path / "src", labels), tmp_path / "out")


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
def test_labels_without_any_box_are_refused(tmp_path, kind):
    source, words = tmp_path / "src", "labels of .* are empty: none of the 2 images has a box"
    if kind == "yolo":
        source, convert = yolo(source, {"a": "", "b": ""}), convert_yolo
    elif kind == "voc":
        pair(source, "a", boxes=[]), pair(source, "b", boxes=[])
        convert, words = convert_voc, "No object .* was found in the 2 XML files"
    else:
        picture(source / "a.png"), picture(source / "b.png")
        images = [
            dict(id=i, file_name=f"{n}.png", width=40, height=30) for i, n in [(1, "a"), (2, "b")]
        ]
        content = dict(images=images, annotations=[], categories=[dict(id=1, name="cat")])
        (source / "train.json").write_text(json.dumps(content))
        convert = convert_coco
    with pytest.raises(InputError, match=words):
        convert(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_an_animation_is_noted(tmp_path):
    source = yolo(tmp_path / "src", {"a": BOX})
    (source.parent / "train/images/a.jpg").unlink()
    animation(source.parent / "train/images/a.png")
    report = from_yolo(source, tmp_path / "out")
    assert report.named["doubtful"] == [
        ("train/images/a.png", "3 frames or pages, only the first is used")
    ]


def test_ultralytics_path_is_no_problem_where_the_splits_are_beside_the_file(tmp_path):
    data = "path: ../datasets/src\ntrain: train/images\nval: {}\nnames: [cat]\n"
    source = yolo(tmp_path / "src", {"a": BOX}, data.format("train/images"))
    report = from_yolo(source, None, split=(1, 0, 0), strict=True)
    assert report.counts == {"path_unused": 1}
    source.write_text(data.format("valid/images"))
    report = from_yolo(source, None)
    assert report.counts == {"split_missing": 1, "path_refused": 1}
    assert "--root names another folder" in report.named["path_refused"][0][1]


def test_validation_images_alone_are_no_data_set(tmp_path):
    source = yolo(tmp_path / "src", {"a": BOX}, "train: tren\nval: train/images\nnames: [cat]\n")
    with pytest.raises(InputError, match="no training images: data.yaml train: tren is not there"):
        from_yolo(source, tmp_path / "out")
    source.write_text("train: train.txt\nval: train/images\nnames: [cat]\n")
    (source.parent / "train.txt").write_text("train/images/a\n")  # without its suffix
    with pytest.raises(InputError, match="train: no image that train.txt lists is there"):
        from_yolo(source, tmp_path / "out")


def test_a_split_of_null_is_not_named(tmp_path):
    data = "train: train/images\nval: null\ntest: ~\nkpt_shape: null\nnames: [cat]\n"
    source = yolo(tmp_path / "src", {"a": BOX}, data)
    shutil.copytree(source.parent / "train", source.parent / "valid")
    report = from_yolo(source, tmp_path / "out", strict=True)
    assert list(report.splits) == ["train", "val"]
    assert report.counts == {"split_from_folder": 1}


def test_a_split_that_roboflow_names_and_does_not_write_is_only_missing(tmp_path):
    data = "train: ../train/images\nval: ../valid/images\nnames: [cat]\n"
    report = from_yolo(yolo(tmp_path / "src", {"a": BOX}, data), tmp_path / "out")
    assert report.named == {"split_missing": [("data.yaml val", "../valid/images is not there")]}


def test_a_path_from_the_root_of_a_container_is_found(tmp_path):
    source = yolo(tmp_path / "src", {"a": BOX}, "train: /train/images\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out")
    assert report.named == {"path_moved": [("data.yaml train", "/train/images")]}


def test_an_empty_list_is_said(tmp_path):
    data = "train: train/images\ntest: test.txt\nnames: [cat]\n"
    source = yolo(tmp_path / "src", {"a": BOX}, data)
    (source.parent / "test.txt").touch()
    report = from_yolo(source, tmp_path / "out")
    assert report.named["split_missing"] == [("data.yaml test", "test.txt has no image")]


@pytest.mark.parametrize("text", ["0 cat\n1 dog\n", "0: cat\n1: dog", "cat\ndog\n\n\n"])
def test_a_list_of_classes_may_have_their_numbers(tmp_path, text):
    source = yolo(tmp_path / "src", {"a": "1" + BOX[1:]}, "train: train/images\nnames: c.txt\n")
    (source.parent / "c.txt").write_text(text)
    assert from_yolo(source, tmp_path / "out").categories == ("cat", "dog")
    assert read(tmp_path / "out")["annotations"][0]["category_id"] == 2


@pytest.mark.parametrize("text", ["cat\n\ndog\n", "\ncat\ndog", "# animals\ncat\ndog"])
def test_a_line_that_may_count_as_a_class_is_refused(tmp_path, text):
    source = yolo(tmp_path / "src", {"a": BOX}, "train: train/images\nnames: c.txt\n")
    (source.parent / "c.txt").write_text(text)
    with pytest.raises(InputError, match="line [12] of .*c.txt is .*remove it"):
        from_yolo(source, tmp_path / "out")


def test_folders_called_image_and_label_and_lists_of_bare_names(tmp_path):
    root = tmp_path / "src"
    for split in ("train", "val"):  # the same names in both
        picture(root / split / "image" / "1.jpg")
        label(root / split / "label" / "1.txt")
    picture(root / "images" / "bare.jpg")
    label(root / "labels" / "bare.txt")
    (root / "test.txt").write_text("bare.jpg\n")
    (root / "data.yaml").write_text(
        "train: train/image\nval: val/image\ntest: test.txt\nnames: [cat]"
    )
    report = from_yolo(root, tmp_path / "out")
    assert all(boxes(tmp_path / "out", split) == [PIXELS] for split in ("train", "val", "test"))
    assert report.problems == 0


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
@pytest.mark.parametrize(
    "folders",
    [
        {"train": "train2017", "val": "val2017", "test": "test-dev"},
        {"train": "DET-train", "val": "DET-val", "test": "DET-test-dev"},
        {"train": "train/test_chart", "val": "val/dev", "test": "test"},
    ],
)
def test_a_word_of_a_folders_name_is_its_split(tmp_path, kind, folders):
    root = tmp_path / "src"
    for split, folder in folders.items():
        image = picture(root / folder / f"{split}.jpg")
        if kind == "yolo":
            image.with_suffix(".txt").write_text(BOX)
            (root / "classes.txt").write_text("cat\n")
        elif kind == "voc":
            xml(image.with_suffix(".xml"))
        else:
            (root / folder / "labels.json").write_text(json.dumps(coco([image.name])))
    convert = dict(yolo=convert_yolo, voc=convert_voc, coco=convert_coco)[kind]
    report = convert(root, tmp_path / "out", progress=False)
    assert {split: found["images"] for split, found in report.splits.items()} == {
        split: 1 for split in folders
    }
    assert report.problems == 0
    if kind == "coco":
        titles = [finding.title.split(":")[0] for finding in examine_folder(root)]
        assert sorted(titles) == ["COCO, test", "COCO, train", "COCO, val"]


def test_a_word_alone_or_beside_the_splits_own_folder_is_none(tmp_path):
    for folders, splits in (
        (("test_cam", "cam2"), {"train": 2}),
        (("train", "train_drawn", "val"), {"train": 1, "val": 1}),
    ):
        root = tmp_path / folders[0]
        for folder in folders:
            label(picture(root / folder / f"{folder}.jpg").with_suffix(".txt"))
        (root / "classes.txt").write_text("cat\n")
        report = from_yolo(root, None)
        assert {split: found["images"] for split, found in report.splits.items()} == splits


@pytest.mark.parametrize("kind", ["yolo", "voc"])
@pytest.mark.parametrize("last", ["street", "val_street"])
def test_words_count_where_every_folder_with_images_has_one(tmp_path, kind, last):
    for folder in ("test_drive", "training_ground", last):
        image = picture(tmp_path / folder / f"{folder}.jpg")
        label(image.with_suffix(".txt")) if kind == "yolo" else xml(image.with_suffix(".xml"))
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "notes").mkdir()
    report = (convert_yolo if kind == "yolo" else convert_voc)(tmp_path, None, progress=False)
    expected = {"train": 1, "val": 1, "test": 1} if "val" in last else {"train": 3}
    assert {split: found["images"] for split, found in report.splits.items()} == expected
    assert report.images_dropped == 0


@pytest.mark.parametrize("kind", ["yolo", "voc"])
@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train_images", "test_images", "."), {"train": 1, "test": 1}),
        (("test_drive", "training_ground", "."), {"train": 1, "test": 1}),
        (("images/train_a", "images/test_b", "images"), {"train": 1, "test": 1}),
        (("train", "val2", "extra"), {"train": 1, "val": 1}),
        (("train2017", "val2017", "unlabeled2017"), {"train": 1, "val": 1}),
        (("DET-train", "DET_test-dev", "extra"), {"train": 1, "test": 1}),
        (("train", "valid", "extra"), {"train": 1, "val": 1}),
    ],
)
def test_images_beside_the_splits_are_in_none(tmp_path, kind, folders, splits):
    for number, folder in enumerate(folders):
        image = picture(tmp_path / folder / f"{number}.jpg")
        label(image.with_suffix(".txt")) if kind == "yolo" else xml(image.with_suffix(".xml"))
    (tmp_path / "classes.txt").write_text("cat\n")
    report = (convert_yolo if kind == "yolo" else convert_voc)(tmp_path, None, progress=False)
    assert {split: found["images"] for split, found in report.splits.items()} == splits
    where = (PurePath(folders[2]) / "2.jpg").as_posix()
    assert report.named["not_in_split"] == [(where, "")] and balanced(report)


def test_an_image_in_a_split_by_a_link_is_in_one(tmp_path):
    for folder in ("train", "val"):
        label(picture(tmp_path / "pool" / f"{folder}.jpg").with_suffix(".txt"))
        (tmp_path / folder).mkdir()
        for suffix in (".jpg", ".txt"):
            (tmp_path / folder / f"{folder}{suffix}").symlink_to(
                tmp_path / "pool" / f"{folder}{suffix}"
            )
    (tmp_path / "classes.txt").write_text("cat\n")
    report = from_yolo(tmp_path, None)
    assert report.images_found == 2 and "not_in_split" not in report.counts


def test_a_word_beside_the_splits_of_a_data_file_is_none(tmp_path):
    for folder in ("train", "valid"):
        label(picture(tmp_path / folder / f"{folder}.jpg").with_suffix(".txt"))
    picture(tmp_path / "test_results" / "valid.jpg")
    (tmp_path / "data.yaml").write_text("train: train\nval: valid\nnames: [cat]\n")
    assert list(from_yolo(tmp_path, None).splits) == ["train", "val"]
    (tmp_path / "test_results").rename(tmp_path / "Testing")
    report = from_yolo(tmp_path, None)
    assert report.counts["split_from_folder"] == 1 and list(report.splits)[2] == "test"


def test_folders_that_share_a_splits_word_are_all_of_it(tmp_path):
    for folder in ("train_a", "train_b", "val_a"):
        label(picture(tmp_path / folder / f"{folder}.jpg").with_suffix(".txt"))
    (tmp_path / "classes.txt").write_text("cat\n")
    report = from_yolo(tmp_path, None)
    assert report.splits["train"]["boxes"] == 2 and report.splits["val"]["boxes"] == 1


def test_a_coco_file_that_tells_no_split_beside_others_is_a_problem(tmp_path):
    for name in ("val", "more"):
        picture(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.json").write_text(json.dumps(coco([f"{name}.jpg"])))
    report = convert_coco(tmp_path, None, progress=False)
    assert report.named["split_unknown"] == [("more.json", "")] and report.problems == 1
    assert convert_coco(tmp_path, None, split=(1, 1, 0), progress=False).problems == 0
    (tmp_path / "val.json").unlink()
    report = convert_coco(tmp_path, None, progress=False)
    assert report.counts["no_split"] == 1 and report.problems == 0


def test_links_to_nothing_are_counted(tmp_path):
    source = yolo(tmp_path / "src", {"a": BOX})
    (source.parent / "train" / "images" / "b.jpg").symlink_to("moved.jpg")
    report = from_yolo(source, tmp_path / "out")
    assert report.named["path_refused"][0][0] == "train/images/b.jpg"


def names(out, split):
    content = read(out, split)
    classes = {each["id"]: each["name"] for each in content["categories"]}
    return [classes[each["category_id"]] for each in content["annotations"]]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("my photo 1\nmy photo 2\n", "x.v1\n"),
        ("my photo 1.jpg\nJPEGImages/my photo 2.jpg", "Annotations\\x.v1.xml"),
        ("my photo 1  1\nmy photo 2 -1", "x.v1  0"),
    ],
)
@pytest.mark.parametrize("folder", ["ImageSets/Main", "imagesets/main"])
def test_lists_name_files_with_spaces_and_dots(tmp_path, train, val, folder):
    root = tmp_path / "VOCdevkit"
    for stem, name in (("my photo 1", "cat"), ("my photo 2", "dog"), ("x.v1", "owl")):
        pair(root / "VOC2007", stem, name=name)
    lists = root / "VOC2007" / folder
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(train)
    (lists / "val.txt").write_text(val)
    report = voc(root, tmp_path / "out")
    assert names(tmp_path / "out", "train") == ["cat", "dog"]
    assert names(tmp_path / "out", "val") == ["owl"] and report.problems == 0


def test_cameras_that_number_alike_keep_their_boxes(tmp_path):
    root = tmp_path / "src"
    for camera, name in (("cam1", "cat"), ("cam2", "dog")):
        picture(root / "JPEGImages" / camera / "000.jpg")
        xml(root / "Annotations" / camera / "000.xml", name=name)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("cam2/000\n")
    (lists / "val.txt").write_text("cam1/000\n")
    report = voc(root, tmp_path / "out")
    assert names(tmp_path / "out", "train") == ["dog"] and report.problems == 0
    (lists / "val.txt").write_text("000\n")
    report = voc(root, tmp_path / "out2")
    assert "may be any of 2 files" in report.named["listed_absent"][0][1]


def test_the_reason_why_no_xml_file_is_read_is_told(tmp_path):
    picture(tmp_path / "src" / "a.jpg")
    (tmp_path / "src" / "a.xml").write_text("<annotations><image/></annotations>")
    with pytest.raises(InputError, match="its root is <annotations>, expected <annotation>"):
        voc(tmp_path / "src", tmp_path / "out")


def test_a_broken_annotation_file_is_not_passed_over(tmp_path):
    for split in ("train", "val"):
        pair(tmp_path / "voc", split)
    voc(tmp_path / "voc", tmp_path / "src", split=(1, 1, 0))
    train = tmp_path / "src" / "annotations" / "train.json"
    train.write_bytes(train.read_bytes()[:-20])
    with pytest.raises(InputError, match="train.json: this is not a JSON file"):
        convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    wrong = [p for finding in examine_folder(tmp_path / "src") for p in finding.problems]
    assert any("this is not a JSON file" in problem for problem in wrong)
    train.write_text(json.dumps([dict(file_name="a.jpg", annotations=[])]))
    report = convert_coco(tmp_path / "src", tmp_path / "out", progress=False)
    told = dict(report.named["other_task"])["annotations/train.json"]
    assert told.startswith("a list of images with their annotations")
