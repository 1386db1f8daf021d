"""From the command line to a config, and from an error to one sentence."""

import argparse
import subprocess
import sys

import pytest

from mmsdpt.utils.cli import run_tool
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.launch import add_common_arguments, load_config

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
    assert dataset.datasets[0].data_root == "/mine/part"
    assert dataset.datasets[1].data_root == "data/coco2017/"
    assert cfg.test_evaluator.ann_file == "/mine/annotations/val.json"
    assert dataset.ann_file == "train.json"


@pytest.mark.parametrize("option", ["data_root=None", "data_root="])
def test_a_config_without_a_data_root_refuses_another_one(load, option):
    with pytest.raises(InputError, match="--data-root needs a config with data_root"):
        load("--data-root", "/mine", "--cfg-options", option)


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


def test_any_other_error_keeps_its_traceback():
    def main():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_tool(main)
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda: None)
    assert caught.value.code == 0


# ------------------------------------------------------------------ the tools themselves


@pytest.fixture
def tool(repository):
    def run(name, *arguments, code=0):
        command = [sys.executable, str(repository / "tools" / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        assert code == 0 or "Traceback" not in output, output
        return output if code == 0 else done.stderr.strip().splitlines()[-1]

    return run


@pytest.mark.slow
def test_the_tools_train_resume_and_test(tool, tiny_cfg, tmp_path):
    """One run through both tools with their flags, on a tiny model."""
    config, run = tmp_path / "tiny.py", tmp_path / "run"
    tiny_cfg.pop("work_dir")
    tiny_cfg.log_level = "INFO"
    tiny_cfg.train_cfg.max_epochs = 1
    with open(config, "w") as file:
        file.writelines(f"{name} = {value!r}\n" for name, value in tiny_cfg.to_dict().items())

    log = tool("train.py", config, "--work-dir", run)
    assert "Epoch(train) [1][2/2]" in log and "eta: " in log
    tuner = run / "tuner.safetensors"
    assert tuner.is_file() and (run / "last_checkpoint").read_text().endswith("epoch_1.pth")

    more = ["--cfg-options", "train_cfg.max_epochs=2"]
    log = tool("train.py", config, "--work-dir", run, "--resume", *more)
    assert "resumed epoch: 1, iter: 2" in log and "Epoch(train) [2][2/2]" in log
    named = ["--work-dir", tmp_path / "named", "--resume", run / "epoch_1.pth"]
    assert "resumed epoch: 1, iter: 2" in tool("train.py", config, *named, *more)
    amp = tmp_path / "amp"
    assert "loss: " in tool("train.py", config, "--work-dir", amp, "--amp")

    dump = tmp_path / "predictions.pkl"
    with_file = tool("test.py", config, tuner, "--out", dump, "--work-dir", tmp_path / "a")
    assert "Loaded SDPT from" in with_file and "coco/bbox_mAP" in with_file and dump.is_file()
    off = tool("test.py", config, tuner, "--tuners-off", "--work-dir", tmp_path / "b")
    assert "coco/bbox_mAP" in off
    assert "Loaded" in tool("test.py", config, run / "epoch_2.pth", "--work-dir", tmp_path / "c")


@pytest.mark.slow
def test_the_tools_say_in_one_sentence_what_is_missing(tool, tiny_cfg, tmp_path):
    config = tmp_path / "tiny.py"
    with open(config, "w") as file:
        file.writelines(f"{name} = {value!r}\n" for name, value in tiny_cfg.to_dict().items())
    weights = "load_from=checkpoints/glip_l_mmdet-abfe026b.pth"
    for arguments, words in (
        (("train.py", "nothing.py"), "error: config not found: nothing.py"),
        (("train.py", config, "--cfg-options", weights), "error: checkpoint not found: checkp"),
        (("train.py", config, "--data-root", "/no"), "error: annotation file not found: /no/annot"),
        (("train.py", config, "--resume", "no.pth"), "error: checkpoint not found: no.pth"),
        (("test.py", config, "no.safetensors"), "error: tuner file not found: no.safetensors"),
        (("test.py", config, "b=x.pth"), "error: b=x.pth: the config has tuner slots default"),
        (("test.py", config, "--out", "x.json"), "error: --out writes a pickle file, got x.json"),
        (("test.py", config, "--data-root", "/no"), "error: annotation file not found: /no/annot"),
    ):
        assert tool(*arguments, code=2).startswith(words)
