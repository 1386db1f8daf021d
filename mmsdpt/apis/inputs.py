"""Input images: paths, folders, arrays, PIL images, and lists and generators of these."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from mmsdpt.datasets.classification.images import images_to_predict
from mmsdpt.datasets.image_files import UnreadableImage, refuse_thin, to_rgb
from mmsdpt.utils.errors import InputError, printable

_NO_STREAMS = (bytes, bytearray, memoryview, io.IOBase, Mapping)


@dataclass(frozen=True)
class Source:
    """One input image.

    Attributes:
        content: A path, or pixels (H, W, 3), RGB, uint8.
        name: Name of its result: the path relative to the common folder of the images.
    """

    content: str | np.ndarray
    name: str


def as_source(image: Any, name: str = "") -> Source:
    """One image.

    Args:
        image: A path; an array (H, W, 3) in RGB or (H, W), uint8; or a PIL image, which is used as
            it is: not turned by its EXIF orientation.
        name: Name of its result.

    Raises:
        InputError: for any other type, a URL, or invalid pixels.
    """
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if "://" in path:  # could be detected in, but neither classified nor drawn
            raise InputError(f"images are read from files: download {printable(path)} first")
        return Source(path, name or Path(path).name)
    if not isinstance(image, (Image.Image, np.ndarray)):
        raise InputError(
            f"an image must be a path, an array or a PIL image, got a {type(image).__name__}"
        )
    try:
        pixels = np.asarray(to_rgb(image)) if isinstance(image, Image.Image) else image
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise InputError(
                "an array must be one image (height, width, 3) in RGB or (height, width), uint8;"
                f" got {pixels.shape}, {pixels.dtype}"
            )
        height, width = pixels.shape[:2]
        refuse_thin(width, height)
    except UnreadableImage as error:
        raise InputError(f"the image cannot be used: {error}") from error
    return Source(pixels, name or "image.png")


def is_single(inputs: Any) -> bool:
    """Whether one image was given rather than several."""
    if isinstance(inputs, (str, os.PathLike)):
        return not os.path.isdir(inputs)
    return isinstance(inputs, Image.Image) or (isinstance(inputs, np.ndarray) and inputs.ndim < 4)


def several(inputs: Any, skip: Callable[[str, Exception], None]) -> list[Source] | Iterator[Source]:
    """The images of a folder, list or batch as a list; those of a generator one by one.

    Args:
        skip: Called with the name of an image that cannot be used, and the reason.

    Raises:
        InputError: for a folder without images, or anything that is not a collection of images.
    """
    if isinstance(inputs, (str, os.PathLike)):
        found = images_to_predict(inputs)
        return [Source(str(Path(inputs) / name), name) for name in found]
    listed = isinstance(inputs, (list, tuple, np.ndarray))
    # These are iterable, too, but their items are not images; tensors have __array__.
    no_images = isinstance(inputs, _NO_STREAMS) or hasattr(inputs, "__array__")
    if not listed and (no_images or not isinstance(inputs, Iterable)):
        raise InputError(
            "expected an image (path, array, PIL image), a folder, or a list or generator of"
            f" images, got a {type(inputs).__name__}: open bytes and files with PIL.Image.open, and"
            " convert a tensor to an array (height, width, 3) in RGB"
        )
    names = _names(list(inputs)) if listed else None

    def sources() -> Iterator[Source]:
        for i, image in enumerate(inputs):
            name = names[i] if names else _numbered(i, image)
            try:
                yield as_source(image, name)
            except InputError as error:
                skip(name, error)

    return sources() if names is None else list(sources())


def _numbered(i: int, image: Any) -> str:
    return Path(image).name if isinstance(image, (str, os.PathLike)) else f"{i + 1:06d}.png"


def _names(images: list[Any]) -> list[str]:
    """Unique names for a list of images, with as much of their paths as needed."""
    names = [_numbered(i, image) for i, image in enumerate(images)]
    if len(set(names)) == len(names):
        return names
    paths = [
        os.path.abspath(image) if isinstance(image, (str, os.PathLike)) else name
        for name, image in zip(names, images, strict=True)
    ]
    common = os.path.commonpath([os.path.dirname(path) for path in paths if os.path.isabs(path)])
    names = [os.path.relpath(path, common) if os.path.isabs(path) else path for path in paths]
    return [
        f"{i + 1:06d}_{name}" if names.count(name) > 1 else name for i, name in enumerate(names)
    ]


def report(name: str, words: object, skipped: bool = True) -> None:
    """Log why an image is skipped, or how it is read."""
    said = f"{'Skipped ' * skipped}{printable(name)}: {printable(words, 1000)}"
    print_log(said, "current", logging.WARNING)
