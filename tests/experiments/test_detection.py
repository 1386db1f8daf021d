"""What a test of a detector gives where there is little to score."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger, print_log
from mmengine.registry import DefaultScope
from torch import nn

from mmsdpt.experiments.images import DatasetCache, quiet
from mmsdpt.experiments.testing import evaluate, warn_of_other_images
from mmsdpt.experiments.worker import show_warnings
from mmsdpt.utils.errors import InputError
from tests.datasets.coco_splits import Data, coco

BOX = [8, 8, 24, 24]
NAMES = [f"coco/bbox_{name}" for name in ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")]


class OneImage:
    dataset = SimpleNamespace(metainfo=dict(classes=("cat",)))

    def __len__(self) -> int:
        return 1

    def batches(self, pixels):
        yield dict(inputs=[], data_samples=[None])


def detected(tmp_path, truth, found):
    """The scores of a detector on an image; boxes, and those it finds, are x1, y1, x2, y2."""
    boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in truth]
    content = dict(
        images=[dict(id=1, file_name="1.png", width=64, height=64)],
        categories=[dict(id=1, name="cat")],
        annotations=[
            dict(id=i, image_id=1, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0)
            for i, box in enumerate(boxes, start=1)
        ],
    )
    (tmp_path / "truth.json").write_text(json.dumps(content))
    predicted = dict(
        bboxes=torch.tensor(found, dtype=torch.float32).reshape(-1, 4),
        scores=torch.full((len(found),), 0.9),
        labels=torch.zeros(len(found), dtype=torch.long),
    )
    host = nn.Module()
    host.test_step = lambda batch: [dict(pred_instances=predicted, img_id=1, ori_shape=(64, 64))]
    metric = dict(type="mmdet.CocoMetric", ann_file=str(tmp_path / "truth.json"), metric="bbox")
    return evaluate(host, ConfigDict(test_evaluator=metric), OneImage())


def test_boxes_that_are_found_are_scored(tmp_path):
    scores = detected(tmp_path, truth=[BOX], found=[BOX])
    # Sizes without a box have no score.
    assert scores == pytest.approx({name: 1.0 for name in NAMES[:4]})


def test_a_detector_that_finds_nothing_has_an_ap_of_0(tmp_path):
    assert detected(tmp_path, truth=[BOX], found=[]) == {name: 0.0 for name in NAMES[:4]}


@pytest.mark.parametrize("found", [[], [BOX]])
def test_without_boxes_there_is_no_score(tmp_path, found):
    assert detected(tmp_path, truth=[], found=found) == {}


def test_a_metric_of_other_images_is_told_of_once(tmp_path):
    """Their boxes count as missed, so that the score is of another test."""
    data = Data(tmp_path)
    data.save()
    loader = dict(batch_size=1, dataset=data.config("test"))
    more = coco("test", images=5)
    (tmp_path / "more.json").write_text(json.dumps(more))
    tests = [
        SimpleNamespace(
            cell=SimpleNamespace(data=name),
            config=dict(
                default_scope="mmdet",
                test_dataloader=loader,
                test_evaluator=dict(type="CocoMetric", ann_file=str(file)),
            ),
        )
        for name, file in (
            ("whole", tmp_path / "annotations/test.json"),
            *[("part", tmp_path / "more.json")] * 2,
        )
    ]
    show_warnings()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    assert logger.isEnabledFor(logging.WARNING)  # a logger remembers its answers
    with quiet():
        print_log("nobody is told", "current", logging.WARNING)
    warn_of_other_images(tests, DatasetCache())
    logger.removeHandler(handler)
    (text,) = said
    assert text.startswith("part: the test dataset has 2 images, but the annotations of its metric")


def test_a_coco_file_with_incomplete_entries_is_named(tmp_path):
    """Where a run fills in the value, a study did not say more than KeyError."""
    data = Data(tmp_path)
    data.each(lambda entry: {key: entry[key] for key in entry if key != "area"})
    with DefaultScope.overwrite_default_scope("mmdet"):
        with pytest.raises(InputError, match="annotations/test.json has no 'area', .*coco2coco.py"):
            DatasetCache().dataset(data.config("test"))
