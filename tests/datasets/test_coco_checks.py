"""COCO files as people's tools export them: what has one meaning is filled in, what cannot be used
leaves and is counted, and what would train on wrong boxes is refused with file and entry.
"""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from PIL import Image

from mmsdpt.datasets.coco_boxes import check_annotations
from mmsdpt.datasets.coco_checks import check_coco, put_in_order
from mmsdpt.datasets.coco_report import CocoReport
from mmsdpt.engine.data_checks import prepare_data
from mmsdpt.utils.errors import InputError
from tests.datasets.test_image_files import animation

CLASSES = ("circle", "square")


def picture(path: Path, size=(96, 80), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(str(path).encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def coco(split: str, images: int = 2) -> dict:
    """Two boxes on every image, one of each class."""
    content = dict(
        images=[
            dict(id=n + 1, file_name=f"{split}_{n}.jpg", width=96, height=80) for n in range(images)
        ],
        categories=[dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)],
        annotations=[],
    )
    for n in range(images):
        for k in (1, 2):
            box = [10 * k, 5 + n, 30, 20]
            entry = dict(id=2 * n + k, image_id=n + 1, category_id=k, bbox=box)
            content["annotations"].append(dict(entry, area=600, iscrowd=0))
    return content


@pytest.fixture
def data(tmp_path):
    """The splits' contents; ``save`` writes them and ``prepare`` checks them as a run does."""
    return Data(tmp_path)


class Data:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits = {split: coco(split) for split in ("train", "val", "test")}
        for split, content in self.splits.items():
            for image in content["images"]:
                picture(root / "images" / split / image["file_name"])

    def save(self) -> None:
        (self.root / "annotations").mkdir(exist_ok=True)
        for split, content in self.splits.items():
            (self.root / "annotations" / f"{split}.json").write_text(json.dumps(content))

    def each(self, change) -> None:
        """Change every annotation of every split, and write the files."""
        for content in self.splits.values():
            content["annotations"] = [
                entry for entry in map(change, content["annotations"]) if entry is not None
            ]
        self.save()

    def config(self, split: str, classes=CLASSES) -> dict:
        return dict(
            type="CocoDataset",
            data_root=f"{self.root}/",
            ann_file=f"annotations/{split}.json",
            data_prefix=dict(img=f"images/{split}/"),
            metainfo=dict(classes=classes),
        )

    def prepare(self, classes=CLASSES, optional=("test",)):
        """Datasets and the metric's file as a run would get them."""
        loaders = {s: dict(dataset=dict(dataset=self.config(s, classes))) for s in self.splits}
        metrics = {
            s: dict(type="CocoMetric", ann_file=f"{self.root}/annotations/{s}.json")
            for s in self.splits
        }
        prepare_data(loaders, metrics, self.root / "work", optional)
        self.metrics = metrics
        datasets = {}
        for split, loader in loaders.items():
            settings = {k: v for k, v in loader["dataset"]["dataset"].items() if k != "type"}
            datasets[split] = CocoDataset(**settings, pipeline=[], test_mode=True)
        return datasets


def labelled(dataset) -> list[list[tuple]]:
    return [
        sorted((i["bbox_label"], tuple(i["bbox"])) for i in dataset.get_data_info(n)["instances"])
        for n in range(len(dataset))
    ]


EXPECTED = [[(0, (10, 5 + n, 40, 25 + n)), (1, (20, 5 + n, 50, 25 + n))] for n in range(2)]


def without(*keys):
    return lambda entry: {key: value for key, value in entry.items() if key not in keys}


def polygons(entry):
    x, y, w, h = entry.pop("bbox")
    return dict(entry, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])


def run_length(entry):
    from pycocotools import mask

    x, y, w, h = entry.pop("bbox")
    pixels = np.zeros((80, 96), dtype=np.uint8, order="F")
    pixels[y : y + h, x : x + w] = 1
    code = mask.encode(pixels)
    return dict(entry, segmentation=dict(size=code["size"], counts=code["counts"].decode()))


