"""Several datasets in one loader: their classes, and what a metric can score."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import Evaluator

from mmsdpt.engine import build_runner, data_checks
from mmsdpt.engine.hooks import ClassNamesHook
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.errors import InputError

from .conftest import CLASSES


@pytest.fixture
def joined_cfg(tiny_cfg):
    """Training on red squares, and on blue ones under a caption of their own."""
    parts = [copy.deepcopy(tiny_cfg.train_dataloader.dataset) for _ in CLASSES]
    for part, name in zip(parts, CLASSES, strict=True):
        part.metainfo = dict(classes=(name,))
    tiny_cfg.train_dataloader.dataset = dict(
        type="RepeatDataset", times=1, dataset=dict(type="ConcatDataset", datasets=parts)
    )
    tiny_cfg.train_cfg.max_epochs = 1
    return tiny_cfg


@pytest.mark.parametrize("ignored", [None, ["classes"]])
def test_a_tuner_knows_the_classes_of_all_datasets(joined_cfg, tmp_path, ignored):
    joined_cfg.train_dataloader.dataset.dataset.ignore_keys = ignored
    joined_cfg.model.tuner.own_words_only = True
    runner = build_runner(joined_cfg)
    runner.train()
    assert runner.host.tuners["default"].trained_classes == CLASSES
    header = read_tuner_header(tmp_path / "run/tuner.safetensors")
    assert tuple(header["extra"]["classes"]) == CLASSES
    checkpoint = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)
    assert checkpoint["meta"]["dataset_meta"]["classes"] == CLASSES

    joined_cfg.train_cfg.max_epochs, joined_cfg.resume = 2, True
    build_runner(joined_cfg).train()
    joined_cfg.train_dataloader.dataset.dataset.datasets.pop()
    joined_cfg.train_cfg.max_epochs = 3
    with pytest.raises(InputError, match="other classes or in another order"):
        build_runner(joined_cfg).train()


def test_data_of_several_class_lists_are_not_scored_as_one():
    parts = [SimpleNamespace(metainfo=dict(classes=(name,))) for name in CLASSES]
    loader = SimpleNamespace(dataset=SimpleNamespace(datasets=parts))
    with pytest.raises(InputError, match="the test dataset joins data of 2 class lists"):
        ClassNamesHook().before_test(
            SimpleNamespace(test_dataloader=loader, test_evaluator=Evaluator([]))
        )


def test_mmdetections_evaluator_scores_joined_data_each_by_its_metric(tiny_cfg, tmp_path):
    whole = tiny_cfg.test_dataloader.dataset
    alone = []
    for name in CLASSES:
        cfg = copy.deepcopy(tiny_cfg)
        cfg.test_dataloader.dataset.metainfo = dict(classes=(name,))
        alone.append(build_runner(cfg).test()["coco/bbox_mAP"])
    parts = [dict(whole, metainfo=dict(classes=(name,))) for name in CLASSES]
    tiny_cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=parts)
    metric = tiny_cfg.test_evaluator
    tiny_cfg.test_evaluator = dict(
        type="MultiDatasetsEvaluator",
        metrics=[copy.deepcopy(metric) for _ in CLASSES],
        dataset_prefixes=["first", "second"],
    )
    found = build_runner(tiny_cfg).test()
    assert [found[f"{x}/coco/bbox_mAP"] for x in ("first", "second")] == alone


def test_each_metric_is_compared_with_the_dataset_at_its_place(tiny_cfg, tmp_path):
    dataset = tiny_cfg.test_dataloader.dataset
    own, other = f"{dataset.data_root}annotations.json", tmp_path / "other.json"
    other.write_text('{"images": [], "annotations": [], "categories": []}')
    parts = [dict(dataset, type="mmsdpt.LVISDataset", ann_file=str(other)), dataset]
    metrics = [dict(type="mmsdpt.LVISMetric", ann_file=str(other)), dict(type="CocoMetric")]
    evaluator = dict(type="mmdet.MultiDatasetsEvaluator", metrics=metrics)
    loader = dict(dataset=dict(type="ConcatDataset", datasets=parts))
    data_checks.prepare_data(dict(test=loader), dict(test=evaluator), tmp_path)
    assert metrics[1]["ann_file"] == own


def test_a_metrics_file_that_cannot_be_read_is_said(tiny_cfg, tmp_path):
    (tmp_path / "other.json").write_text('{"images": [{"file_name": "a.jpg"}], "annotations": []}')
    tiny_cfg.test_evaluator.ann_file = str(tmp_path / "other.json")
    with pytest.raises(InputError, match="other.json: images have no id"):
        build_runner(tiny_cfg).test()


@pytest.mark.parametrize("change", ["subset", "repeated", None])
def test_a_score_over_other_images_than_the_metrics_is_warned_of(tiny_cfg, monkeypatch, change):
    said = []
    monkeypatch.setattr(data_checks, "print_log", lambda text, *_, **__: said.append(text))
    dataset = tiny_cfg.test_dataloader.dataset
    if change == "subset":
        dataset.indices = 3
    elif change == "repeated":
        tiny_cfg.test_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=dataset)
    build_runner(tiny_cfg).test()
    number = dict(subset=3, repeated=8).get(change)
    assert len(said) == (number is not None)
    for text in said:
        assert text.startswith(
            f"The test dataset has {number} images, but the annotations of its metric have 4:"
        )
