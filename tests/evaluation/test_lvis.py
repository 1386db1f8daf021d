"""LVIS's AP: the lvis package's numbers, unrounded, and those of a slow reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lvis import LVIS, LVISEval, LVISResults
from mmengine.structures import InstanceData

from mmsdpt.evaluation import LVISMetric
from mmsdpt.evaluation.lvis import _DETECTION, best_of_each_class
from mmsdpt.utils.errors import InputError
from tests.oracles.lvis_ap import average_precision, best_of_each_category, best_of_each_image


@pytest.fixture(scope="module")
def truth() -> dict:
    """Random boxes of nine classes in twelve images, annotated as a federation does."""
    draw = np.random.default_rng(0)
    categories = [
        # Ids with gaps, so that labels are no ids.
        dict(id=3 * i + 2, name=f"thing {i}", frequency="rcf"[i % 3], image_count=1)
        for i in range(9)
    ]
    images, boxes = [], []
    for image in range(12):
        shown = draw.choice(9, 3, replace=False)
        negative = [i for i in draw.choice(9, 4, replace=False) if i not in shown]
        images.append(
            dict(
                id=image + 5,
                width=200,
                height=200,
                neg_category_ids=[categories[i]["id"] for i in negative],
                not_exhaustive_category_ids=[categories[shown[0]]["id"]] * (image % 2),
            )
        )
        for i in shown:
            for _ in range(int(draw.integers(1, 4))):
                x, y = draw.uniform(0, 120, 2)
                width, height = draw.uniform(10, 80, 2)
                boxes.append(
                    dict(
                        id=len(boxes) + 1,
                        image_id=image + 5,
                        category_id=categories[i]["id"],
                        bbox=[x, y, width, height],
                        area=width * height,
                    )
                )
    return dict(images=images, annotations=boxes, categories=categories)


@pytest.fixture(scope="module")
def found(truth) -> list[dict]:
    """Boxes near the true ones, some of other classes, and boxes anywhere."""
    draw = np.random.default_rng(1)
    ids = [each["id"] for each in truth["categories"]]
    detections = []
    for each in truth["annotations"]:
        for _ in range(3):
            x, y, width, height = np.array(each["bbox"]) + draw.normal(0, 5, 4)
            category = each["category_id"] if draw.random() < 0.8 else int(draw.choice(ids))
            box = [x, y, max(width, 1.0), max(height, 1.0)]
            detections.append(dict(image_id=each["image_id"], category_id=category, bbox=box))
    for image in truth["images"]:
        for _ in range(10):
            box = [*draw.uniform(0, 120, 2), *draw.uniform(10, 80, 2)]
            category = int(draw.choice(ids))
            detections.append(dict(image_id=image["id"], category_id=category, bbox=box))
    scores = draw.permutation(len(detections)) / len(detections)  # no two are equal
    return [dict(each, score=float(score)) for each, score in zip(detections, scores, strict=True)]


def samples(truth: dict, found: list[dict]) -> list[dict]:
    """The detections as a model hands them over."""
    ids = sorted(each["id"] for each in truth["categories"])
    result = []
    for image in truth["images"]:
        mine = [each for each in found if each["image_id"] == image["id"]]
        boxes = torch.tensor([each["bbox"] for each in mine], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        predicted = InstanceData(
            bboxes=boxes,
            scores=torch.tensor([each["score"] for each in mine], dtype=torch.float64),
            labels=torch.tensor([ids.index(each["category_id"]) for each in mine]),
        )
        result.append(dict(img_id=image["id"], pred_instances=predicted))
    return result


@pytest.fixture
def file(truth, tmp_path):
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(truth))
    return str(path)


@pytest.mark.parametrize("per_image, per_class", [(300, 10_000), (7, 6)])
def test_it_gives_the_packages_numbers_and_those_of_the_definition(
    truth, found, file, per_image, per_class
):
    metric = LVISMetric(file, per_image, per_class)
    predicted = samples(truth, found)
    metric.process({}, predicted[:5])
    metric.process({}, predicted[5:])
    values = metric.evaluate(len(predicted))

    fixed = best_of_each_category(found, per_class)
    kept = best_of_each_image(found, per_image)
    for prefix, counted, limit in (("lvis", found, per_image), ("lvis_fixed_ap", fixed, -1)):
        copies = [dict(each) for each in counted]
        package = LVISEval(LVIS(file), LVISResults(LVIS(file), copies, max_dets=limit), "bbox")
        package.run()
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"):
            assert values[f"{prefix}/{name}"] == pytest.approx(package.results[name], abs=1e-6)
        plain = kept if prefix == "lvis" else fixed
        for name, frequency in (("AP", "rcf"), ("APr", "r"), ("APc", "c"), ("APf", "f")):
            expected = average_precision(truth, plain, frequency)
            assert values[f"{prefix}/{name}"] == pytest.approx(expected, abs=1e-6), (prefix, name)
    assert 0.05 < values["lvis/AP"] < 0.95
    assert len({round(values[f"lvis/{name}"], 9) for name in ("AP", "APr", "APc", "APf")}) == 4


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("categories", "frequency"),
        ("images", "neg_category_ids"),
        ("images", "not_exhaustive_category_ids"),
    ],
)
def test_a_file_of_another_format_is_refused_at_the_start(truth, tmp_path, part, key):
    entries = [{k: v for k, v in each.items() if k != key} for each in truth[part]]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**truth, part: entries}))
    with pytest.raises(InputError, match=f"{len(entries)} of its {part} have no '{key}'"):
        LVISMetric(str(path))


def test_data_of_other_classes_than_the_file_are_refused(truth, found, file):
    metric = LVISMetric(file)
    metric.dataset_meta = dict(classes=tuple("abcdefghij"))
    with pytest.raises(InputError, match="10 classes, .* 9 categories"):
        metric.process({}, samples(truth, found))


def test_the_limits_count(truth, found, file):
    few, many = (LVISMetric(file, *limits) for limits in ((2, 3), (300, 10_000)))
    for metric in (few, many):
        metric.process({}, samples(truth, found))
    low, high = few.evaluate(12), many.evaluate(12)
    assert low["lvis/AP"] < high["lvis/AP"] and low["lvis_fixed_ap/AP"] < high["lvis_fixed_ap/AP"]


def test_no_detection_is_an_ap_of_nothing(truth, file):
    metric = LVISMetric(file)
    metric.process({}, samples(truth, []))
    assert set(metric.evaluate(12).values()) == {0.0}


def test_the_best_of_each_class_are_those_with_the_highest_scores():
    draw = np.random.default_rng(2)
    found = np.zeros(200, _DETECTION)
    found["category_id"] = draw.integers(0, 5, 200)
    found["score"] = draw.random(200)
    kept = best_of_each_class(found, 7)
    for category in range(5):
        expected = np.sort(found["score"][found["category_id"] == category])[-7:]
        assert np.array_equal(np.sort(kept["score"][kept["category_id"] == category]), expected)
    assert len(best_of_each_class(found[:0], 7)) == 0