def points(entry):
    x, y, w, h = entry.pop("bbox")
    return dict(entry, segmentation=[[[x, y], [x + w, y], [x + w, y + h], [x, y + h]]])


FILLED = {
    "no area": (without("area"), "without area"),
    "area of 0": (lambda entry: dict(entry, area=0), "without area"),
    "no iscrowd": (without("iscrowd"), "without iscrowd"),
    "iscrowd is false": (lambda entry: dict(entry, iscrowd=False), "without iscrowd"),
    "no id": (without("id"), "renumbered"),
    "ids repeat": (lambda entry: dict(entry, id=7), "renumbered"),
    "ids from 0": (lambda entry: dict(entry, id=entry["id"] - 1), "renumbered"),
    "ids as text": (lambda entry: dict(entry, id=str(entry["id"])), "renumbered"),
    "references as text": (
        lambda e: dict(e, image_id=str(e["image_id"]), category_id=str(e["category_id"])),
        "",
    ),
    "numbers as text": (lambda e: dict(e, bbox=[str(v) for v in e["bbox"]]), ""),
    "polygons only": (polygons, "taken from the polygons"),
    "bbox null beside polygons": (lambda e: dict(polygons(e), bbox=None), "polygons"),
    "run-length masks only": (run_length, "taken from the polygons"),
    "points in pairs": (points, "taken from the polygons"),
    "area as text": (lambda entry: dict(entry, area=str(entry["area"])), ""),
    "nothing missing": (lambda entry: entry, ""),
}


@pytest.mark.parametrize(("change", "said"), FILLED.values(), ids=FILLED)
def test_what_has_one_meaning_is_filled_in_for_dataset_and_metric(data, change, said, caplog):
    data.each(change)
    datasets = data.prepare()
    for split, dataset in datasets.items():
        assert labelled(dataset) == EXPECTED
        metric = CocoMetric(ann_file=data.metrics[split]["ann_file"])
        metric.dataset_meta = dataset.metainfo
        for n in range(len(dataset)):
            info = dataset.get_data_info(n)
            found = dict(
                img_id=info["img_id"],
                labels=np.array([i["bbox_label"] for i in info["instances"]]),
                bboxes=np.array([i["bbox"] for i in info["instances"]], dtype=float),
                scores=np.ones(len(info["instances"])),
            )
            metric.results.append((dict(width=96, height=80, img_id=info["img_id"]), found))
        assert metric.compute_metrics(metric.results)["bbox_mAP"] == 1
    report = check_coco(data.root / "annotations" / "train.json", data.root / "images" / "train")
    assert said in "; ".join(report.sentences("filled")) and not report.left_out


def test_a_file_without_faults_is_read_as_it_is(data):
    data.save()
    assert data.prepare()["train"].ann_file == str(data.root / "annotations" / "train.json")
    assert not (data.root / "work").exists()


def test_categories_may_have_any_order_and_only_some_may_occur(data):
    """Some tools sort by name, others by first use, and leave out what a split does not show."""
    for split, names in (("val", ("square", "circle")), ("test", ("square",))):
        content = data.splits[split]
        content["categories"] = [dict(id=k, name=name) for k, name in enumerate(names, 1)]
        content["annotations"] = [
            dict(entry, category_id=1 + names.index(CLASSES[entry["category_id"] - 1]))
            for entry in content["annotations"]
            if CLASSES[entry["category_id"] - 1] in names
        ]
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["val"]) == EXPECTED
    assert [[label for label, _ in image] for image in labelled(datasets["test"])] == [[1], [1]]
    swapped = data.prepare(classes=("square", "circle"))
    assert {(1 - label, box) for label, box in labelled(swapped["train"])[0]} == set(EXPECTED[0])


