"""A setting that is of another kind than any run could use is named with what it must be."""

import argparse

import pytest
from mmengine.config import Config

from mmsdpt.engine.config_errors import check_settings
from mmsdpt.utils import cli
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.setting_kinds import check_kinds

RUN = dict(
    model=dict(type="M", early_fuse=True, test_cfg=dict(score_thr=0.05, nms=dict(type="nms"))),
    train_dataloader=dict(
        batch_size=2,
        drop_last=False,
        dataset=dict(type="D", dataset=dict(type="E", pipeline=[dict(type="Load")])),
    ),
    train_cfg=dict(max_epochs=3),
    optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
    param_scheduler=[dict(type="S", T_max="max_epochs", end=3)],
    default_hooks=dict(logger=dict(type="LoggerHook")),
    val_evaluator=None,
    env_cfg=dict(),
    randomness=dict(seed=0, per_sample=True),
    resume=False,
)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": None}, "model must be a dict, got None"),
        ({"model": []}, r"model must be a dict, got \[\]"),
        ({"model.tuner": "MuDPT"}, "model.tuner must be a dict or None, got 'MuDPT'"),
        ({"model.test_cfg": 3}, "model.test_cfg must be a dict, got 3"),
        ({"model.test_cfg.score_thr": "high"}, "score_thr must be a number, 0 or more, got 'high'"),
        ({"model.trainable": "head"}, "model.trainable must be a list or None, got 'head'"),
        ({"train_dataloader": "data"}, "train_dataloader must be a dict or None, got 'data'"),
        ({"train_dataloader": []}, "train_dataloader must be a dict or None"),
        (
            {"train_dataloader.batch_size": "two"},
            "batch_size must be a positive integer, got 'two'",
        ),
        ({"train_dataloader.batch_size": None}, "batch_size must be a positive integer, got None"),
        ({"train_dataloader.batch_size": True}, "batch_size must be a positive integer, got True"),
        ({"train_dataloader.num_workers": None}, "num_workers must be an integer, 0 or more"),
        ({"train_dataloader.drop_last": "no"}, "drop_last must be True or False, got 'no'"),
        ({"train_dataloader.sampler": "DefaultSampler"}, "sampler must be a dict or None"),
        ({"train_dataloader.dataset": "folder"}, "dataset must be a dict, got 'folder'"),
        (
            {"train_dataloader.dataset.dataset.pipeline": []},
            "train_dataloader.dataset.dataset.pipeline is empty",
        ),
        ({"train_dataloader.dataset.dataset.pipeline": None}, "pipeline must be a list, got None"),
        ({"train_dataloader.dataset.dataset.data_root": 3}, "data_root must be a string or None"),
        (
            {"val_evaluator": [dict(type="M", metric_items=3)]},
            "val_evaluator.0.metric_items must be a list or None, got 3",
        ),
        ({"val_evaluator": dict(type="M", iou_thrs="high")}, "val_evaluator.iou_thrs must be a"),
        (
            {"val_evaluator": dict(type="M", collect_device="tpu")},
            "collect_device must be cpu or gpu, got 'tpu'",
        ),
        (
            {"model.data_preprocessor": dict(pad_size_divisor=0)},
            "pad_size_divisor must be a positive integer, got 0",
        ),
        (
            {"default_hooks.checkpoint": dict(interval=0)},
            "checkpoint.interval must be a positive integer or -1, got 0",
        ),
        ({"train_cfg.max_epochs": -1}, "train_cfg.max_epochs must be a positive integer, got -1"),
        ({"train_cfg.max_epochs": 1.0}, "train_cfg.max_epochs must be a positive integer, got 1.0"),
        ({"optim_wrapper": "AdamW"}, "optim_wrapper must be a dict or None, got 'AdamW'"),
        ({"optim_wrapper.optimizer": None}, "optim_wrapper.optimizer must be a dict, got None"),
        ({"optim_wrapper.optimizer.lr": True}, "lr must be a number, 0 or more, got True"),
        ({"optim_wrapper.clip_grad": 1.0}, "clip_grad must be a dict or None, got 1.0"),
        ({"default_hooks": []}, r"default_hooks must be a dict or None, got \[\]"),
        ({"default_hooks.logger": "no"}, "default_hooks.logger must be a dict, got 'no'"),
        ({"default_hooks.logger.interval": 0}, "interval must be a positive integer, got 0"),
        (
            {"custom_hooks": dict(type="H")},
            "custom_hooks must be a list or None, got {'type': 'H'}",
        ),
        ({"custom_hooks": [None]}, "custom_hooks.0 must be a dict, got None"),
        ({"param_scheduler": 3}, "param_scheduler must be a dict or a list or None, got 3"),
        ({"val_evaluator": "CocoMetric"}, "val_evaluator must be a dict or a list or None"),
        ({"log_processor": []}, "log_processor must be a dict or None"),
        ({"env_cfg": None}, "env_cfg must be a dict, got None"),
        ({"randomness": 3}, "randomness must be a dict, got 3"),
        ({"randomness.per_sample": "abc"}, "per_sample must be True or False, got 'abc'"),
        ({"resume": "yes"}, "resume must be True or False or None, got 'yes'"),
        ({"load_from": []}, "load_from must be a string or None"),
        ({"tuner_files": ["a"]}, "tuner_files must be a dict or None"),
        ({"feature_cache": 3}, "feature_cache must be a dict or None, got 3"),
    ],
)
def test_a_setting_of_another_kind_is_named_with_what_it_must_be(options, sentence):
    cfg = Config(RUN)
    check_kinds(cfg)
    for name, value in options.items():
        *way, last = name.split(".")
        part = cfg
        for word in way:
            part = part[word]
        part[last] = value
    with pytest.raises(InputError, match=sentence):
        check_kinds(cfg)


