"""The converters handle what real folders hold, count it exactly, and read nothing outside the
source.
"""

import importlib.util
import io
import json
import os
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.evaluation import CocoMetric
from PIL import Image

from mmsdpt.datasets.converters import ProblemsFound, convert_voc, convert_yolo
from mmsdpt.datasets.converters import files as converter_files
from mmsdpt.datasets.converters.common import turn_box
from mmsdpt.datasets.image_files import ImageFacts
from mmsdpt.utils.errors import InputError

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "dataset_converters"


def picture(path: Path, size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(
        0, 255, (size[1], size[0], 3), dtype=np.uint8
    )
    options = {}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(path, **options)
    return path


def truncated(path: Path) -> Path:
    picture(path, (64, 64))
    path.write_bytes(path.read_bytes()[:-200])
    return path


def xml(
    path: Path,
    boxes: list[tuple] = ((11, 6, 21, 16),),
    filename: str | None = None,
    size: tuple[int, int] | None = (40, 30),
    name: str = "cat",
    extra: str = "",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    filename = f"{path.stem}.jpg" if filename is None else filename
    lines = ["<annotation>", f"<filename>{filename}</filename>"]
    if size:
        lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for x1, y1, x2, y2 in boxes:
        lines.append(
            f"<object><name>{name}</name>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    path.write_text("\n".join([*lines, "</annotation>"]))
    return path


def pair(root: Path, stem: str, **options: object) -> None:
    """A valid image and its XML, or one that differs from it by ``options``."""
    picture(root / "JPEGImages" / f"{stem}.jpg")
    xml(root / "Annotations" / f"{stem}.xml", **options)


def yolo(root: Path, labels: dict[str, str | None], data: str = "") -> Path:
    """A YOLO folder with one image per label (None: no label file), all in train."""
    for stem, text in labels.items():
        picture(root / "train" / "images" / f"{stem}.jpg")
        if text is not None:
            label = root / "train" / "labels" / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    source = root / "data.yaml"
    source.write_text(data or "train: train/images\nnames: [cat, dog]\n")
    return source


def read(out: Path, split: str = "train") -> dict:
    return json.loads((out / "annotations" / f"{split}.json").read_text())


def boxes(out: Path, split: str = "train") -> list[list[float]]:
    return [annotation["bbox"] for annotation in read(out, split)["annotations"]]


def voc(root: Path, out: Path, **options: object):
    return convert_voc(root, out, progress=False, **options)


def from_yolo(source: Path, out: Path, **options: object):
    return convert_yolo(source, out, progress=False, **options)


def balanced(report) -> bool:
    """Everything found is either written or counted as left out."""
    data = report.to_dict()
    return all(
        data[what]["found"] == data[what]["written"] + data[what]["left_out"]
        for what in ("images", "boxes")
    )


def counts(report, *ignore: str) -> dict[str, int]:
    """Counts of the findings, but for the remark that a folder without splits is all train."""
    return {kind: n for kind, n in report.counts.items() if kind not in ("no_split", *ignore)}


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- what is written


def test_voc_boxes_follow_mmdetections_pixel_convention(tmp_path):
    pair(tmp_path / "src", "a")
    report = voc(tmp_path / "src", tmp_path / "out")
    content = read(tmp_path / "out")
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
    assert content["categories"] == [{"id": 1, "name": "cat", "supercategory": "none"}]
    assert content["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10.0, 5.0, 10.0, 10.0],
            "area": 100.0,
            "iscrowd": 0,
        }
    ]
    assert counts(report) == {} and report.problems == 0 and balanced(report)
    (tmp_path / "list.txt").write_text("a\n")
    oracle = XMLDataset(
        ann_file=str(tmp_path / "list.txt"),
        data_prefix=dict(sub_data_root=str(tmp_path / "src")),
        metainfo=dict(classes=("cat",)),
        pipeline=[],
    )
    x, y, w, h = boxes(tmp_path / "out")[0]
    assert oracle.get_data_info(0)["instances"][0]["bbox"] == [x, y, x + w, y + h]
    voc(tmp_path / "src", tmp_path / "zero", zero_based=True)
    assert boxes(tmp_path / "zero") == [[11.0, 6.0, 10.0, 10.0]]


def test_yolo_fractions_become_pixels(tmp_path):
    source = yolo(tmp_path / "src", {"a": "1 0.5 0.5 0.25 0.2\n"})
    report = from_yolo(source, tmp_path / "out")
    assert boxes(tmp_path / "out") == [[15.0, 12.0, 10.0, 6.0]]
    assert read(tmp_path / "out")["annotations"][0]["category_id"] == 2
    assert report.counts == {} and balanced(report)


@pytest.mark.parametrize("mode", ["copy", "link", "in-place"])
def test_coco_dataset_and_metric_read_the_result(tmp_path, mode):
    pair(tmp_path / "src", "a", boxes=[(1, 1, 20, 20), (11, 6, 31, 26)])
    pair(tmp_path / "src", "b", boxes=[])
    out = tmp_path / "out"
    voc(tmp_path / "src", out, images=mode)
    dataset = CocoDataset(
        data_root=str(out),
        ann_file="annotations/train.json",
        data_prefix=dict(img="images/train/"),
        metainfo=dict(classes=("cat",)),
        test_mode=True,
        pipeline=[dict(type="LoadImageFromFile", imdecode_backend="pillow")],
    )
    assert [len(dataset.get_data_info(i)["instances"]) for i in range(2)] == [2, 0]
    assert dataset[0]["img"].shape == (30, 40, 3)
    assert (out / "images" / "train" / "a.jpg").is_symlink() == (mode == "link")
    assert (out / "images").exists() == (mode != "in-place")

    metric = CocoMetric(ann_file=str(out / "annotations" / "train.json"))
    metric.dataset_meta = dict(classes=("cat",))
    for i in range(2):
        info = dataset.get_data_info(i)
        found = np.array([box["bbox"] for box in info["instances"]], dtype=np.float32).reshape(
            -1, 4
        )
        predicted = dict(
            bboxes=found, scores=np.ones(len(found)), labels=np.zeros(len(found), dtype=int)
        )
        metric.results.append(
            (
                dict(img_id=info["img_id"], width=40, height=30),
                {"img_id": info["img_id"], **predicted},
            )
        )
    assert metric.evaluate(size=2)["coco/bbox_mAP"] == 1.0


def test_a_second_run_writes_the_same_bytes_and_needs_overwrite(tmp_path):
    for stem in ("b", "a", "c"):
        pair(tmp_path / "src", stem)
    out = tmp_path / "out"
    voc(tmp_path / "src", out, split=(1, 1, 1), seed=5)
    first = {path.name: path.read_bytes() for path in (out / "annotations").iterdir()}
    assert sorted(first) == ["conversion_report.json", "test.json", "train.json", "val.json"]
    with pytest.raises(InputError, match="--overwrite"):
        voc(tmp_path / "src", out, split=(1, 1, 1), seed=5)
    voc(tmp_path / "src", out, split=(1, 1, 1), seed=5, overwrite=True)
    assert first == {path.name: path.read_bytes() for path in (out / "annotations").iterdir()}
    voc(tmp_path / "src", out, overwrite=True)
    assert not (out / "annotations" / "val.json").exists(), (
        "a stale val.json would hold training images"
    )


def test_an_interrupted_write_leaves_neither_half_a_file_nor_litter(tmp_path, monkeypatch):
    pair(tmp_path / "src", "a")

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(converter_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        voc(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_output_inside_the_source_is_not_taken_for_input(tmp_path):
    pair(tmp_path, "a")
    for _ in range(2):
        report = voc(tmp_path, tmp_path / "coco", overwrite=True)
        assert report.images_found == 1 and counts(report) == {}
    with pytest.raises(InputError, match="contains the source folder"):
        voc(tmp_path / "JPEGImages", tmp_path)


# ---------------------------------------------------------------- splits


def test_split_by_counts_or_fractions_depends_on_names_and_seed_alone(tmp_path):
    for number in range(20):
        pair(tmp_path / "src", f"{number:02}")
    report = voc(tmp_path / "src", tmp_path / "a", split=(14, 3, 2), seed=1)
    assert [report.splits[name]["images"] for name in ("train", "val", "test")] == [14, 3, 2]
    assert report.counts["not_in_split"] == 1 and report.problems == 0 and balanced(report)
    report = voc(tmp_path / "src", tmp_path / "b", split=(0.75, 0.145, 0.105), seed=1)
    assert [report.splits[name]["images"] for name in ("train", "val", "test")] == [15, 3, 2]
    chosen = [image["file_name"] for image in read(tmp_path / "a", "val")["images"]]
    assert chosen == ["03.jpg", "07.jpg", "08.jpg"]
    voc(tmp_path / "src", tmp_path / "c", split=(14, 3, 2), seed=2)
    assert chosen != [image["file_name"] for image in read(tmp_path / "c", "val")["images"]]
    with pytest.raises(InputError, match="asks for 21 images, but only 20"):
        voc(tmp_path / "src", tmp_path / "d", split=(19, 1, 1))


def test_image_sets_are_used_and_checked(tmp_path):
    for stem in ("a", "b", "c", "d"):
        pair(tmp_path / "src", stem)
    main = tmp_path / "src" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("a\r\nb\nb\n")
    (main / "val.txt").write_text("b\nghost\n../../etc/passwd\n\n")
    (main / "cat_train.txt").write_text("d 1\n")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["a.jpg", "b.jpg"]
    assert [image["file_name"] for image in read(tmp_path / "out", "val")["images"]] == ["b.jpg"]
    assert report.counts == {
        "image_listed_twice": 1,
        "listed_absent": 2,
        "image_in_two_splits": 1,
        "not_in_split": 2,
    }
    assert report.named["listed_absent"][0] == ("ImageSets/Main/val.txt:2", "ghost")
    assert balanced(report)


def test_split_folders_with_equal_file_names_are_kept_apart(tmp_path):
    src = tmp_path / "src"
    for folder in ("train", "valid", "test"):
        picture(src / folder / "0001.jpg")
        xml(src / folder / "0001.xml")
    (src / "train" / "0001.jpg").unlink()
    report = voc(src, tmp_path / "out")
    # train's XML has lost its image and must not take another split's of the same name.
    assert report.counts == {"label_without_image": 1} and list(report.splits) == ["val", "test"]
    picture(src / "train" / "0001.jpg")
    report = voc(src, tmp_path / "out2")
    assert report.counts == {} and list(report.splits) == ["train", "val", "test"]


# ---------------------------------------------------------------- VOC, one problem each


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".webp", ".tif", ".bmp"])
def test_an_image_with_another_extension_is_found_by_the_xmls_name(tmp_path, suffix):
    picture(tmp_path / "src" / "JPEGImages" / f"A{suffix}")
    xml(tmp_path / "src" / "Annotations" / "a.xml", filename="a.jpg")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"filename_differs": 1}
    assert read(tmp_path / "out")["images"][0]["file_name"] == f"A{suffix}"


def test_the_xmls_own_name_beats_a_wrong_filename(tmp_path):
    pair(tmp_path / "src", "a", filename="b.jpg")
    pair(tmp_path / "src", "b", filename="b")
    xml(tmp_path / "src" / "Annotations" / "z.xml", filename="c.jpg")
    picture(tmp_path / "src" / "JPEGImages" / "c.png")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"filename_differs": 2, "filename_used": 1}
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
        "a.jpg",
        "b.jpg",
        "c.png",
    ]


