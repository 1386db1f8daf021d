"""A setting that is misspelt or cannot be right is named with its place; faults of the disk are one
sentence.
"""

import argparse
import errno
import os
import random
import resource

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from torch.utils.data import DataLoader

from mmsdpt.engine import build_runner
from mmsdpt.engine.config_errors import try_first_sample
from mmsdpt.utils import cli
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.templates import checked_templates

PLATEAU = dict(type="ReduceOnPlateauLR", monitor="coco/bbox_mAP", rule="greater")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"model.tuner.num_token": 3},
            r"^model.tuner.num_token is not a.*mmsdpt.SDPT.*num_tokens\?",
        ),
        (
            {"model.class_chunk": 40},
            "^model.class_chunk is not a setting of mmsdpt.GLIP; it is now token_chunk, which",
        ),
        ({"model.tuner.type": "mmsdpt.SDTP"}, r"^model.tuner.type='mmsdpt.SDTP' is not.*SDPT\?"),
        ({"train_cfg.max_epoch": 3}, r"^train_cfg.max_epoch is not.*max_epochs\?"),
        (
            {"train_dataloader.dataset.data_rot": "x"},
            r"^train_dataloader.dataset.data_rot.*data_root\?",
        ),
        ({"default_hooks.checkpoint.intervall": 2}, "has no setting intervall"),
        ({"optim_wrapper.optimizer.lr": "x"}, "optimizer.lr must be a number"),
        ({"optim_wrapper.optimizer.lr": float("nan")}, "optimizer.lr must be a number"),
        ({"train_cfg.max_epochs": 0}, "train_cfg.max_epochs must be a positive integer"),
        ({"train_dataloader.batch_size": 2.5}, "batch_size must be a positive integer"),
        ({"train_dataloader.num_workers": -1}, "num_workers must be an integer, 0 or more"),
        ({"load_from": 5}, "load_from must be a string or None, got 5"),
        (
            {"model.tuner.num_tokens": 0},
            "Tokens cannot be built.*num_tokens must be a positive",
        ),
        (
            {"model.tuner.num_tokens": "x"},
            "Tokens cannot be built.*num_tokens must be a positive",
        ),
        ({"optim_wrapper.optimizer.betas": [2, 3]}, "cannot be built.*Invalid beta"),
        ({"optim_wrapper.optimizer.type": "Adamm"}, "optimizer.type='Adamm' is not known.*Adam"),
        ({"randomness.seed": -1}, "randomness.seed must be an integer from 0 to"),
        ({"tuner_files": {"other": "x.safetensors"}}, "tuner_files.other: .* are default"),
        ({"resume": True, "resume_from": __file__}, "cannot be read|not unpickle"),
        ({"val_dataloader": None}, "val_dataloader is None, but val_cfg, val_evaluator is not"),
        ({"log_level": "debug"}, "log_level must be a level .* got 'debug'"),
        ({"custom_hooks": [dict(type="EMAHook")]}, "EMAHook.*leave it out"),
        ({"custom_hooks": [dict(type="mmengine.EMAHook")]}, "EMAHook.*leave it out"),
        (
            {"train_cfg.val_begin": 4, "default_hooks.checkpoint.save_best": "coco/bbox_mAP"},
            "val_begin=4 is after the end of the run, 3, so no validation would.*lower it",
        ),
        (
            {"param_scheduler": [PLATEAU]}
            | dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator")),
            "^ReduceOnPlateauLR follows the scores of validations, but this run does not validate",
        ),
        (
            {"param_scheduler": [PLATEAU | dict(monitor="AP")], "train_cfg.max_epochs": 1},
            "^monitor='AP' of ReduceOnPlateauLR is not a score of .* coco/bbox_mAP",
        ),
        ({"train_dataloader.sampler.type": "DefaultSamplr"}, "sampler.type=.*DefaultSampler?"),
        (
            {"train_dataloader.drop_last": True, "train_dataloader.batch_size": 5},
            "4 training images are fewer than one batch of 5, and drop_last",
        ),
        ({"param_scheduler": [dict(type="StepLR")]}, "StepLR cannot be built.*'step_size'"),
        ({"model.trainable": ["["]}, "an invalid regular expression: unterminated"),
        ({"val_evaluator.metric": "mAP"}, "CocoMetric cannot be built.*metric should be one of"),
        ({"val_evaluator.type": "VOCMetric"}, "val_evaluator.ann_file is not a setting of VOC"),
        ({"val_evaluator.classes": ["square"]}, "^val_evaluator.classes is not a.* CocoMetric"),
        (
            {"model.backbone.depths": 3},
            r"SwinTransformer cannot be built.*TypeError: .* no len\(\) \(.*swin.py, line \d+\)",
        ),
        ({"model.tuner.type": None}, "^model.tuner cannot be built from the config: type must be"),
        ({"train_dataloader.timeout": -1}, "the dataloader cannot be built.*non-negative"),
        ({"auto_scale_lr": dict(enable=True)}, "^auto_scale_lr cannot be built.*base_batch_size"),
        ({"activation_checkpointing": "abc"}, "^activation_checkpointing cannot be built.*'abc'"),
        ({"compile": 3}, "compile must be True or False or a dict or None, got 3"),
        ({"env_cfg.mp_cfg.mp_start_method": "x"}, "the run cannot be built.*context for 'x'"),
        (
            {"param_scheduler": [dict(type="StepLR", step_size=1, gamma="x")]},
            "gamma of StepLR must",
        ),
        (
            {"train_dataloader.dataset.pipeline.1.scale": "abc"},
            "^FixScaleResize cannot prepare the first image of CocoDataset: Scale must be a number",
        ),
        (
            {"val_dataloader.dataset.pipeline.2.with_mask": True},
            r"^LoadAnnotations cannot prepare .* KeyError: mask \(.*line \d+\)",
        ),
        (
            dict.fromkeys(("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")),
            "the config has no train_dataloader, so there is nothing to train",
        ),
    ],
)
def test_a_setting_that_cannot_be_right_is_named_with_its_place(tiny_cfg, options, words):
    tiny_cfg.merge_from_dict(options)
    with pytest.raises(InputError, match=words) as caught:
        build_runner(tiny_cfg).train()
    assert "\n" not in str(caught.value)


