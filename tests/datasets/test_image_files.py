"""Images that nobody vouches for are scaled or refused in one sentence, never black or white, and
never waited for.
"""

import os
import struct

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from PIL import Image
from torch.utils.data import DataLoader

from mmsdpt.datasets import LoadImageFromFile, image_files
from mmsdpt.datasets.classification import LoadPillowImage
from mmsdpt.datasets.image_files import (
    UnreadableImage,
    count_frames,
    inspect_image,
    inspect_images,
)
from mmsdpt.utils.errors import InputError

LOADERS = [LoadImageFromFile(imdecode_backend="pillow"), LoadPillowImage()]
RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def deep(kind: str) -> Image.Image:
    if kind == "16 bits":
        return Image.fromarray((RAMP * 65535).astype(np.uint16))
    if kind == "12 bits in 16":
        return Image.fromarray((1000 + RAMP * 3000).astype(np.uint16))
    if kind == "32 bits":
        return Image.fromarray((RAMP * 1e6).astype(np.int32))
    if kind == "floats from 0 to 1":
        return Image.fromarray(RAMP.astype(np.float32))
    return Image.fromarray((RAMP * 40 - 10).astype(np.float32))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    "kind", ["16 bits", "12 bits in 16", "32 bits", "floats from 0 to 1", "floats with negatives"]
)
def test_deep_images_become_grey_levels(tmp_path, load, kind):
    path = tmp_path / "a.tif"
    deep(kind).save(path)
    pixels = load(dict(img_path=str(path)))["img"]
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels[..., 0].astype(float) - RAMP * 255).max() <= 1
    assert inspect_image(path).size == (8, 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_other_images_have_the_pixels_of_mmcv(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    rgb = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(rgb).convert(mode).save(path)
    for backend in ("pillow", "cv2"):
        settings = dict(imdecode_backend=backend)
        ours = LoadImageFromFile(**settings)(dict(img_path=str(path)))
        theirs = MMCVLoadImageFromFile(**settings)(dict(img_path=str(path)))
        assert np.array_equal(ours["img"], theirs["img"])
        assert ours["img_shape"] == theirs["img_shape"] == ours["ori_shape"]


def _broken(folder, kind):
    path = folder / "a.png"
    if kind == "no regular file":
        os.mkfifo(path)
    elif kind == "no such file":
        path = folder / "gone.png"
    elif kind == "empty":
        path.touch()
    elif kind == "no image":
        path.write_text("<html>")
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "program":  # Pillow would start Ghostscript
        Image.new("RGB", (8, 8)).save(path, format="EPS")
    elif kind == "not finite":
        path = folder / "a.tif"
        Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save(path)
    elif kind == "too thin":
        Image.new("RGB", (5000, 2)).save(path)
    else:
        Image.fromarray(np.random.default_rng(0).bytes(3 * 64 * 64) and _noise()).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    return path


def _noise():
    return np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


REASONS = {
    "no regular file": "not a regular file",
    "no such file": "there is no such file",
    "empty": "the file is empty",
    "no image": "an HTML page",
    "pointer": "git lfs pull",
    "program": "not an image that can be read .JPEG, PNG",
    "not finite": "values that are not finite",
    "too thin": "too thin, 5000x2",
    "truncated": "",
}


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(("kind", "reason"), REASONS.items(), ids=REASONS)
def test_images_that_cannot_be_used_are_named_with_the_reason(tmp_path, load, kind, reason):
    path = _broken(tmp_path, kind)
    with pytest.raises(InputError, match=f"the image {path} cannot be .*{reason}"):
        load(dict(img_path=str(path)))
    with pytest.raises(UnreadableImage, match=reason):
        inspect_image(path)


class _OneImage(torch.utils.data.Dataset):
    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return LOADERS[0](dict(img_path=str(self.path)))["img"]


def test_a_broken_image_in_a_worker_ends_in_one_sentence(tmp_path):
    path = _broken(tmp_path, "no image")
    with pytest.raises(InputError) as error:
        next(iter(DataLoader(_OneImage(path), num_workers=1)))
    assert str(error.value).startswith(f"the image {path} cannot be used")
    assert "Traceback" not in str(error.value)


def test_an_image_is_looked_at_again_when_its_file_has_changed(tmp_path, monkeypatch):
    path, lost = tmp_path / "image.png", tmp_path / "lost.png"
    looked, inspect = [], inspect_image
    monkeypatch.setattr(
        image_files, "inspect_image", lambda path: looked.append(path) or inspect(path)
    )
    Image.new("RGB", (8, 6)).save(path)
    for _ in range(2):
        found = inspect_images([path, lost])
        assert found[path].size == (8, 6) and "no such file" in str(found[lost])
    assert looked.count(path) == 1
    Image.new("RGB", (9, 6)).save(path)
    assert inspect_images([path])[path].size == (9, 6)
    path.write_bytes(path.read_bytes()[:40])
    assert isinstance(inspect_images([path])[path], UnreadableImage)


def animation(path, frames=3):
    pictures = [Image.new("RGB", (9, 6), (60 * i, 0, 0)) for i in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_frames_and_pages_are_counted(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    animation(path)
    assert count_frames(path) == inspect_image(path).frames == 3
    Image.new("RGB", (9, 6)).save(path)
    assert count_frames(path) == inspect_image(path).frames == 1


def test_a_telephones_jpeg_is_one_picture(tmp_path):
    pictures = [Image.new("RGB", (9, 6)), Image.new("RGB", (9, 6))]
    pictures[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert count_frames(tmp_path / "a.jpg") == 1


def test_a_damaged_tag_does_not_change_how_a_photograph_is_rotated(tmp_path):
    """An orientation, and a maker's name that is a number, which Pillow cannot write again."""
    maker = struct.pack("<HHIf", 0x010F, 11, 1, 0.5)
    tags = struct.pack("<IHHHIHH", 8, 2, 0x0112, 3, 1, 6, 0) + maker + bytes(4)
    path = tmp_path / "a.jpg"
    Image.new("RGB", (100, 60)).save(path, exif=b"Exif\0\0II*\0" + tags)
    assert inspect_image(path).displayed == (60, 100)
    assert LOADERS[0].transform(dict(img_path=path))["img_shape"] == (100, 60)
