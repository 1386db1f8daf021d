"""Pictures of boxes keep the dataset's folders, and are drawn on every kind of image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from PIL import Image

from mmsdpt.engine.hooks import BoxPicturesHook


@pytest.fixture
def runner(tmp_path):
    DetLocalVisualizer.get_instance("visualizer").dataset_meta = dict(classes=("cat",))
    dataset = SimpleNamespace(data_prefix=dict(img=str(tmp_path / "images")))
    return SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(tmp_path / "work"),
        timestamp="now",
    )


def sample(path):
    boxes = InstanceData(
        bboxes=torch.tensor([[2.0, 2, 20, 20]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
    )
    return DetDataSample(metainfo=dict(img_path=str(path)), pred_instances=boxes)


def test_images_of_one_name_and_deep_ones_have_their_own_picture(tmp_path, runner):
    ramp = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    for folder in ("cam1", "cam2"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.fromarray((ramp * 255).astype(np.uint8)).save(
            tmp_path / "images" / folder / "000.jpg"
        )
    Image.fromarray(ramp).save(tmp_path / "images" / "deep.tif")
    hook = BoxPicturesHook(draw=True, test_out_dir="pictures")
    images = sorted(path for path in (tmp_path / "images").rglob("*") if path.is_file())
    for number, path in enumerate(images):
        hook.after_test_iter(runner, number, None, [sample(path)])
    out = tmp_path / "work" / "now" / "pictures"
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert found == ["cam1/000.jpg", "cam2/000.jpg", "deep.tif.png"]
    pixels = np.asarray(Image.open(out / "deep.tif.png").convert("L"), dtype=float)
    assert 60 < pixels[21:, 21:].mean() < 250  # neither black nor white
