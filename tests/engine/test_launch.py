"""From the command line to a config, and from an error to one sentence."""

import argparse
import os
import runpy
import subprocess
import sys

import mmengine
import pytest
import torch
from mmengine.config import ConfigDict

from mmsdpt.experiments.loading import load_study
from mmsdpt.utils.cli import (
    add_common_arguments,
    load_config,
    read_config_file,
    replace_prefix,
    run_tool,
)
from mmsdpt.utils.errors import InputError

CONFIG = """
data_root = "data/coco"
lang_model_name = "bert-base-uncased"
model = dict(language_model=dict(name=lang_model_name), bbox_head=dict(lang_model_name="x"))
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="train.json",
        datasets=[dict(data_root=data_root + "/part"), dict(data_root="data/coco2017/")],
    )
)
test_evaluator = dict(ann_file=data_root + "/annotations/val.json")
number = 3
"""


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "my_run.py"
    path.write_text(CONFIG)

    def call(*arguments, config=path):
        parser = argparse.ArgumentParser()
        parser.add_argument("config")
        add_common_arguments(parser)
        return load_config(parser.parse_args([str(config), *arguments]))

    return call


def test_a_base_that_is_not_there_is_named(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text('_base_ = "configs/_base_/nowhere.py"')
    missing = tmp_path / "configs/_base_/nowhere.py"
    for read in (read_config_file, load_study):
        with pytest.raises(
            InputError, match=f"mine.py inherits from {missing}, which does not exist"
        ):
            read(config)


def test_the_work_directory_is_named_after_the_config_or_as_asked(load):
    assert load().work_dir == "work_dirs/my_run"
    assert load("--work-dir", "/tmp/x").work_dir == "/tmp/x"
    assert load("--cfg-options", "work_dir=/tmp/y").work_dir == "/tmp/y"


def test_options_override_the_config(load):
    cfg = load("--cfg-options", "number=5", "train_dataloader.dataset.ann_file=b.json")
    assert cfg.number == 5 and cfg.train_dataloader.dataset.ann_file == "b.json"


@pytest.mark.parametrize("folder", ["/mine", "/mine/"])
def test_another_data_root_reaches_every_place_and_nothing_else(load, folder):
    cfg = load("--data-root", folder)
    dataset = cfg.train_dataloader.dataset
    assert dataset.data_root.rstrip("/") == cfg.data_root.rstrip("/") == "/mine"
    assert set(cfg) - {"work_dir", "launcher"} == set(load()) - {"work_dir", "launcher"}
    assert dataset.datasets[0].data_root == "/mine/part"
    assert dataset.datasets[1].data_root == "data/coco2017/"
    assert cfg.test_evaluator.ann_file == "/mine/annotations/val.json"
    assert dataset.ann_file == "train.json"


def test_another_data_root_reaches_datasets_with_a_root_of_their_own(tmp_path, load):
    """A config over a base of clothing that names its folder in the datasets alone."""
    path = tmp_path / "own.py"
    path.write_text(
        CONFIG.replace("data_root=data_root,", "data_root='data/own',")
        .replace('data_root + "/part"', '"data/own/part"')
        .replace('"data/coco2017/"', '"data/own"')
    )
    with pytest.raises(InputError, match="replaces one folder, but the datasets use data/own, "):
        load("--data-root", "/mine", config=path)
    path.write_text(path.read_text().replace("data/own/part", "data/own"))
    dataset = load("--data-root", "/mine", config=path).train_dataloader.dataset
    roots = [dataset.data_root, *(part.data_root for part in dataset.datasets)]
    assert {root.rstrip("/") for root in roots} == {"/mine"}


def test_a_replaced_prefix_leaves_what_was_given_as_it_is():
    given = ConfigDict(a="data/x", b=[dict(c=("data/", "database", 3))])
    found = replace_prefix(given, "data/", "/mine/")
    assert found == dict(a="/mine/x", b=[dict(c=("/mine/", "database", 3))])
    assert isinstance(found.b[0], ConfigDict)
    assert given == dict(a="data/x", b=[dict(c=("data/", "database", 3))])


@pytest.mark.parametrize("option", ["data_root=None", "data_root="])
def test_a_config_without_a_data_root_refuses_another_one(load, option):
    with pytest.raises(InputError, match="--data-root needs a config that sets data_root"):
        load("--data-root", "/mine", "--cfg-options", option)


def test_a_config_of_data_alone_is_refused(load, repository):
    with pytest.raises(
        InputError, match="scene_task.py has no model: use a config for tools/train"
    ):
        load(config=repository / "configs/_base_/datasets/scene_task.py")


def test_another_text_encoder_reaches_both_places(load):
    cfg = load("--cfg-options", "lang_model_name=/my/bert")
    assert cfg.model.language_model.name == cfg.model.bbox_head.lang_model_name == "/my/bert"


def test_a_missing_config_is_named(load):
    with pytest.raises(InputError, match="config not found: nothing.py"):
        load(config="nothing.py")


def test_an_error_of_the_user_is_one_sentence_and_code_2(capsys):
    def main():
        raise InputError("the sentence")

    with pytest.raises(SystemExit) as caught:
        run_tool(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: the sentence\n"


def test_an_interrupt_is_one_line_and_code_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_tool(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "\nerror: interrupted\n"


def test_an_error_brings_no_escape_sequence_of_a_file_to_the_terminal(capsys):
    def main():
        raise InputError("two things:\n- a\x1b[31m.jpg\n- né")

    with pytest.raises(SystemExit):
        run_tool(main)
    assert capsys.readouterr().err == "error: two things:\n- a\\x1b[31m.jpg\n- né\n"


def test_any_other_error_keeps_its_traceback():
    def main():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_tool(main)
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda: None)
    assert caught.value.code == 0


def test_output_that_nobody_reads_on_ends_a_tool_silently():
    """As by ``| head``; the pipe is closed before the tool prints more than it holds."""
    code = "from mmsdpt.utils.cli import run_tool; run_tool(lambda: print('x' * 10**6))"
    reader, writer = os.pipe()
    os.close(reader)
    tool = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert tool.stderr == b"" and tool.returncode == 1


# ------------------------------------------------------------------ the tools themselves


@pytest.fixture
def tool(repository, monkeypatch, capsys):
    """Run a tool in this process, as the interpreter would; returns what it printed."""
    monkeypatch.setenv("LOCAL_RANK", "0")

    def run(name, *arguments, code=0):
        path = str(repository / "tools" / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(path, run_name="__main__")
        printed = capsys.readouterr()
        assert caught.value.code == code, printed.err
        return printed.err if code else printed.out + printed.err

    return run


@pytest.fixture
def config(tiny_cfg, tmp_path):
    """The tiny config as a file, one epoch long."""
    tiny_cfg.pop("work_dir")
    tiny_cfg.log_level = "INFO"
    tiny_cfg.train_cfg.max_epochs = 1
    path = tmp_path / "tiny.py"
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in tiny_cfg.to_dict().items()))
    return path


def test_the_tools_train_resume_and_test(tool, config, tmp_path):
    """One run through both tools with their flags."""
    run = tmp_path / "run"
    log = tool("train.py", config, "--work-dir", run)
    assert "Epoch(train) [1][2/2]" in log and "eta: " in log and "Trainable parameters" in log
    for written in (log, next(run.glob("*/*.log")).read_text()):
        before, _, _ = written.partition("Epoch(train)")
        assert len(before.splitlines()) < 100, "what trains is soon to be seen"
        assert "will be deprecated" not in before and "init_weights" not in before
    assert (run / config.name).is_file(), "the config is not in the log but beside it"
    assert (run / "last_checkpoint").read_text().endswith("epoch_1.pth")

    more = ["--cfg-options", "train_cfg.max_epochs=2"]
    log = tool("train.py", config, "--work-dir", run, "--resume", *more)
    assert "Resumed at epoch 1, iteration 2" in log and "Epoch(train) [2][2/2]" in log
    named = ["--work-dir", tmp_path / "named", "--resume", run / "epoch_1.pth"]
    assert "Resumed at epoch 1, iteration 2" in tool("train.py", config, *named, *more)

    tuner, dump = run / "tuner.safetensors", tmp_path / "predictions.pkl"
    log = tool("test.py", config, tuner, "--out", dump, "--work-dir", tmp_path / "a")
    assert "Loaded SDPT from" in log and "coco/bbox_mAP" in log
    run_file = run / "epoch_2.pth"
    assert f"Loaded {run_file}" in tool("test.py", config, f"default={run_file}", "--out", dump)


def test_the_untouched_model_is_tested_with_the_tuners_off(tool, config, tmp_path):
    def predictions(*arguments):
        dump = tmp_path / "predictions.pkl"
        tool("test.py", config, *arguments, "--out", dump, "--work-dir", tmp_path / "test")
        found = [sample["pred_instances"] for sample in mmengine.load(dump)]
        return torch.cat([torch.cat([p["bboxes"].flatten(), p["scores"]]) for p in found])

    off = predictions("--tuners-off")
    plain = predictions("--cfg-options", "model.tuner=None")
    without_a_file = predictions()
    assert torch.equal(off, plain) and torch.equal(off, without_a_file)
    printed = tool("test.py", config, "--slots-off", "new", code=2)
    assert "--slots-off new: the config has tuner slots default" in printed


def test_mixed_precision_trains_on_the_cpu(tool, config, tmp_path):
    log = tool("train.py", config, "--work-dir", tmp_path / "amp", "--amp")
    assert "Epoch(train) [1][2/2]" in log and "loss: nan" not in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train.py", "nothing.py"), "config not found: nothing.py"),
        (
            ("train.py", "CONFIG", "--cfg-options", "load_from=glip_l_mmdet-abfe026b.pth"),
            "checkpoint not found: glip_l_mmdet-abfe026b.pth; download https://download.openmmlab",
        ),
        (
            ("train.py", "CONFIG", "--data-root", "/no"),
            "data not found: /no/annotations.json, /no",
        ),
        (("train.py", "CONFIG", "--resume", "no.pth"), "checkpoint not found: no.pth"),
        (("train.py", "CONFIG", "--auto-scale-lr"), "--auto-scale-lr needs auto_scale_lr.base"),
        (("test.py", "CONFIG", "no.safetensors"), "tuner file not found: no.safetensors"),
        (("train.py", "LICENSE"), "LICENSE is not a config: expected a .py"),
        (("train.py", "CONFIG", "--launcher", "pytorch"), "--launcher pytorch needs torchrun"),
        (
            ("test.py", "CONFIG", "b=x.pth"),
            "b=x.pth: the tuner slots of the config are default; write",
        ),
        (("test.py", "CONFIG", "--out", "x.txt"), "--out must end in .pkl or .json, got x.txt"),
        (("test.py", "CONFIG", "--data-root", "/no"), "data not found: /no/annotations.json, /no"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_the_tools_say_in_one_sentence_what_is_missing(tool, config, tmp_path, arguments, words):
    name, *others = (config if a == "CONFIG" else a for a in arguments)
    error = tool(name, *others, "--work-dir", tmp_path / "run", code=2)
    assert error.splitlines()[-1].startswith(f"error: {words}")
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["train.py", "test.py"])
def test_torchrun_without_a_launcher_is_refused(tool, config, monkeypatch, name):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = tool(name, config, code=2)
    assert error == (
        "error: torchrun started 2 processes, but without --launcher pytorch each would do all the"
        " work: add --launcher pytorch\n"
    )


@pytest.mark.slow
def test_the_tools_work_as_programs(repository, config, tmp_path):
    def program(name, *arguments):
        command = [sys.executable, str(repository / "tools" / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    run = tmp_path / "run"
    done = program("train.py", config, "--work-dir", run)
    assert done.returncode == 0, done.stderr
    done = program("test.py", config, run / "tuner.safetensors", "--work-dir", run)
    assert done.returncode == 0 and "coco/bbox_mAP" in done.stdout + done.stderr, done.stderr
    done = program("test.py", config, "no.safetensors")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "error: tuner file not found: no.safetensors"