def test_the_images_own_size_beats_a_wrong_or_missing_size(tmp_path):
    pair(tmp_path / "src", "a", size=(0, 0))
    pair(tmp_path / "src", "b", size=None)
    pair(tmp_path / "src", "c", size=(30, 40))
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"size_wrong": 3}
    assert {(image["width"], image["height"]) for image in read(tmp_path / "out")["images"]} == {
        (40, 30)
    }
    assert report.named["size_wrong"][0] == ("Annotations/a.xml", "0x0, the image is 40x30")


def test_boxes_are_mended_or_left_out_and_each_is_counted(tmp_path):
    pair(
        tmp_path / "src",
        "a",
        boxes=[
            (31, 21, 61, 41),  # partly outside: clipped to 30, 20, 40, 30
            (0, 1, 11, 11),  # 0 in a format that counts from 1
            (21, 16, 11, 6),  # swapped
            (41, 1, 51, 11),  # outside
            (-20, 1, 1, 11),  # touches the edge from outside
            (11, 6, 11, 16),  # no width
            (11, 6, 11.5, 16),  # half a pixel
            ("nan", 1, 5, 5),
            ("one", 1, 5, 5),
        ],
    )
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[30, 20, 10, 10], [0, 0, 10, 10], [10, 5, 10, 10]]
    assert counts(report) == {
        "box_clipped": 2,
        "box_swapped": 1,
        "box_outside": 2,
        "box_empty": 2,
        "object_malformed": 2,
    }
    assert report.named["box_outside"][0] == ("Annotations/a.xml:7", "box 40, 0, 50, 10 in 40x30")
    assert report.boxes_found == 9 and report.boxes_dropped == 6 and balanced(report)


