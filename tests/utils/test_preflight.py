"""Promise: all that a run needs and does not find is said at once, before anything is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsdpt import doctor
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.language_models import language_model_folder, mini_bert_folder
from mmsdpt.utils.preflight import TRAINING, find_missing, require_all

GLIP_L = "configs/sdpt/glip_l_coco_k10.py"


@pytest.fixture
def nothing(monkeypatch, tmp_path) -> Path:
    """An empty folder to work in, an empty cache and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_glip_l_with_nothing_there_is_one_message_with_the_doctors_places(nothing, repository):
    before = os.times()
    done = subprocess.run(
        [sys.executable, repository / "tools/train.py", repository / GLIP_L],
        capture_output=True,
        text=True,
    )
    after = os.times()
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert after.children_user - before.children_user < 4, "nothing heavy was imported"
    first, bert, checkpoint, data, _ = done.stderr.splitlines()
    assert "needs 3 things that are missing" in first
    places = {finding.name: finding.problem for finding in doctor.find_weights()}
    folder = str(nothing / "checkpoints/bert-base-uncased")
    assert folder in bert and folder in places["BERT"]
    assert "huggingface.co/bert-base-uncased" in bert and "huggingface.co/bert" in places["BERT"]
    file = "checkpoints/glip_l_mmdet-abfe026b.pth"
    assert file in checkpoint and str(nothing / file) in places["GLIP-L"]
    assert "download https://download.openmmlab.com" in checkpoint
    for path in ("annotations/instances_train2017.json", "train2017/", "val2017/"):
        assert f"data/coco/{path}" in data
    assert "https://cocodataset.org" in data and "--data-root" in data


def test_one_thing_that_is_missing_is_one_sentence(nothing):
    dataset = dict(type="mmsdpt.ClassificationData", name="dtd", data_root="data/")
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), load_from="mmsdpt://mini_clip"))
    with pytest.raises(InputError) as caught:
        require_all(cfg, TRAINING)
    assert str(caught.value).startswith("data not found: data/dtd; ")
    assert "docs/classification_data.md" in str(caught.value)
    (nothing / "data/dtd").mkdir(parents=True)
    require_all(cfg, TRAINING)
    cfg.tuner_files = dict(default="no.safetensors")
    assert find_missing(cfg, TRAINING) == ["tuner file not found: no.safetensors"]
    cfg.tuner_files, cfg.resume, cfg.resume_from = {}, True, "no.pth"
    assert find_missing(cfg, TRAINING) == ["checkpoint not found: no.pth"]


def test_data_that_is_drawn_at_first_use_is_not_missing(nothing, repository):
    cfg = Config.fromfile(
        repository / "configs/mini/sdpt_mini_new_names.py", import_custom_modules=False
    )
    assert find_missing(cfg, TRAINING) == []


def test_bert_is_found_at_the_place_that_is_named(nothing):
    with pytest.raises(InputError, match="checkpoints/bert-base-uncased"):
        language_model_folder("bert-base-uncased")
    place = nothing / "checkpoints/bert-base-uncased"
    place.parent.mkdir()
    place.symlink_to(mini_bert_folder())
    assert language_model_folder("bert-base-uncased").resolve() == place.resolve()