@pytest.mark.parametrize("root_id", [0, 9])
def test_a_root_category_of_the_classs_own_name_is_the_same_class(data, root_id):
    for content in data.splits.values():
        content["categories"] = [
            dict(id=root_id, name="circle", supercategory="none"),
            dict(id=1, name="circle", supercategory="circle"),
            dict(id=2, name="square", supercategory="circle"),
        ]
    data.save()
    assert labelled(data.prepare()["train"]) == EXPECTED
    with pytest.raises(InputError, match="names the class 'circle' twice"):
        data.prepare(classes=("circle", "circle"))


def test_advice_names_categories_with_boxes_and_no_root(data):
    for content in data.splits.values():
        content["categories"].insert(0, dict(id=0, name="shapes", supercategory="none"))
        for category in content["categories"][1:]:
            category["supercategory"] = "shapes"
    data.save()
    with pytest.raises(InputError) as error:
        data.prepare(classes=("disc",))
    assert str(error.value).count("it has no category 'disc'; it has 'circle', 'square'") == 2


def test_names_that_are_numbers_are_texts(data):
    for content in data.splits.values():
        content["categories"] = [dict(id=1, name=0), dict(id=2, name=1)]
    data.save()
    for classes in (("0", "1"), (0, 1)):
        datasets = data.prepare(classes=classes)
        assert labelled(datasets["train"]) == EXPECTED
        assert datasets["train"].metainfo["classes"] == ("0", "1")


def test_a_config_without_classes_does_not_take_cocos(data):
    data.save()
    with pytest.raises(InputError, match=r"set metainfo=dict\(classes=\('circle', 'square'\)\)"):
        loader = dict(dataset={k: v for k, v in data.config("train").items() if k != "metainfo"})
        prepare_data({"train": loader}, {}, data.root / "work")


LEFT = {
    "unknown image": (lambda e: dict(e, image_id=99), "image that is not listed"),
    "unknown category": (lambda e: dict(e, category_id=99), "category that is not listed"),
    "bbox null": (lambda e: dict(e, bbox=None), "without a bbox or polygon"),
    "bbox of 3": (lambda e: dict(e, bbox=[1, 2, 3]), "whose bbox is not x, y, width, height"),
    "bbox of words": (lambda e: dict(e, bbox=["a", 2, 3, 4]), "whose bbox is not"),
    "bbox infinite": (lambda e: dict(e, bbox=[1, 2, float("inf"), 4]), "whose bbox is not"),
    "outside": (lambda e: dict(e, bbox=[200, 5, 30, 20]), "outside their image"),
    "too small": (lambda e: dict(e, bbox=[5, 5, 0.5, 20]), "under one pixel"),
    "bbox of names": (lambda e: dict(e, bbox=dict(x=1, y=2, w=3, h=4)), "whose bbox is not"),
    "bbox as text": (lambda e: dict(e, bbox="1,2,30,40"), "whose bbox is not"),
    "polygons of another kind": (
        lambda e: dict(e, bbox=None, segmentation=[[1, 2, 9, 9], None]),
        "without a bbox or polygon",
    ),
    "run lengths below 0": (
        lambda e: dict(e, bbox=None, segmentation=dict(size=[80, 96], counts=[-5, 9])),
        "without a bbox or polygon",
    ),
    "a code that is none": (
        lambda e: dict(e, bbox=None, segmentation=dict(size=[80, 96], counts="\x01zzzzz~~~~" * 3)),
        "without a bbox or polygon",
    ),
}


@pytest.mark.parametrize(("change", "said"), LEFT.values(), ids=LEFT)
def test_what_leaves_is_counted_and_named_and_the_rest_trains(data, change, said):
    data.each(lambda entry: change(entry) if entry["id"] == 2 else entry)
    report = check_coco(data.root / "annotations" / "train.json", data.root / "images" / "train")
    (sentence,) = report.sentences("left_out")
    assert said in sentence and "1: id 2" in sentence
    assert labelled(data.prepare()["train"]) == [EXPECTED[0][:1], EXPECTED[1]]
    data.each(change)
    with pytest.raises(
        InputError, match=r"(?s)train.json: none of its 4 boxes can be used.*val.json"
    ):
        data.prepare()


