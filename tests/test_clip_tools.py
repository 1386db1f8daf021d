"""Promises of tools/train.py and tools/test.py on CLIP, as a user calls them."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mmsdpt.apis import Classifier

from .run_tools import run as run_here

CLASSES = dict(hat=(200, 30, 30), skirt=(30, 30, 200))


@pytest.fixture
def photographs(tmp_path):
    """Four images of each of two classes, in each of three splits."""
    noise = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name, colour in CLASSES.items():
            folder = tmp_path / "clothing" / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                pixels = np.array(colour) + noise.integers(-30, 30, (80, 70, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "clothing"


@pytest.mark.slow
def test_train_then_test_with_the_tuner_file_pictures_and_a_dump(repository, photographs, tmp_path):
    def run(tool: str, *arguments: str) -> str:
        command = [sys.executable, repository / "tools" / tool]
        command += [repository / "configs/mini/mudpt_mini_clothing.py", *arguments]
        command += ["--data-root", photographs, "--work-dir", tmp_path / "work"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    shown = run("train.py", "--cfg-options", "train_dataloader.dataset.shots=4")
    assert "tuners.default.t2i_deep" in shown  # the table of what trains
    tuner_file = tmp_path / "work" / "tuner.safetensors"
    assert tuner_file.is_file()
    dump = tmp_path / "predictions.pkl"
    shown = run("test.py", str(tuner_file), "--show-dir", "pictures", "--out", str(dump))
    assert float(re.search(r"accuracy/top1: ([\d.]+)", shown)[1]) == 100  # red or blue
    pictures = tmp_path / "work" / "pictures" / "test"
    assert len(list(pictures.glob("*/*.png"))) == 8  # images of one name in two folders
    for name, colour in CLASSES.items():
        with Image.open(pictures / name / "0.png.png") as picture:
            middle = np.asarray(picture.convert("RGB"))[200:300, 300:420].mean(axis=(0, 1))
        assert np.abs(middle - colour).max() < 10
    assert len(pickle.loads(dump.read_bytes())) == 8  # our own file


@pytest.mark.slow
@pytest.mark.parametrize("off", [(), ("--tuners-off",)], ids=["on", "off"])
def test_tip_adapter_that_trains_nothing_is_tested_with_its_cache(
    repository, photographs, tmp_path, off
):
    options = ["model.tuner.frozen=True", "model.tuner.num_classes=2", "model.tuner.shots=4"]
    options += ["train_dataloader.dataset.shots=4", "custom_hooks.0.passes=1"]
    config, work = repository / "configs/mini/tip_adapter_f_mini_clothing.py", tmp_path / "work"
    folders = ["--data-root", photographs, "--work-dir", work]
    assert run_here("test.py", config, *folders, *off, "--cfg-options", *options) == 0
    (log,) = (path.read_text() for path in work.glob("*/*.log"))
    accuracy = float(re.search(r"accuracy/top1: ([\d.]+)", log)[1])
    assert (accuracy > 75) is not bool(off)  # red or blue, which the names do not say
    assert (work / "tuner.safetensors").is_file() is not bool(off)
    if not off:  # the file names its model
        assert Classifier(work / "tuner.safetensors").classes == tuple(CLASSES)