def test_a_refusal_without_words_shows_the_settings(tiny_cfg, monkeypatch):
    class Picky:
        def __init__(self, size):
            if size < 1:  # as "assert size > 0" does without pytest
                raise AssertionError

    monkeypatch.setitem(HOOKS.module_dict, "Picky", Picky)
    tiny_cfg.custom_hooks = [dict(type="Picky", size=0)]
    with pytest.raises(InputError, match="Picky cannot be built.*it does not take size=0"):
        build_runner(tiny_cfg)


def test_a_value_error_of_the_code_stays_one(tiny_cfg):
    runner = build_runner(tiny_cfg)
    runner.call_hook = lambda *args, **kwargs: int("x")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        runner.train()
    assert not isinstance(caught.value, InputError)


def test_a_look_at_the_first_sample_uses_no_random_number():
    class Drawn(list):
        def __getitem__(self, index):
            return random.random() + float(np.random.random() + torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = Drawn("a")[0]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    try_first_sample(DataLoader(Drawn("a")))
    assert Drawn("a")[0] == expected


def test_a_tuner_file_is_not_resumed(tiny_cfg, tmp_path):
    (tmp_path / "tuner.safetensors").touch()
    tiny_cfg.merge_from_dict(dict(resume=True, resume_from=str(tmp_path / "tuner.safetensors")))
    with pytest.raises(InputError, match="start a new run with --cfg-options tuner_files"):
        build_runner(tiny_cfg).train()


def test_an_error_of_the_code_stays_an_error(tiny_cfg):
    """``TypeError`` for a keyword that no config has is not about a setting."""
    runner = build_runner(tiny_cfg)
    runner.call_hook = lambda *args, **kwargs: object(other=1)
    with pytest.raises(TypeError):
        runner.train()


@pytest.mark.parametrize("base", [True, False])
def test_without_base_weights_a_tuner_warns(tiny_cfg, caplog, base):
    tiny_cfg.log_level = "WARNING"
    if not base:
        tiny_cfg.load_from = None
    runner = build_runner(tiny_cfg)
    runner.load_or_resume()
    log = open(f"{runner.log_dir}/{runner.timestamp}.log").read()
    assert ("The base weights are random" in log) is not base


@pytest.mark.parametrize(
    "template",
    ["", "a photo", "a {} {}", "a {} {x}.", "a { a {}.", "a {}}", 5, None, ["{}", "x"]],
)
def test_a_template_with_other_braces_is_refused(template):
    with pytest.raises(InputError, match=r"one \{\} for the class name"):
        checked_templates(template)


def parsed(*options):
    parser = argparse.ArgumentParser()
    cli.add_common_arguments(parser)
    return parser.parse_args(["--cfg-options", *options]).cfg_options


def test_options_keep_their_spaces_and_must_be_pairs(capsys):
    found = parsed("a.b=a photo of a {}.", "c=[1, 2]", "d='x y'", "e=3")
    assert found == {"a.b": "a photo of a {}.", "c": [1, 2], "d": "x y", "e": 3}
    with pytest.raises(SystemExit) as caught:
        parsed("nonsense")
    assert caught.value.code == 2 and "KEY=VALUE pairs, got 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["hooks=[dict(type='EMAHook',momentum=0.1)]", "scale=[1,2"])
def test_an_option_that_cannot_be_read_is_named(capsys, value):
    with pytest.raises(SystemExit):
        parsed(value)
    assert f"cannot parse {value!r}" in capsys.readouterr().err


def test_an_option_for_nothing_is_refused():
    cfg = Config(dict(optim_wrapper={}, own=1))
    cli.merge_options(cfg, {"own": 2, "optim_wrapper.x": 1, "tuner_files.default": "x"})
    with pytest.raises(InputError, match="no optim_wraper.*did you mean optim_wrapper"):
        cli.merge_options(cfg, {"optim_wraper.optimizer.lr": 1})


def test_an_option_much_like_one_that_no_constructor_checks_is_refused():
    free = dict(nms_pre=5, tuners=dict(old=dict(type="A")))
    cfg = Config(dict(model=dict(type="M", test_cfg=free), param_scheduler=[dict(type="S")]))
    good = {"model.test_cfg.score_thr": 1, "model.tunr": 2, "param_scheduler.0.T_max": 3}
    cli.merge_options(cfg, good | {"model.test_cfg.tuners.new.type": "B"})
    with pytest.raises(InputError, match="no nms_pr; did you mean nms_pre"):
        cli.merge_options(cfg, {"model.test_cfg.nms_pr": 3})
    for name in ("param_scheduler.T_max", "param_scheduler.1.T_max"):
        with pytest.raises(
            InputError, match="param_scheduler is a list of length 1, and .* is not a valid index"
        ):
            cli.merge_options(cfg, {name: 3})


def test_a_coco_metric_reads_the_file_of_its_dataset(tiny_cfg):
    tiny_cfg.val_evaluator.pop("ann_file")
    runner = build_runner(tiny_cfg)
    assert runner.val().keys() >= {"coco/bbox_mAP"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EROFS, "the folder is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EEXIST, "there is a file where a folder is needed"),
    ],
)
def test_a_fault_of_the_disk_is_one_sentence_with_the_file(
    tmp_path, monkeypatch, capsys, number, words
):
    path = tmp_path / "tuner.safetensors"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SystemExit) as caught:
        cli.run_tool(lambda: write_atomically(path, b"new"))
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert (
        printed.startswith(f"error: {words}") and str(path) in printed and printed.count("\n") == 1
    )
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


def test_a_log_that_cannot_be_written_ends_the_run_in_one_sentence(tiny_cfg, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    tiny_cfg.log_level = "INFO"
    try:
        with pytest.raises(SystemExit) as caught:
            cli.run_tool(lambda: build_runner(tiny_cfg).train())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    printed = capsys.readouterr().err
    assert caught.value.code == 2 and tiny_cfg.work_dir in printed
    assert "Traceback" not in printed and "Logging error" not in printed