def test_polygons_alone_of_crowds_are_refused_with_the_reason(data):
    data.each(lambda entry: dict(entry, iscrowd=1))
    with pytest.raises(InputError, match="all 4 are marked iscrowd"):
        data.prepare()


def _fractions(entry):
    x, y, w, h = entry["bbox"]
    return dict(entry, bbox=[x / 96, y / 80, w / 96, h / 80])


def _corners(entry):
    x, y = 60 + 10 * entry["category_id"], 50
    return dict(entry, bbox=[x, y, x + 10, y + 20])


WRONG_BOXES = {
    "fractions": (_fractions, "all 4 boxes are fractions of the image"),
    "corners": (_corners, "boxes look like corners x1, y1, x2, y2"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_BOXES.values(), ids=WRONG_BOXES)
def test_boxes_of_another_convention_are_refused(data, change, message):
    data.each(change)
    with pytest.raises(InputError, match=message):
        data.prepare()


def guessed(change, count=40, size=1200):
    """What is said of boxes all over an image, written in another way: errors and doubts."""
    rng = np.random.default_rng(0)
    content = dict(
        images=[dict(id=1, file_name="a.jpg", width=size, height=size)],
        categories=[dict(id=1, name="cat")],
        annotations=[],
    )
    for number in range(1, count + 1):
        w, h = rng.uniform(0.1, 0.5, 2) * size
        x, y = rng.uniform(0, size - w), rng.uniform(0, size - h)
        box = [float(v) for v in change(x, y, w, h)]
        content["annotations"].append(dict(id=number, image_id=1, category_id=1, bbox=box))
    report = CocoReport(Path("a.json"), content)
    check_annotations(report, content, {1: 1}, {1: 1})
    return [" ".join(report.sentences(kind)) for kind in ("errors", "doubtful")]


CENTRE = "look like the centre and the size"


@pytest.mark.parametrize(
    ("change", "error", "doubt"),
    [
        (lambda x, y, w, h: (x, y, w, h), "", ""),
        (lambda x, y, w, h: (x - 0.4 * w, y - 0.4 * h, w * 1.5, h * 1.5), "", ""),  # not cut
        (lambda x, y, w, h: (x, y, x + w, y + h), "look like corners x1, y1, x2, y2", ""),
        (lambda x, y, w, h: (x + w / 2, y + h / 2, w, h), CENTRE, ""),
        (lambda x, y, w, h: (x + w / 2, y + h / 2, w / 1.6, h / 1.6), "", CENTRE),
        (lambda x, y, w, h: (x / 12, y / 12, w / 12, h / 12), "look like percent", ""),
        (lambda x, y, w, h: (x / 4, y / 4, w / 4, h / 4), "", ""),
    ],
)
def test_boxes_of_another_convention_are_recognised_or_doubted(change, error, doubt):
    errors, doubts = guessed(change)
    assert error in errors if error else not errors, errors
    assert doubt in doubts if doubt else not doubts, doubts


def test_thousandths_are_recognised_and_few_boxes_only_doubted():
    thousandths = lambda *box: [v / 4 for v in box]  # noqa: E731
    assert "look like thousandths" in guessed(thousandths, size=4000)[0]
    errors, doubts = guessed(thousandths, count=3, size=4000)
    assert not errors and "all 3 boxes look like thousandths" in doubts


def test_an_animation_among_the_images_is_said(data, caplog):
    animation(data.root / "images" / "train" / "a.gif", 5)
    data.splits["train"]["images"][0].update(file_name="a.gif", width=9, height=6)
    data.splits["train"]["annotations"] = [
        dict(entry, bbox=[1, 1, 4, 4]) for entry in data.splits["train"]["annotations"]
    ]
    data.save()
    report = check_coco(data.root / "annotations" / "train.json", data.root / "images" / "train")
    assert report.sentences("doubtful") == [
        "images of several frames or pages, of which only the first is used (1: a.gif: 5)"
    ]


def _edit(split, change):
    def edit(data):
        content = copy.deepcopy(data.splits[split])
        data.splits[split] = change(content) or content
        data.save()

    return edit


def _text(split, text):
    def edit(data):
        data.save()
        path = data.root / "annotations" / f"{split}.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return edit


REFUSED = {
    "no image": (_edit("val", lambda c: c.update(images=[])), "val.json: it holds no image"),
    "one id for all": (
        _edit("train", lambda c: [i.update(id=1) for i in c["images"]] and None),
        "train.json: images share an id.*id 1: train_0.jpg and train_1.jpg",
    ),
    "no file_name": (
        _edit("train", lambda c: c["images"][1].pop("file_name") and None),
        "train.json: images have no file_name .1: id 2.",
    ),
    "no boxes": (
        _edit("train", lambda c: c.update(annotations=[])),
        "train.json: it has no box, so there is nothing to train on",
    ),
    "name of another type": (
        _edit("train", lambda c: c["categories"][0].update(name=None)),
        "a category has the name None",
    ),
    "one id for two categories": (
        _edit("train", lambda c: c["categories"][1].update(id=1)),
        "the id 1 has two categories",
    ),
    "twice the size": (
        _edit("train", lambda c: [i.update(width=192, height=160) for i in c["images"]] and None),
        "train_0.jpg: 192x160 in the file, 96x80 on disk",
    ),
    "not JSON": (_text("train", "{"), "train.json: this is not a JSON file"),
    "nested": (_text("train", "[" * 100_000), "nested too deeply"),
    "bytes": (_text("train", b"\xff\x00"), "this is not a JSON file"),
    "VIA": (
        _text("train", '{"a.jpg1": {"filename": "a.jpg", "regions": []}}'),
        "project of VIA: export",
    ),
    "Label Studio": (_text("train", '[{"data": {}, "annotations": []}]'), "Label Studio's own"),
    "labelme": (_text("train", '{"shapes": [], "imagePath": "a.jpg"}'), "labelme"),
    "a list": (_text("train", '[{"bbox": [], "image_id": 1}]'), "bare list of annotations"),
    "Detectron2": (_text("train", '[{"file_name": "a", "annotations": []}]'), "Detectron2"),
    "a key twice": (
        _text("train", '{"images": [], "annotations": [], "annotations": [{}]}'),
        "the key 'annotations' twice",
    ),
    "Latin-1": (_text("train", '{"info": "é"}'.encode("latin-1")), "UTF-8, see byte 10; save it"),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_with_file_and_entry(data, edit, message):
    edit(data)
    with pytest.raises(InputError, match=message):
        data.prepare()


def test_a_test_file_of_images_alone_is_a_warning_in_training_and_refused_in_testing(data):
    content = data.splits["test"]
    data.splits["test"] = dict(images=content["images"])
    data.save()
    loaders = {s: dict(dataset=data.config(s)) for s in data.splits}
    prepare_data(loaders, {}, data.root / "work", optional=("test",))
    with pytest.raises(InputError, match="test.json: it lists images only, without categories"):
        prepare_data({"test": loaders["test"]}, {}, data.root / "work")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(data, encoding):
    data.save()
    for split, content in data.splits.items():
        path = data.root / "annotations" / f"{split}.json"
        path.write_text(json.dumps(content), encoding=encoding)
    assert labelled(data.prepare()["train"]) == EXPECTED


def test_long_ids_stay_apart(data):
    """A float holds 53 bits, and NumPy's integers 63."""
    for start in (2**60, 10**25):
        data.splits = {split: coco(split) for split in data.splits}
        for content in data.splits.values():
            for entry in content["images"]:
                entry["id"] += start
            for entry in content["annotations"]:
                entry["image_id"] = str(entry["image_id"] + start)
        data.save()
        assert labelled(data.prepare()["train"]) == EXPECTED


def test_names_that_are_the_same_to_the_model_are_one_class_in_all_splits(data, caplog):
    for category, name in zip(data.splits["val"]["categories"], ("Circle ", "SQUARE"), strict=True):
        category["name"] = name
    data.save()
    datasets = data.prepare(classes=("circle", "square\u200b"))
    assert labelled(datasets["train"]) == labelled(datasets["val"]) == EXPECTED


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("CIRCLE", "square"), ("circle", "Circle"), "classes 'circle', 'Circle' .* 'CIRCLE' are"),
        (("Zebra a", "zebra_a"), ("zebra a",), "'zebra a' and the .* 'Zebra a', 'zebra_a' are"),
        (("circle", "square"), ("square", "square\u200b"), "names the class 'square' twice"),
        (("circle", "square"), ("circle", "Circle"), "no category 'Circle'; it has 'circle'"),
    ],
)
def test_several_spellings_of_one_class_are_refused_with_all_of_them(data, names, classes, message):
    for content in data.splits.values():
        for category, name in zip(content["categories"], names, strict=True):
            category["name"] = name
    data.save()
    with pytest.raises(InputError, match=message):
        data.prepare(classes=classes)