def test_unusable_images_and_labels_are_skipped_and_named(tmp_path):
    src = tmp_path / "src"
    pair(src, "good")
    truncated(src / "JPEGImages" / "cut.jpg")
    xml(src / "Annotations" / "cut.xml")
    (src / "JPEGImages" / "text.jpg").write_text("no image at all")
    xml(src / "Annotations" / "text.xml")
    (src / "JPEGImages" / "page.jpg").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    xml(src / "Annotations" / "page.xml")
    pair(src, "broken")
    (src / "Annotations" / "broken.xml").write_text("<annotation>\n<object>\n</annotation>")
    pair(src, "other")
    (src / "Annotations" / "other.xml").write_text("<svg/>")
    pair(src, "hollow")
    (src / "Annotations" / "hollow.xml").write_text("")
    xml(src / "Annotations" / "ghost.xml")
    picture(src / "JPEGImages" / "bare.jpg")
    picture(src / "JPEGImages" / "good.png")
    picture(src / "JPEGImages" / "._good.jpg")
    report = voc(src, tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["good.jpg"]
    assert counts(report) == {
        "image_unreadable": 3,
        "label_malformed": 3,
        "image_without_usable_label": 3,
        "label_without_image": 1,
        "label_missing": 1,
        "image_name_duplicate": 1,
        "hidden_file": 1,
    }
    assert ("Annotations/broken.xml:3", "mismatched tag") in report.named["label_malformed"]
    assert report.images_found == 9 and balanced(report)


def test_images_without_boxes_are_kept_and_those_without_xml_on_request(tmp_path):
    pair(tmp_path / "src", "a")
    pair(tmp_path / "src", "empty", boxes=[])
    picture(tmp_path / "src" / "JPEGImages" / "bare.jpg")
    report = voc(tmp_path / "src", tmp_path / "out", missing_labels="keep")
    assert counts(report) == {"image_without_boxes": 2, "label_missing": 1}
    assert len(read(tmp_path / "out")["images"]) == 3 and balanced(report)


def test_classes_can_be_chosen_and_unknown_ones_are_said(tmp_path):
    pair(tmp_path / "src", "a", name="cat")
    pair(tmp_path / "src", "b", name=" dog\n")
    report = voc(tmp_path / "src", tmp_path / "out", classes=["emu", "dog"])
    assert [category["name"] for category in read(tmp_path / "out")["categories"]] == ["emu", "dog"]
    assert read(tmp_path / "out")["annotations"][0]["category_id"] == 2
    assert counts(report) == {"class_not_chosen": 1, "class_unused": 1, "image_without_boxes": 1}
    assert balanced(report)


def test_difficult_boxes_keep_their_mark(tmp_path):
    pair(tmp_path / "src", "a", extra="<difficult>1</difficult>")
    report = voc(tmp_path / "src", tmp_path / "keep")
    assert counts(report) == {"difficult": 1} and report.problems == 0
    mark = [(read(tmp_path / "keep")["annotations"][0][key]) for key in ("difficult", "iscrowd")]
    voc(tmp_path / "src", tmp_path / "ignore", difficult="ignore")
    assert mark == [1, 0]
    assert [
        (read(tmp_path / "ignore")["annotations"][0][key]) for key in ("difficult", "iscrowd")
    ] == [1, 1]


def test_two_labels_for_one_image_use_the_first(tmp_path):
    pair(tmp_path / "src", "a")
    xml(tmp_path / "src" / "Annotations" / "b.xml", filename="a.jpg")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert (
        counts(report) == {"filename_used": 1, "label_twice": 1}
        and len(boxes(tmp_path / "out")) == 1
    )


def test_images_of_one_name_from_two_folders_are_both_kept(tmp_path):
    src = tmp_path / "src"
    for folder in ("one", "two"):
        picture(src / folder / "a.jpg")
        xml(src / folder / "a.xml")
    report = voc(src, tmp_path / "out")
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == [
        "a.jpg",
        "a__2.jpg",
    ]
    assert (tmp_path / "out" / "images" / "train" / "a__2.jpg").is_file()
    assert counts(report) == {"image_name_taken": 1}


# ---------------------------------------------------------------- EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_that_mmcv_decodes_and_boxes_turn_with_the_image(tmp_path, orientation):
    path = picture(tmp_path / "src" / "a.jpg", (40, 30), orientation)
    xml(tmp_path / "src" / "a.xml", size=(40, 30))
    report = voc(tmp_path / "src", tmp_path / "out")
    image = read(tmp_path / "out")["images"][0]
    decoded = mmcv.imfrombytes(path.read_bytes(), flag="color", backend="pillow")
    assert (image["height"], image["width"]) == decoded.shape[:2]
    turned = orientation >= 5  # <size> is then that of the stored image, so the boxes are too
    expected = ({"exif_orientation": 1} if orientation > 1 else {}) | (
        {"exif_boxes_turned": 1} if turned else {}
    )
    assert counts(report) == expected
    if turned:
        # A marked box in the stored image is found again at the written box of the decoded one.
        stored = np.zeros((30, 40, 3), np.uint8)
        stored[5:15, 10:20] = 255
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(buffer, "PNG", exif=exif)
        ys, xs = np.nonzero(
            mmcv.imfrombytes(buffer.getvalue(), flag="color", backend="pillow")[..., 0]
        )
        assert boxes(tmp_path / "out") == [[xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]]


def test_boxes_in_the_displayed_frame_are_not_turned(tmp_path):
    picture(tmp_path / "src" / "a.jpg", (40, 30), 6)
    xml(tmp_path / "src" / "a.xml", size=(30, 40))
    report = voc(tmp_path / "src", tmp_path / "out")
    assert boxes(tmp_path / "out") == [[10, 5, 10, 10]] and counts(report) == {
        "exif_orientation": 1
    }
    assert turn_box((1, 2, 3, 4), ImageFacts((40, 30), 3, "")) == (1, 2, 3, 4)


# ---------------------------------------------------------------- YOLO, one problem each


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


def test_one_folder_for_train_and_val_is_said(tmp_path):
    source = yolo(
        tmp_path / "src", {"a": ""}, "train: train/images\nval: train/images\nnc: 3\nnames: [cat]\n"
    )
    report = from_yolo(source, tmp_path / "out")
    assert report.counts == {"image_in_two_splits": 1, "nc_differs": 1, "image_without_boxes": 2}
    assert balanced(report)


def test_yolo_classes_can_be_chosen(tmp_path):
    source = yolo(tmp_path / "src", {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n"})
    report = from_yolo(source, tmp_path / "out", classes=["dog"])
    assert report.counts == {"class_not_chosen": 1} and len(boxes(tmp_path / "out")) == 1
    with pytest.raises(InputError, match="cat, dog"):
        from_yolo(source, tmp_path / "out2", classes=["emu"])


# ---------------------------------------------------------------- hostile input


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused(tmp_path, encoding):
    pair(tmp_path / "src", "a")
    pair(tmp_path / "src", "bomb")
    (tmp_path / "src" / "Annotations" / "bomb.xml").write_bytes(
        BOMB.replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding)
    )
    pair(tmp_path / "src", "deep")
    (tmp_path / "src" / "Annotations" / "deep.xml").write_text("<annotation>" + "<a>" * 5000)
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"label_refused": 2, "image_without_usable_label": 2} and balanced(
        report
    )
    assert [detail for _, detail in report.named["label_refused"]] == [
        "it has a DOCTYPE",
        "it is nested over 32 deep",
    ]


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "/{outside}/secret.jpg", "..\\secret.jpg", "C:\\secret.jpg"]
)
def test_a_filename_that_leaves_the_source_is_refused(tmp_path, name):
    outside = picture(tmp_path / "secret.jpg")
    src = tmp_path / "src"
    pair(src, "a")
    pair(src, "b", filename=name.format(outside=outside.parent))
    xml(src / "Annotations" / "z.xml", filename=name.format(outside=outside.parent))
    report = voc(src, tmp_path / "out")
    assert counts(report) == {"path_refused": 2, "label_without_image": 1}
    assert [image["file_name"] for image in read(tmp_path / "out")["images"]] == ["a.jpg", "b.jpg"]


