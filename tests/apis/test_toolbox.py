"""The toolboxes' own ways to load a model: they work or refuse, and never leave the base random."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from safetensors.torch import load_file

from mmsdpt.apis import Detector
from mmsdpt.engine import build_runner
from mmsdpt.utils.base_weights import resolve_checkpoint
from mmsdpt.utils.errors import InputError
from tests.apis.conftest import CLASSES, save_with_noise
from tests.run_tools import run

TOOLS = Path(__file__).parents[2] / "tools"


def of_method(make_cfg, tmp_path: Path, tuner: dict, trainable: list[str] | None = None) -> Path:
    cfg = make_cfg(tmp_path / "run")
    cfg.model.tuner, cfg.model.trainable = tuner, trainable
    return save_with_noise(build_runner(cfg), tmp_path / "tuner.safetensors", CLASSES)


MERGED = {
    "LoRA": dict(type="mmsdpt.LoRA", rank=2),
    "LoRAXMHA": dict(type="mmsdpt.LoRAXMHA", rank=2),
    "BitFit": dict(type="mmsdpt.BitFit"),
    "LinearProbing": dict(type="mmsdpt.LinearProbing"),
    "FullFineTuning": dict(type="mmsdpt.FullFineTuning"),
}


@pytest.mark.parametrize(
    ("method", "trainable"),
    [*((method, None) for method in MERGED), ("LoRA", ["bbox_pred", "backbone.*qkv.weight"])],
)
def test_a_merged_checkpoint_gives_the_same_boxes_without_any_tuner(
    method, trainable, make_tiny_cfg, squares, tmp_path
):
    file = of_method(make_tiny_cfg, tmp_path, MERGED[method], trainable)
    merged = tmp_path / "merged.pth"
    assert run("model_converters/merge_tuner.py", file, merged) == 0
    tuned = Detector(file, device="cpu")
    expected = tuned(squares[0], threshold=0)
    with tuned.tuners_off():
        base = tuned(squares[0], threshold=0)
        assert np.abs(base.scores - expected.scores).max() > 1e-5

    cfg = make_tiny_cfg(tmp_path / "plain")
    cfg.model.tuner = None
    model = init_detector(cfg, str(merged), device="cpu")
    assert model.dataset_meta["classes"] == CLASSES and not model.tuners
    found = inference_detector(
        model, squares[0], text_prompt=list(CLASSES), custom_entities=True
    ).pred_instances
    assert np.allclose(found.bboxes.numpy(), expected.boxes, atol=1e-3)
    assert np.allclose(found.scores.numpy(), expected.scores, atol=1e-6)


# A converter with its input and output, and the call of fsync (two for each file) that fails.
CONVERTERS = {
    "detector2mmsdpt": ("mmsdpt://mini_glip", "model.safetensors", 1),
    "export_base": ("mmsdpt://mini_glip", "model.safetensors", 1),
    "merge_tuner": ("lora.safetensors", "merged.pth", 1),
    "peft_lora export": ("lora.safetensors", "adapter", 3),
    "make_clip_tokenizer": ("merges.gz", "tokenizer", 3),
}


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_full_disk_is_one_sentence_and_leaves_no_half_of_a_conversion(
    name, make_tiny_cfg, tmp_path, monkeypatch, capsys
):
    source, target, failing = CONVERTERS[name]
    source = str(tmp_path / source) if "://" not in source else resolve_checkpoint(source)
    if source.endswith("lora.safetensors"):
        os.rename(of_method(make_tiny_cfg, tmp_path, MERGED["LoRA"]), source)
    elif source.endswith(".gz"):
        Path(source).write_bytes(gzip.compress(b"#version: 0.2\ni n\nt h\n"))
    tool, *command = name.split()
    options = ["--merges", "2"] if tool == "make_clip_tokenizer" else []
    calls, fsync = itertools.count(1), os.fsync

    def fill_up(handle: int) -> None:
        if next(calls) >= failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    out = tmp_path / "out"
    arguments = (*command, source, out / target, *options)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        assert run(f"model_converters/{tool}.py", *arguments) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: no space left") and message.endswith(f"{out / target}")
    assert not [path for path in out.rglob("*") if path.is_file()]
    assert run(f"model_converters/{tool}.py", *arguments) == 0
    assert [path for path in out.rglob("*") if path.is_file()]


def test_what_cannot_be_merged_is_refused_in_one_sentence(tuned, tmp_path, capsys):
    assert run("model_converters/merge_tuner.py", tuned, tmp_path / "merged.pth") == 2
    assert "error: SDPT cannot be merged" in capsys.readouterr().err
    assert run("model_converters/merge_tuner.py", tuned, tmp_path / "merged.bin") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("slots", [("", ""), ("one=", "other=")])
def test_a_tuner_file_is_not_taken_for_the_file_to_write(slots, tuned, tmp_path, capsys):
    """As in a command that forgets it."""
    other = shutil.copy(tuned, tmp_path)
    before = Path(other).read_bytes()
    assert run("model_converters/merge_tuner.py", f"{slots[0]}{tuned}", f"{slots[1]}{other}") == 2
    assert f"{other} is a tuner file, and the last argument must be" in capsys.readouterr().err
    assert Path(other).read_bytes() == before and list(tmp_path.iterdir()) == [Path(other)]


def as_file(cfg: Config, folder: Path) -> str:
    """The config as a file, with its tuples."""
    path = folder / "config.py"
    path.write_text("\n".join(f"{name} = {value!r}" for name, value in cfg.to_dict().items()))
    return str(path)


@pytest.mark.parametrize("kind", ["tuner file", "checkpoint of a run"])
def test_the_toolbox_refuses_what_was_tuned_alone(kind, tuned, make_tiny_cfg, tmp_path):
    cfg = make_tiny_cfg(tmp_path)
    file, words = tuned, "is a tuner file, which holds no base weights"
    if kind == "checkpoint of a run":
        file, words = tmp_path / "epoch_1.pth", "lacks .* of the weights of GLIP"
        state = {f"tuners.default.{name}": value for name, value in load_file(tuned).items()}
        torch.save(dict(state_dict=state, meta={}), file)
    with pytest.raises(InputError, match=words):
        init_detector(cfg, str(file), device="cpu")
    with pytest.raises(InputError, match=words):
        DetInferencer(as_file(cfg, tmp_path), str(file), device="cpu")


def test_the_toolbox_loads_base_weights_in_safetensors(make_tiny_cfg, tmp_path, caplog):
    cfg = make_tiny_cfg(tmp_path)
    model = init_detector(cfg, cfg.load_from, device="cpu")
    base = load_file(cfg.load_from)
    assert all(
        torch.equal(value, base[name])
        for name, value in model.state_dict().items()
        if not name.startswith("tuners.")
    )


def test_mmpretrain_refuses_a_tuner_file(tuned_clip, clip_cfg):
    from mmpretrain.apis import get_model

    with pytest.raises(InputError, match="is a tuner file"):
        get_model(clip_cfg.copy(), pretrained=str(tuned_clip), device="cpu")


def test_base_weights_are_not_written_over_the_run(tmp_path, capsys):
    run_file = tmp_path / "epoch_1.pth"
    run_file.write_bytes(b"as it was")
    assert run("model_converters/export_base.py", run_file, run_file) == 2
    assert "must end in .safetensors" in capsys.readouterr().err
    assert run_file.read_bytes() == b"as it was"