def test_categories_of_one_text_that_are_each_named_exactly_are_used(data):
    for content in data.splits.values():
        for category, name in zip(content["categories"], ("M (3)", "M (5)"), strict=True):
            category["name"] = name
    data.save()
    assert labelled(data.prepare(classes=("M (3)", "M (5)"))["train"]) == EXPECTED
    only = data.prepare(classes=("M (5)",))["train"]
    assert [[label for label, _ in image] for image in labelled(only)] == [[0], [0]]


def test_boxes_of_a_category_in_another_spelling_are_counted(data):
    data.splits["train"]["categories"][1]["name"] = "SQUARE"
    data.save()
    report = check_coco(data.root / "annotations" / "train.json")
    put_in_order(report, ("circle", "square\u200b"), ())
    assert report.boxes == {"circle": 2, "square\u200b": 2}


def test_a_class_in_another_spelling_that_only_other_splits_have_is_added(data):
    for split in ("train", "test"):
        data.splits[split]["categories"][1]["name"] = "Square"
    val = data.splits["val"]
    val["categories"].pop()
    val["annotations"] = [entry for entry in val["annotations"] if entry["category_id"] == 1]
    data.save()
    datasets = data.prepare()
    assert labelled(datasets["train"]) == EXPECTED
    assert [[label for label, _ in image] for image in labelled(datasets["val"])] == [[0], [0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(metainfo=dict(CLASSES=CLASSES)), "the config names no classes"),
        (dict(metainfo=dict(classes=())), "the config names no classes"),
        (dict(data_prefix=dict(img_path="images/train/")), r"expected dict\(img='FOLDER/'\)"),
        (dict(data_prefix="images/train/"), r"expected dict\(img='FOLDER/'\)"),
        (dict(ann_file="annotations"), "annotation file not found"),
    ],
)
def test_settings_of_a_dataset_that_mean_nothing_are_refused(data, change, message):
    data.save()
    loader = dict(dataset=data.config("train") | change)
    with pytest.raises(InputError, match=message):
        prepare_data({"train": loader}, {}, data.root / "work")


