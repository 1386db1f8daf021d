"""Open untrusted image files: usable ones are loaded, others are reported with the reason."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmsdpt.utils.texts import disguise

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp"}
)
OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"}
)
"""Suffixes of unsupported photo formats, which phones and cameras write besides JPEG."""
IMAGE_FOLDERS = ("images", "Images", "IMAGES", "JPEGImages", "image", "imgs", "img")
"""Generic names of image folders."""
MAX_ASPECT = 100
"""Maximum aspect ratio: a thinner image has no pixels left after resizing, or fills the memory."""
_EXIF_ORIENTATION = 0x0112
# Folders of archives, network storage, recycle bins and notebooks; hidden ones start with a dot.
_TOOL_FOLDERS = frozenset(
    {
        "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle",
        "#snapshot", "$recycle.bin", "system volume information", "lost+found",
        "network trash folder", "temporary items",
    }
)  # fmt: skip
# Modes with more than 8 bits, which Pillow's conversion clips to white or black.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


class UnreadableImage(Exception):
    """An image that cannot be used; the message is the reason."""


class ImageFacts(NamedTuple):
    """Properties of an image file.

    Args:
        size: Width and height in pixels as stored.
        orientation: EXIF orientation, 1 to 8.
        digest: Digest of the file's content.
        frames: Number of frames of an animation, or of pages; only the first is used.
    """

    size: tuple[int, int]
    orientation: int
    digest: str
    frames: int = 1

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height after rotation, as decoded by MMCV's pillow backend with ``color``."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)


def is_tool_folder(name: str) -> bool:
    """Whether a folder of this name is hidden or belongs to a tool and not to the data."""
    return name.startswith(".") or name.casefold() in _TOOL_FOLDERS


def read_bytes(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: if it is missing, empty or not a regular file (reading a pipe could block
            forever).
    """
    path = Path(path)
    try:
        if not path.is_file():
            there = path.exists() or path.is_symlink()
            raise UnreadableImage("it is not a regular file" if there else "there is no such file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from error
    if not content:
        raise UnreadableImage("the file is empty")
    return content


def open_image(content: bytes) -> Image.Image:
    """Open an image of a supported format without decoding it.

    Raises:
        UnreadableImage: if it is not such an image, or too large or too thin.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
    except Image.UnidentifiedImageError as error:
        what = disguise(content) or f"not an image that can be read ({', '.join(_formats())})"
        raise UnreadableImage(f"it is {what}") from error
    except Exception as error:  # Pillow's plugins raise many kinds of errors
        raise UnreadableImage(_reason(error)) from error
    refuse_thin(*image.size)
    return image


def refuse_thin(width: int, height: int) -> None:
    """Refuse an image that would have no pixels after resizing.

    Raises:
        UnreadableImage: if one side is over :data:`MAX_ASPECT` times the other.
    """
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise UnreadableImage(f"it is too thin, {width}x{height} pixels")


@lru_cache
def _formats() -> tuple[str, ...]:
    """Supported formats, excluding Pillow's rarer plugins for security: for example, EPS is a
    program that Ghostscript runs. MPO, which phones write, is opened as JPEG.
    """
    Image.init()
    usual = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "AVIF")
    return tuple(name for name in usual if name in Image.OPEN)


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels have more than 8 bits, so that :func:`to_rgb` must scale them."""
    return image.mode in _DEEP_MODES


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB. 16-bit, 32-bit and floating-point pixels become grey levels: values
    in [0, 1] or [0, 255] keep their scale, others are scaled from the image's minimum to maximum.

    Raises:
        UnreadableImage: if it cannot be decoded, or has values that are not finite.
    """
    try:
        if not is_deep(image):
            return image.convert("RGB")
        values = np.asarray(image, dtype=np.float64)
    except Exception as error:
        raise UnreadableImage(_reason(error)) from error
    if not np.isfinite(values).all():
        raise UnreadableImage("it has values that are not finite")
    low, high = values.min(), values.max()
    if image.mode == "F" and low >= 0 and 0 < high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    grey = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, by which an image must be rotated. It is 1 if it is invalid, if
    the EXIF data cannot be read, and for pixels with more than 8 bits, which are never rotated.
    """
    if is_deep(image):
        return 1
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds, and the picture itself is usable
        return 1
    return int(orientation) if orientation in range(2, 9) else 1


def rotated(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W, ...) as displayed with an EXIF orientation.

    The same as ``PIL.ImageOps.exif_transpose``, which also rewrites all other EXIF tags and fails
    if one of them is damaged.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def inspect_image(path: str | Path) -> ImageFacts:
    """Decode an image once, so that a truncated one is detected here and not during training.

    JPEG files are decoded at an eighth of their size: every byte is read, in less time.

    Raises:
        UnreadableImage: with the reason.
    """
    content = read_bytes(path)
    with open_image(content) as image:
        size, orientation = image.size, 1
        try:
            if image.mode in _DEEP_MODES:
                to_rgb(image)
            else:
                orientation = exif_orientation(image)
                image.draft("RGB", (1, 1))
                image.load()
                if image.format == "TIFF" and orientation >= 5:
                    size = image.height, image.width  # Pillow already rotates this format
            frames = _frames(image)
        except UnreadableImage:
            raise
        except Exception as error:
            raise UnreadableImage(_reason(error)) from error
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return ImageFacts(size, orientation, digest, frames)


def count_frames(path: str | Path) -> int:
    """Number of frames of an animation, or of pages, of which only the first is used; 1 if the file
    is missing or not an image, which its reader reports.
    """
    if not Path(path).is_file():
        return 1
    try:
        with Image.open(path, formats=_formats()) as image:  # reads only the header
            return _frames(image)
    except Exception:  # Pillow's plugins raise many kinds
        return 1


def _frames(image: Image.Image) -> int:
    # The other frames of a phone's JPEG (MPO) are copies of the picture.
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def inspect_images(
    paths: Iterable[Path], workers: int = 4
) -> dict[Path, ImageFacts | UnreadableImage]:
    """Apply :func:`inspect_image` to many files in threads (Pillow releases the GIL), with a cache
    by file state, as a study reads the same files for each number of shots and seed.
    """

    def look(path: Path) -> ImageFacts | UnreadableImage:
        try:
            return _inspected(path, _state(path))
        except UnreadableImage as reason:
            return reason

    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(paths, pool.map(look, paths), strict=True))


@lru_cache(maxsize=2**16)
def _inspected(path: Path, state: tuple[int, int] | None) -> ImageFacts:
    return inspect_image(path)


def _state(path: Path) -> tuple[int, int] | None:
    """Size and modification time of a file; None if inspection must report a problem."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "it is over Pillow's limit of pixels"
    return str(error) or type(error).__name__