def test_links_that_leave_the_source_are_refused(tmp_path):
    secret = picture(tmp_path / "private" / "secret.jpg")
    src = tmp_path / "src"
    pair(src, "a")
    (src / "JPEGImages" / "b.jpg").symlink_to(secret)
    xml(src / "Annotations" / "b.xml")
    (src / "more").symlink_to(secret.parent)
    os.mkfifo(src / "Annotations" / "pipe.xml")  # reading it would wait for ever
    report = voc(src, tmp_path / "out")
    assert counts(report) == {"path_refused": 2, "label_without_image": 1}

    source = yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.5 0.5", "b": None})
    (tmp_path / "private" / "b.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "train" / "labels" / "b.txt").symlink_to(tmp_path / "private" / "b.txt")
    report = from_yolo(source, tmp_path / "out2")
    assert report.counts == {"path_refused": 1, "label_missing": 1, "image_without_boxes": 1}


@pytest.mark.parametrize("entry", ["../private", "{private}", "../../../../etc", "list.txt"])
def test_a_data_file_that_names_paths_outside_is_refused(tmp_path, entry):
    private = picture(tmp_path / "private" / "secret.jpg").parent
    source = yolo(tmp_path / "src", {"a": ""})
    (tmp_path / "src" / "list.txt").write_text(f"{private}/secret.jpg\n../private/secret.jpg\n")
    source.write_text(f"train: train/images\nval: {entry.format(private=private)}\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out")
    listed = {"path_refused": 2, "listed_absent": 2}
    assert counts(report, "image_without_boxes") == (
        listed if entry == "list.txt" else {"path_refused": 1, "split_missing": 1}
    )
    assert list(report.splits) == ["train"]
    source.write_text("train: train/images\nval: ../private\nnames: [cat]\n")
    report = from_yolo(source, tmp_path / "out2", root=tmp_path)
    assert list(report.splits) == ["train", "val"], "--root says which folder is trusted"


@pytest.mark.parametrize(
    "data",
    [
        "names: !!python/object/apply:os.system ['true']",
        "names: [a, b\n",
        "[" * 1200,
        "just text",
        "train: train/images",
        "names: [cat, cat]\ntrain: train/images",
        "names: [[a], b]\ntrain: train/images",
        "names: {x: cat}\ntrain: train/images",
        "names: [cat]\ntrain: {a: b}",
        "names: [cat]\ntrain: nowhere",
        "names: [cat]\ntrain: " + 400 * "long",
        'path: "a\\0b"\nnames: [cat]\ntrain: "a\\0b"',
    ],
)
def test_an_unusable_data_file_gives_one_sentence(tmp_path, data):
    source = tmp_path / "src" / "data.yaml"
    source.parent.mkdir()
    source.write_text(data)
    with pytest.raises(InputError) as error:
        from_yolo(source, tmp_path / "out")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not (tmp_path / "out").exists()


def test_a_decompression_bomb_is_skipped(tmp_path, monkeypatch):
    pair(tmp_path / "src", "a")
    picture(tmp_path / "src" / "JPEGImages" / "huge.png", (200, 200))
    xml(tmp_path / "src" / "Annotations" / "huge.xml", filename="huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    report = voc(tmp_path / "src", tmp_path / "out")
    assert counts(report) == {"image_too_large": 1} and balanced(report)


def test_names_cannot_write_to_the_terminal(tmp_path):
    pair(tmp_path / "src", "a", name="cat")
    xml(tmp_path / "src" / "Annotations" / "b\x1b[2J.xml")
    report = voc(tmp_path / "src", tmp_path / "out")
    assert "\x1b" not in report.table() and "\\x1b[2J" in report.table()


# ---------------------------------------------------------------- the tools


def test_strict_writes_nothing_and_accepts_notes(tmp_path):
    pair(tmp_path / "src", "a", boxes=[])
    pair(tmp_path / "src", "b")
    voc(tmp_path / "src", tmp_path / "out", strict=True)
    pair(tmp_path / "src", "c", size=(1, 1))
    with pytest.raises(ProblemsFound, match="1 problems"):
        voc(tmp_path / "src", tmp_path / "out2", strict=True)
    assert not (tmp_path / "out2").exists()


def test_the_tools_report_and_exit_as_documented(tmp_path, capsys):
    src, out = tmp_path / "src", tmp_path / "out"
    pair(src, "a", size=(1, 1))
    pair(src, "b")
    tool = load_tool("voc2coco")
    assert tool.main([str(src), "--out", str(out), "--split", "1,1,0", "--quiet"]) == 0
    assert "size_wrong" in capsys.readouterr().out
    written = json.loads((out / "annotations" / "conversion_report.json").read_text())
    assert written["problems"]["size_wrong"]["where"] == [
        "Annotations/a.xml (1x1, the image is 40x30)"
    ]
    assert written["images"] == {"found": 2, "written": 2, "left_out": 0}
    assert tool.main([str(src), "--out", str(tmp_path / "o"), "--strict", "--quiet"]) == 1
    capsys.readouterr()
    for arguments in (
        [str(src), "--out", str(out)],  # already there
        [str(tmp_path / "none"), "--out", str(out)],
        [str(src), "--out", str(tmp_path / "o"), "--split", "1,2"],
        [str(src), "--out", str(tmp_path / "o"), "--split", "0.5,0.2,0.1"],
        [str(src), "--out", str(tmp_path / "o"), "--split", "nan,1,1"],
        [str(src), "--out", str(tmp_path / "o"), "--classes", "a,a"],
    ):
        with pytest.raises(SystemExit) as stop:
            tool.main([*arguments, "--quiet"])
        error = capsys.readouterr().err
        assert (
            stop.value.code == 2
            and error.startswith("voc2coco.py: error: ")
            and error.count("\n") == 1
        )

    source = yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.5 0.5\n9 0.5 0.5 0.5 0.5"})
    tool = load_tool("yolo2coco")
    assert tool.main([str(source), "--out", str(tmp_path / "y"), "--quiet"]) == 0
    assert "class_unknown" in capsys.readouterr().out
    assert tool.main([str(source), "--out", str(tmp_path / "z"), "--quiet", "--strict"]) == 1
    with pytest.raises(SystemExit) as stop:
        tool.main([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "z")])
    assert stop.value.code == 2


# ---------------------------------------------------------------- real datasets


def sizes(report) -> dict[str, int]:
    return {name: split["images"] for name, split in report.splits.items()}


def test_raccoon_converts_to_odinws_split_sizes(real_data, tmp_path):
    report = voc(
        real_data / "raccoon_voc", tmp_path, split=(150, 29, 17), seed=3, images="in-place"
    )
    assert sizes(report) == {"train": 150, "val": 29, "test": 17}
    assert report.boxes_found == 217 and report.counts == {"not_in_split": 4} and balanced(report)


def test_bccd_converts_by_its_image_sets(real_data, tmp_path):
    report = voc(real_data / "bccd_voc", tmp_path, images="in-place")
    assert sizes(report) == {"train": 205, "val": 87, "test": 72}
    assert report.categories == ("Platelets", "RBC", "WBC")
    assert report.boxes_found == 4888 and report.counts == {"box_empty": 2} and balanced(report)


def test_packages_converts_to_odinws_split(real_data, tmp_path):
    report = from_yolo(real_data / "packages_yolo" / "data.yaml", tmp_path, images="in-place")
    assert sizes(report) == {"train": 19, "val": 4, "test": 3}
    assert report.boxes_found == 42 and report.counts == {} and balanced(report)


def test_aquarium_converts_to_odinws_split(real_data, tmp_path):
    report = from_yolo(real_data / "aquarium_yolo" / "data.yaml", tmp_path, images="in-place")
    assert sizes(report) == {"train": 448, "val": 127, "test": 63}
    assert report.counts == {"box_empty": 3, "image_without_boxes": 1, "split_from_folder": 1}
    assert report.boxes_found == 4817 and balanced(report)
