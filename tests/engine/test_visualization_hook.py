"""Promises of the pictures of predictions: one for each image, in its folder, on the whole file."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from PIL import Image

from mmsdpt.engine.hooks import VisualizationHook
from mmsdpt.registry import HOOKS

RED = (200, 30, 20)


@pytest.fixture
def runner(tmp_path):
    dataset = SimpleNamespace(
        data_root=str(tmp_path / "data"), metainfo=dict(classes=["hat", "skirt"])
    )
    return SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=dataset),
        logger=MMLogger.get_instance("visualization"),
    )


def predict(path=None, detector: bool = False):
    sample = DataSample().set_gt_label(0).set_pred_label(1).set_pred_score([0.3, 0.7])
    if detector:
        box = torch.tensor([[5.0, 5.0, 40.0, 30.0]])
        label = torch.tensor([1])
        sample = DetDataSample(
            gt_instances=InstanceData(bboxes=box, labels=label),
            pred_instances=InstanceData(bboxes=box, labels=label, scores=torch.tensor([0.9])),
        )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 60), RED).save(path)
        sample.set_metainfo(dict(img_path=str(path)))
    return sample


def draw(runner, samples, **kwargs) -> None:
    hook = VisualizationHook(**kwargs)
    hook.before_test(runner)
    for start in range(0, len(samples), 2):
        batch = samples[start : start + 2]
        bgr = torch.tensor(RED[::-1], dtype=torch.uint8).view(1, 3, 1, 1)
        hook.after_test_iter(runner, start, dict(inputs=bgr.expand(len(batch), 3, 8, 8)), batch)
    hook.after_test_epoch(runner, dict(score=0.5))


@pytest.mark.parametrize("detector", [False, True], ids=["classifier", "detector"])
def test_each_image_has_its_picture_of_the_whole_file_in_its_folder(runner, tmp_path, detector):
    paths = ["data/hat/1.png", "data/skirt/1.png", "elsewhere/2.png", "elsewhere/too/2.png"]
    samples = [predict(tmp_path / path, detector) for path in paths] + [predict(None, detector)]
    out = tmp_path / "out"
    draw(runner, samples, out_dir=str(out))
    found = sorted(path for path in out.rglob("*.png"))
    names = [path.relative_to(out).as_posix() for path in found]
    expected = ["000005.png", "2.png (2).png", "2.png.png", "hat/1.png.png", "skirt/1.png.png"]
    assert names == expected
    for path in found:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(pixels[pixels.shape[0] // 2] - RED).max(-1).min() <= 2  # red is red
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "score: 0.5" in page and page.count("<img") == 5


def test_detections_on_deep_pixels_are_drawn_below_the_folder_of_the_images(runner, tmp_path):
    sample = predict(tmp_path / "data/images/cam1/deep.tif", detector=True)
    ramp = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    Image.fromarray(ramp).save(sample.img_path)
    runner.test_dataloader.dataset.data_prefix = dict(img=str(tmp_path / "data/images"))
    draw(runner, [sample], out_dir=str(tmp_path / "out"))
    with Image.open(tmp_path / "out/cam1/deep.tif.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert 60 < pixels[400:700, 10:60].mean() < 250  # neither black nor white


def test_an_image_that_is_a_link_keeps_its_folder(runner, tmp_path):
    sample = predict(tmp_path / "elsewhere/2.png")
    link = tmp_path / "data" / "hat" / "1.png"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere/2.png")
    sample.set_metainfo(dict(img_path=str(link)))
    draw(runner, [sample], out_dir=str(tmp_path / "out"))
    assert (tmp_path / "out" / "hat" / "1.png.png").is_file()


def test_an_interval_leaves_out_images_over_all_batches(runner, tmp_path):
    samples = [predict(tmp_path / f"data/{i}.png") for i in range(7)]
    draw(runner, samples, out_dir=str(tmp_path / "out"), interval=3)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == ["0.png.png", "3.png.png", "6.png.png"]


def test_nothing_is_drawn_where_nobody_asked(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(VisualizationHook, "_draw", lambda *args: pytest.fail("it drew"))
    draw(runner, [predict(tmp_path / "data/1.png")])


def test_the_names_of_version_0_1_still_build_the_hooks():
    old = HOOKS.get("mmsdpt.PredictionPicturesHook"), HOOKS.get("mmsdpt.StopOnPlateauHook")
    assert old == (HOOKS.get("mmsdpt.VisualizationHook"), HOOKS.get("mmsdpt.EarlyStoppingHook"))