def test_a_metric_reads_the_file_of_its_dataset(data):
    """The images that it does not get predictions of would count as missed."""
    data.splits["test"]["images"][0]["id"] = 9
    data.save()
    files = {split: f"{data.root}/annotations/{split}.json" for split in data.splits}
    loaders = {"val": dict(dataset=data.config("val"))}
    with pytest.raises(InputError, match="metric of val reads .*test.json, and its dataset .*val"):
        prepare_data(loaders, {"val": dict(ann_file=files["test"])}, data.root / "work")
    twin = data.root / "twin.json"
    twin.symlink_to(files["val"])
    prepare_data(loaders, {"val": dict(ann_file=str(twin))}, data.root / "work")


def test_a_metric_has_the_images_of_all_files(data):
    data.save()
    loaders = {"test": dict(dataset=dict(datasets=[data.config("val"), data.config("test")]))}

    def check(metric):
        prepare_data(loaders, {"test": dict(type="CocoMetric", **metric)}, data.root / "work")

    joined, number = data.root / "joined.json", len(data.splits["val"]["images"])
    for metric in ({}, dict(ann_file=f"{data.root}/annotations/val.json")):
        with pytest.raises(InputError, match="compares with one file, and the data are .*val.json"):
            check(metric)
    for image in data.splits["test"]["images"]:
        image["id"] += number
    for entry in data.splits["test"]["annotations"]:
        entry["image_id"] += number
    data.save()
    images = [image for split in ("val", "test") for image in data.splits[split]["images"]]
    joined.write_text(json.dumps(dict(data.splits["val"], images=images)))
    check(dict(ann_file=str(joined)))
    for dataset in loaders["test"]["dataset"]["datasets"]:
        dataset["pipeline"] = [dict(type="PackDetInputs", meta_keys=("img_id", "instances"))]
    check({})


