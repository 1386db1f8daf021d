"""The promise of the pixels: what the model sees equals CLIP's own preprocessing, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

from mmsdpt.datasets.classification import ClassificationData
from mmsdpt.utils.errors import InputError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ORIENTATION = 0x0112


def noise(width: int, height: int, channels: int) -> np.ndarray:
    """Smooth shapes with noise over them, so that resampling matters everywhere."""
    generator = np.random.default_rng(width * 1000 + height + channels)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + c) + c) * np.cos(y / (7 - c)) for c in range(channels)]
    pixels = 127 + 70 * np.stack(waves, -1) + generator.normal(0, 30, (height, width, channels))
    return pixels.clip(0, 255).astype(np.uint8)


def rgb(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(width, height, 3))


def with_transparent_palette() -> Image.Image:
    image = rgb(251, 260).quantize(32)
    image.info["transparency"] = 3
    return image


IMAGES = {
    "landscape.jpg": lambda: rgb(333, 251),
    "portrait.jpg": lambda: rgb(251, 333),
    "odd.png": lambda: rgb(517, 389),
    "square.png": lambda: rgb(300, 300),
    "of_the_size.png": lambda: rgb(224, 224),
    "one_too_wide.png": lambda: rgb(225, 224),
    "small.png": lambda: rgb(37, 53),
    "long.png": lambda: rgb(900, 31),
    "tall.png": lambda: rgb(31, 900),
    "grey.jpg": lambda: Image.fromarray(noise(301, 240, 1)[..., 0]),
    "grey_alpha.png": lambda: Image.fromarray(noise(301, 241, 2), "LA"),
    "rgba.png": lambda: Image.fromarray(noise(241, 301, 4), "RGBA"),
    "palette.png": lambda: rgb(301, 261).quantize(64),
    "palette.gif": lambda: rgb(301, 262).quantize(64),
    "transparent_palette.png": with_transparent_palette,
    "black_and_white.png": lambda: rgb(301, 251).convert("1"),
    "cmyk.jpg": lambda: rgb(277, 301).convert("CMYK"),
}


def reference(path, size: int) -> torch.Tensor:
    """CoOp's and OpenAI's test transforms before ``ToTensor``: (3, size, size), uint8."""
    image = Image.open(path).convert("RGB")
    image = transforms.Resize(size, interpolation=InterpolationMode.BICUBIC)(image)
    return transforms.PILToTensor()(transforms.CenterCrop(size)(image))


@pytest.fixture
def config(repository) -> Config:
    init_default_scope("mmpretrain")
    return Config.fromfile(repository / "configs/_base_/datasets/clip_clothing.py")


def open_images(config: Config, folder, size: int) -> ClassificationData:
    settings = dict(config.test_dataloader.dataset, data_root=str(folder), image_size=size)
    settings.pop("type")
    return ClassificationData(**settings)


def pixels(data: ClassificationData, index: int) -> torch.Tensor:
    """(3, size, size), uint8, in the order RGB."""
    return data[index]["inputs"].flip(0)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            rgb(40, 40).save(tmp_path / split / name / f"{name}_first.png")
    return tmp_path


@pytest.mark.parametrize("size", [224, 64])
@pytest.mark.parametrize("name", IMAGES)
def test_pixels_equal_clips_own_to_the_bit(folder, config, name, size):
    path = folder / "test/a" / name
    IMAGES[name]().save(path)
    data = open_images(config, folder, size)
    index = [data.get_data_info(i)["img_path"] for i in range(len(data))].index(str(path))
    ours, theirs = pixels(data, index), reference(path, size)
    assert ours.dtype == torch.uint8 and ours.shape == (3, size, size)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_ignore_the_cameras_orientation(folder, config, orientation):
    image = rgb(321, 241)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    path = folder / "test/a/turned.jpg"
    image.save(path, exif=exif)
    assert Image.open(path).getexif()[ORIENTATION] == orientation
    data = open_images(config, folder, 224)
    assert torch.equal(pixels(data, 1), reference(path, 224))


def test_real_photographs_equal_clips_own_to_the_bit(real_data, config):
    data = open_images(config, real_data / "clothing", 224)
    for index in range(0, len(data), 40):
        path = data.get_data_info(index)["img_path"]
        assert torch.equal(pixels(data, index), reference(path, 224))


def test_the_model_gets_clips_normalised_image(folder, config, repository):
    for name in ("landscape.jpg", "portrait.jpg"):
        IMAGES[name]().save(folder / "test/a" / name)
    data = open_images(config, folder, 224)
    model = Config.fromfile(repository / "configs/_base_/models/clip_vit_b16.py").model
    preprocessor = MODELS.build(model.data_preprocessor)
    images = preprocessor(default_collate([data[1], data[2]]))["images"]
    normalise = transforms.Normalize(MEAN, STD)
    for image, name in zip(images, ("landscape.jpg", "portrait.jpg"), strict=True):
        expected = normalise(reference(folder / "test/a" / name, 224) / 255)
        torch.testing.assert_close(image, expected, atol=2e-6, rtol=0)


def test_training_images_are_bicubic_crops_of_the_same_pixels(folder, config):
    """The crop that the transform drew, cut and resized by Pillow alone."""
    path = folder / "train/a/a_first.png"
    rgb(333, 251).save(path)
    settings = dict(config.train_dataloader.dataset, data_root=str(folder), image_size=64)
    settings.pop("type")
    data = ClassificationData(**settings)
    crop = data.pipeline.transforms[1]
    assert crop.crop_ratio_range == (0.08, 1.0) and crop.aspect_ratio_range == (3 / 4, 4 / 3)
    flipped = 0
    for seed in range(8):
        np.random.seed(seed)
        packed = data[0]
        np.random.seed(seed)
        top, left, height, width = crop.rand_crop_params(np.zeros((251, 333, 3)))
        box = (left, top, left + width, top + height)
        cut = Image.open(path).crop(box).resize((64, 64), Image.Resampling.BICUBIC)
        expected = transforms.PILToTensor()(cut)
        if packed["data_samples"].flip:
            flipped += 1
            expected = expected.flip(-1)
        assert torch.equal(packed["inputs"].flip(0), expected)
    assert 0 < flipped < 8


def test_an_image_that_breaks_later_is_named(folder, config):
    data = open_images(config, folder, 64)
    (folder / "test/a/a_first.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="a_first.png cannot be read"):
        data[0]