@pytest.mark.parametrize(
    ("model", "test_cfg", "sentence"),
    [
        ("mmsdpt.GLIP", dict(score_threshold=0.5), "score_threshold is .* did you mean score_thr"),
        ("mmsdpt.GLIP", dict(nms=dict(iou_thresh=0.5)), "nms.iou_thresh .* mean iou_threshold"),
        ("mmsdpt.GroundingDINO", dict(score_thr=0.5), "score_thr .* max_per_img, chunked_size"),
    ],
)
def test_a_setting_of_tests_that_nothing_reads_is_refused(model, test_cfg, sentence):
    read = dict(max_per_img=9, chunked_size=40)
    check_kinds(Config(dict(model=dict(type=model, test_cfg=read))))
    check_kinds(Config(dict(model=dict(type="Own", test_cfg=test_cfg))))
    with pytest.raises(InputError, match=f"^model.test_cfg.{sentence}"):
        check_kinds(Config(dict(model=dict(type=model, test_cfg=read | test_cfg))))


def test_what_is_built_already_is_left_alone():
    cfg = Config(RUN)
    cfg.model = model = object()
    cfg.custom_hooks = [object()]
    check_kinds(cfg)
    assert cfg.model is model


@pytest.mark.parametrize("log_level", [[], "debug"])
def test_a_level_is_a_word_or_a_number(log_level):
    cfg = Config(dict(log_level=log_level))
    with pytest.raises(InputError, match="log_level must be a level such as INFO"):
        check_settings(cfg)
    cfg.log_level = 20
    check_settings(cfg)


@pytest.mark.parametrize("metric", ["segm", ["bbox", "segm"]])
def test_masks_are_not_compared_where_none_are_predicted(metric):
    evaluator = dict(type="CocoMetric", metric=metric)
    parts = dict(val_dataloader={}, val_cfg={}, val_evaluator=evaluator)
    with pytest.raises(InputError, match="val_evaluator.metric has segm.*metric='bbox'"):
        check_settings(Config(dict(parts, model=dict(type="GLIP", bbox_head=dict(type="H")))))
    check_settings(Config(dict(parts, model=dict(type="M", roi_head=dict(mask_head={})))))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "param_scheduler.0.end=abc",
            "end is 3 in the config, but its new value 'abc' is not a number",
        ),
        ("param_scheduler.0.end=True", "its new value True is not a number"),
        (
            "model.early_fuse=1",
            "early_fuse is True .*, but its new value 1 is neither True nor False",
        ),
        ("model.early_fuse=yes", "its new value 'yes' is neither True nor False"),
        ("model.test_cfg.score_thr=high", "score_thr must be a number, 0 or more, got 'high'"),
        ("model.test_cfg.nms=0.5", "nms must be a dict or None, got 0.5"),
        ("train_dataloader.dataset.dataset.pipeline.0=None", "does not fit the config"),
    ],
)
def test_an_option_keeps_the_kind_of_what_it_replaces(tmp_path, option, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, option)


def test_an_option_may_be_a_word_a_pair_or_nothing(tmp_path):
    options = ("param_scheduler.0.end=max_epochs", "optim_wrapper=None")
    cfg = load(tmp_path, *options, "val_evaluator=[]", "train_dataloader=None", "train_cfg=None")
    assert cfg.param_scheduler[0].end == "max_epochs" and cfg.optim_wrapper is None


def load(folder, *options):
    path = folder / "run.py"
    Config(RUN).dump(path)
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    cli.add_common_arguments(parser)
    return cli.load_config(parser.parse_args([str(path), "--cfg-options", *options]))