def test_one_file_under_two_orders_of_classes_is_refused(data):
    data.save()
    loaders = {
        role: dict(dataset=data.config("train", classes))
        for role, classes in (("train", CLASSES), ("val", CLASSES[::-1]))
    }
    with pytest.raises(InputError, match="name its classes in different orders or spellings"):
        prepare_data(loaders, {}, data.root / "work")
    loaders["val"] = dict(dataset=data.config("train", CLASSES[1:]))
    prepare_data(loaders, {}, data.root / "work")


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: f"{name} ",
        lambda name: f"images\\{name}",
        lambda name: f"C:\\Users\\me\\data\\{name}",
        lambda name: f"/data/upload/1/{name}",
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
    content = coco("train", len(names))
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_coco(tmp_path / "train.json", tmp_path / "images")
    (sentence,) = report.sentences("errors")
    missing = [name for name in names if name != there]
    assert "not taken); put them there" in sentence and f"({len(missing)}: " in sentence
    assert all(name in sentence for name in missing)


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
    content = coco("train", 1)
    content["images"][0]["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_coco(tmp_path / "train.json", tmp_path)
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
    content = coco("train", len(names))
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_coco(tmp_path / "train.json", tmp_path, leave_out_missing=True)
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
    report = check_coco(data.root / "annotations" / "val.json", data.root / "images" / "val")
    assert report.sentences("left_out") == [
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
    report = check_coco(data.root / "annotations" / "train.json", data.root / "images" / "train")
    (sentence,) = report.sentences("filled")
    assert "EXIF orientation turns" in sentence and "1: train_0.jpg" in sentence


def test_one_file_for_train_and_val_is_said(data, monkeypatch):
    said = []
    monkeypatch.setattr(
        "mmsdpt.engine.data_checks.print_log", lambda text, **options: said.append(text)
    )
    data.save()
    loaders = {role: dict(dataset=data.config("train")) for role in ("train", "val")}
    prepare_data(loaders, {}, data.root / "work")
    assert any("2 of its images are also in train" in line for line in said)


def test_images_of_train_in_another_split_are_said(data, monkeypatch):
    said = []
    monkeypatch.setattr(
        "mmsdpt.engine.data_checks.print_log", lambda text, **options: said.append(text)
    )
    source = data.root / "images" / "train" / "train_0.jpg"
    (data.root / "images" / "val" / "val_1.jpg").write_bytes(source.read_bytes())
    data.splits["val"]["annotations"] = []
    data.save()
    data.prepare()
    assert any("1 of its images are also in train (val_1.jpg" in line for line in said)
    assert any("its AP will be -1" in line for line in said)


def test_one_class_without_its_comma_is_refused_and_a_file_of_names_is_read(data):
    data.save()
    with pytest.raises(InputError, match=r"is the text 'circle', .* write classes=\('circle',\)"):
        data.prepare(classes="circle")
    names = data.root / "names.txt"
    names.write_text("circle\nsquare\n")
    assert labelled(data.prepare(classes=str(names))["train"]) == EXPECTED
