"""Finding image files in a folder, and telling whether one can be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp"}
)


@dataclass
class LeftOut:
    """Files that a reader does not use.

    Args:
        hidden: Number of files whose name, or folder's name, starts with a dot.
        other: Files that are no images by their suffix.
        unreadable: Pairs of path and reason.
    """

    hidden: int = 0
    other: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self, shown: int = 3) -> str:
        """Say what was left out, naming the first few; empty where nothing was."""
        parts = []
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        if self.other:
            parts.append(f"{len(self.other)} without an image's suffix ({_few(self.other, shown)})")
        if self.unreadable:
            named = [f"{path}: {reason}" for path, reason in self.unreadable[:shown]]
            more = ", ..." if len(self.unreadable) > shown else ""
            parts.append(f"{len(self.unreadable)} that cannot be read ({'; '.join(named)}{more})")
        return ", ".join(parts)


def _few(names: list[str], shown: int) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones and those of macOS archives out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(name for name in names if not name.startswith(".") and name != "__MACOSX")


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[str]:
    """Image files in ``folder`` and its subfolders.

    Args:
        folder: Where to look. Linked subfolders are not entered.
        left_out: Takes note of the other files.

    Returns:
        Paths relative to ``folder``, with ``/``, in the order of their parts.
    """
    left_out = LeftOut() if left_out is None else left_out
    found: list[tuple[str, ...]] = []
    for current, folders, files in os.walk(folder):
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            left_out.hidden += 1
        parts = Path(current).relative_to(folder).parts
        for name in files:
            if name.startswith("."):
                left_out.hidden += 1
            elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                found.append((*parts, name))
            else:
                left_out.other.append("/".join((*parts, name)))
    left_out.other.sort()
    return ["/".join(path) for path in sorted(found)]


def reason_unreadable(path: Path) -> str | None:
    """Why Pillow cannot decode the image, or None where it can.

    JPEG files are decoded at an eighth of their size: the whole file is read, in less time.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
    except FileNotFoundError:
        return "there is no such file"
    except Exception as error:  # Pillow's decoders raise many kinds; each means the same here
        return str(error) or type(error).__name__
    return None


def find_unreadable(root: Path, paths: Iterable[str], workers: int = 4) -> list[tuple[str, str]]:
    """Pairs of path and reason of the images that cannot be decoded.

    Args:
        root: Folder that the paths are relative to.
        paths: Image files.
        workers: Threads; Pillow decodes outside Python's lock.
    """
    paths = list(paths)
    with ThreadPoolExecutor(workers) as pool:
        reasons = pool.map(reason_unreadable, [root / path for path in paths])
        return [
            (path, reason)
            for path, reason in zip(paths, reasons, strict=True)
            if reason is not None
        ]
