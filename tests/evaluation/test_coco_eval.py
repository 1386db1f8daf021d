"""faster-coco-eval gives the numbers of pycocotools, and both give classes their own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from pycocotools.cocoeval import COCOeval

from mmsdpt.evaluation.coco_eval import mend_coco_eval

CLASSES = ("cat", "dog", "bird")


@pytest.fixture
def annotations(tmp_path):
    """Twelve images with up to nine boxes of every size, crowds among them, some without any."""
    rng = np.random.default_rng(0)
    boxes = []
    for image in range(12):
        for _ in range(rng.integers(0, 10)):
            x, y, w, h = (*rng.uniform(0, 200, 2), *(2 ** rng.uniform(3, 7.5, 2)))
            entry = dict(id=len(boxes) + 1, image_id=image, category_id=int(rng.integers(1, 4)))
            crowd = int(rng.random() < 0.1)
            boxes.append({**entry, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd})
    images = [dict(id=i, width=400, height=400, file_name=f"{i}.jpg") for i in range(12)]
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(dict(images=images, annotations=boxes, categories=categories)))
    return path


def evaluate(path, folder):
    """Of detections near the boxes, with wrong classes and many too many."""
    rng = np.random.default_rng(1)
    content = json.loads(path.read_text())
    metric = CocoMetric(
        ann_file=str(path), metric="bbox", classwise=True, outfile_prefix=str(folder / "out")
    )
    metric.dataset_meta = dict(classes=CLASSES)
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        found = [[*a["bbox"]] for a in own for _ in range(3)] + [[9.0, 9.0, 50.0, 40.0]] * 120
        labels = [a["category_id"] - 1 for a in own for _ in range(3)] + [0, 1, 2] * 40
        boxes = np.array(found)
        boxes[:, :2] += rng.normal(0, 6, (len(found), 2))
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] * rng.uniform(0.7, 1.3, (len(found), 2))
        scores = rng.random(len(found)) * np.where(np.arange(len(found)) < 3 * len(own), 1, 0.3)
        predictions = dict(
            bboxes=torch.tensor(boxes),
            scores=torch.tensor(np.round(scores, 2)),  # many ties
            labels=torch.tensor(labels),
        )
        sample = dict(img_id=image["id"], ori_shape=(400, 400), pred_instances=predictions)
        metric.process({}, [sample])
    return metric.evaluate(size=12)


@pytest.fixture
def put_back(monkeypatch):
    """The metric's evaluations, as they were, after a test."""
    for name in ("COCOeval", "COCOevalMP"):
        monkeypatch.setattr(coco_metric, name, getattr(coco_metric, name))


@pytest.fixture(params=[True, False], ids=["faster", "plain"])
def fast(request, put_back, monkeypatch):
    """With and without faster-coco-eval."""
    if request.param:
        pytest.importorskip("faster_coco_eval", reason="the extra fast-eval is not installed")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return request.param


def test_numbers_are_those_of_pycocotools(annotations, tmp_path, fast, monkeypatch, capsys):
    monkeypatch.setattr(coco_metric, "COCOeval", COCOeval)
    plain = evaluate(annotations, tmp_path)
    table = [line for line in capsys.readouterr().out.split("\n") if "@[" in line]
    assert mend_coco_eval() == fast
    parents = {kind.__module__.partition(".")[0] for kind in coco_metric.COCOeval.__mro__}
    assert ("faster_coco_eval" in parents) == fast
    assert evaluate(annotations, tmp_path) == plain
    assert len(table) == 12
    assert [line for line in capsys.readouterr().out.split("\n") if "@[" in line] == table
    assert 0.05 < plain["coco/bbox_mAP"] < 0.95 and plain["coco/bird_precision"] > 0


def test_a_hundred_boxes_of_a_class_count_in_each_image(annotations, fast):
    mend_coco_eval()
    content = json.loads(annotations.read_text())
    own = next(a for a in content["annotations"] if not a["iscrowd"])
    annotations.write_text(json.dumps({**content, "annotations": [own]}))
    x, y, w, h = own["bbox"]
    metric = CocoMetric(ann_file=str(annotations), metric_items=["mAP", "mAP_50"])
    metric.dataset_meta = dict(classes=CLASSES)
    boxes = torch.tensor([[0.0, 0, 3, 3]] * 109 + [[x, y, x + w, y + h]])
    labels = torch.full((110,), own["category_id"] - 1)
    found = dict(bboxes=boxes, scores=torch.linspace(0.9, 0.1, 110), labels=labels)
    for image in content["images"]:
        kept = {k: v if image["id"] == own["image_id"] else v[:0] for k, v in found.items()}
        metric.process({}, [dict(img_id=image["id"], ori_shape=(400, 400), pred_instances=kept)])
    assert metric.evaluate(size=12) == {"coco/bbox_mAP": 0, "coco/bbox_mAP_50": 0.009}


@pytest.mark.parametrize("mp_eval", [False, True])
def test_classes_have_their_own_numbers_whatever_the_order_of_their_ids(tmp_path, fast, mp_eval):
    mend_coco_eval()
    ids = dict(dog=7, bird=2, cat=3)
    box = dict(image_id=0, bbox=[10, 10, 50, 50], area=2500, iscrowd=0)
    content = dict(
        images=[dict(id=0, width=400, height=400, file_name="0.jpg")],
        categories=[dict(id=number, name=name) for name, number in ids.items()],
        annotations=[{**box, "id": n, "category_id": n} for n in ids.values()],
    )
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(path), classwise=True, use_mp_eval=mp_eval)
    metric.dataset_meta = dict(classes=tuple(ids))
    found = dict(bboxes=torch.tensor([[10.0, 10, 60, 60]]), scores=torch.tensor([0.9]))
    dogs = {**found, "labels": torch.tensor([0])}
    metric.process({}, [dict(img_id=0, ori_shape=(400, 400), pred_instances=dogs)])
    scores = metric.evaluate(size=1)
    assert {name: scores[f"coco/{name}_precision"] for name in ids} == dict(dog=1, bird=0, cat=0)
    assert scores["coco/bbox_mAP"] == 0.333
