"""Promises of the pictures of predictions: right colours, one for each image, in its folder."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

from mmsdpt.engine.hooks import PredictionPicturesHook

RED = (200, 30, 20)


@pytest.fixture
def runner(tmp_path):
    visualizer = UniversalVisualizer.get_instance("predictions")
    visualizer.dataset_meta = dict(classes=["hat", "skirt"])
    dataset = SimpleNamespace(data_root=str(tmp_path / "data"))
    return SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))


def predict(path=None) -> DataSample:
    sample = DataSample().set_gt_label(0).set_pred_label(1).set_pred_score([0.3, 0.7])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 60), RED).save(path)
        sample.set_metainfo(dict(img_path=str(path)))
    return sample


def draw(runner, samples, **kwargs) -> None:
    hook = PredictionPicturesHook(edge=300, **kwargs)
    hook.before_test(runner)
    for start in range(0, len(samples), 2):
        batch = samples[start : start + 2]
        bgr = torch.tensor(RED[::-1], dtype=torch.uint8).view(1, 3, 1, 1)
        hook.after_test_iter(runner, start, dict(inputs=bgr.expand(len(batch), 3, 8, 8)), batch)


def test_each_image_has_its_picture_of_the_whole_file_in_its_folder(runner, tmp_path):
    paths = ["data/hat/1.png", "data/skirt/1.png", "elsewhere/2.png"]
    samples = [predict(tmp_path / path) for path in paths] + [predict()]
    draw(runner, samples, out_dir=str(tmp_path / "out"))
    found = sorted(path for path in (tmp_path / "out").rglob("*.*"))
    names = [path.relative_to(tmp_path / "out").as_posix() for path in found]
    assert names == ["000004.png", "2.png.png", "hat/1.png.png", "skirt/1.png.png"]
    for path, size in zip(found, [(300, 300), *[(450, 300)] * 3], strict=True):
        with Image.open(path) as picture:
            assert picture.size == size
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(pixels[-50:] - RED).max() <= 2  # red is red
        assert np.abs(pixels[:50] - RED).max() > 50  # there is a caption


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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.png.png",
        "3.png.png",
        "6.png.png",
    ]


def test_nothing_is_drawn_where_nobody_asked(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(
        UniversalVisualizer, "visualize_cls", lambda *args, **kwargs: pytest.fail("it drew")
    )
    draw(runner, [predict(tmp_path / "data/1.png")])
