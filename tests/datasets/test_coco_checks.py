"""COCO files as people's tools export them: what has one meaning is filled in, and what cannot be
used leaves and is counted.
"""

import json

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric

from mmsdpt.utils.errors import InputError
from tests.datasets.coco_splits import EXPECTED, coco, labelled


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
    report = data.report()
    assert said in "; ".join(report.sentences("filled")) and not report.left_out


def test_a_file_without_faults_is_read_as_it_is(data):
    data.save()
    assert data.prepare()["train"].ann_file == str(data.root / "annotations" / "train.json")
    assert not (data.root / "work").exists()


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
    report = data.report()
    (sentence,) = report.sentences("left_out")
    assert said in sentence and "1: id 2" in sentence
    assert labelled(data.prepare()["train"]) == [EXPECTED[0][:1], EXPECTED[1]]
    data.each(change)
    with pytest.raises(
        InputError, match=r"(?s)train.json: none of its 4 boxes can be used.*val.json"
    ):
        data.prepare()


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
