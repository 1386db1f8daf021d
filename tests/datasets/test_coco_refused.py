"""COCO files that would train on wrong boxes are refused, with file and entry."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from mmsdpt.datasets.coco_boxes import check_annotations
from mmsdpt.datasets.coco_report import CocoReport
from mmsdpt.engine.data_checks import prepare_data
from mmsdpt.utils.errors import InputError
from tests.datasets.coco_splits import CLASSES


def test_polygons_alone_of_crowds_are_refused_with_the_reason(data):
    data.each(lambda entry: dict(entry, iscrowd=1))
    with pytest.raises(InputError, match="all 4 are marked iscrowd"):
        data.prepare()


def test_boxes_that_are_marked_in_two_ways_are_refused_with_the_reason(data):
    data.each(lambda entry: dict(entry, **{("iscrowd", "ignore")[entry["id"] % 2]: 1}))
    with pytest.raises(InputError, match="all 4 are marked iscrowd or ignore"):
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


def _edit(split, change):
    def edit(data):
        content = copy.deepcopy(data.splits[split])
        data.splits[split] = change(content) or content
        data.save()

    return edit


def _moved(key, by):
    def change(content):
        for entry in content["annotations"]:
            entry[key] += by

    return change


def _text(split, text):
    def edit(data):
        data.save()
        path = data.root / "annotations" / f"{split}.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return edit


REFUSED = {
    "no image": (_edit("val", lambda c: c.update(images=[])), "val.json: it has no images"),
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
    "categories of annotations from 0": (
        _edit("train", _moved("category_id", -1)),
        "category ids from 0 to 1, but the ids that are listed are 1 to 2",
    ),
    "images of annotations from 2": (
        _edit("val", _moved("image_id", 1)),
        "image ids from 2 to 3, but the ids that are listed are 1 to 2.*if image 3 was removed, re",
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


@pytest.mark.parametrize("key", ["name", "id"])
def test_categories_without_a_name_or_id_are_one_problem(data, key):
    for category in data.splits["train"]["categories"]:
        category[f"category_{key}"] = category.pop(key)
    data.save()
    report = data.report()
    assert len(report.sentences("errors")) == 1 and not report.filled


def test_a_test_file_of_images_alone_is_a_warning_in_training_and_refused_in_testing(data):
    content = data.splits["test"]
    data.splits["test"] = dict(images=content["images"])
    data.save()
    loaders = {s: dict(dataset=data.config(s)) for s in data.splits}
    prepare_data(loaders, {}, data.root / "work", optional=("test",))
    with pytest.raises(InputError, match="test.json: it has only images, without categories"):
        prepare_data({"test": loaders["test"]}, {}, data.root / "work")


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
    with pytest.raises(InputError, match="metric of val reads .*test.json, but its dataset .*val"):
        prepare_data(loaders, {"val": dict(ann_file=files["test"])}, data.root / "work")
    twin = data.root / "twin.json"
    twin.symlink_to(files["val"])
    prepare_data(loaders, {"val": dict(ann_file=str(twin))}, data.root / "work")


def test_a_metric_has_the_order_of_its_datasets_classes(data):
    """Labels count the classes in the order of the file that each of the two reads."""
    data.save()
    own = f"{data.root}/annotations/val.json"
    copy, link = data.root / "copy.json", data.root / "link.json"
    copy.write_bytes(Path(own).read_bytes())
    link.symlink_to(own)

    def read(path, classes):
        loader, metric = dict(dataset=data.config("val", classes)), dict(type="CocoMetric")
        metric.update(ann_file=str(path))
        prepare_data({"val": loader}, {"val": metric}, data.root / "work")
        return metric["ann_file"] == loader["dataset"]["ann_file"] != str(path)

    assert read(own, CLASSES[::-1]) and read(link, CLASSES[::-1])
    assert not read(copy, CLASSES)
    with pytest.raises(InputError, match="copy.json, which has the categories circle, square, so"):
        read(copy, CLASSES[::-1])


def test_a_metric_has_the_images_of_all_files(data):
    data.save()
    loaders = {"test": dict(dataset=dict(datasets=[data.config("val"), data.config("test")]))}

    def check(metric):
        prepare_data(loaders, {"test": dict(type="CocoMetric", **metric)}, data.root / "work")

    joined, number = data.root / "joined.json", len(data.splits["val"]["images"])
    for metric in ({}, dict(ann_file=f"{data.root}/annotations/val.json")):
        with pytest.raises(InputError, match="reads one file, but the datasets read .*val.json"):
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
    with pytest.raises(InputError, match="list its classes in different orders or spellings"):
        prepare_data(loaders, {}, data.root / "work")
    loaders["val"] = dict(dataset=data.config("train", CLASSES[1:]))
    prepare_data(loaders, {}, data.root / "work")
