"""Find image files in a folder, and check whether they can be read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from mmengine.logging import print_log

from mmsdpt.datasets.image_files import (
    IMAGE_SUFFIXES,
    UnreadableImage,
    inspect_images,
    is_tool_folder,
)
from mmsdpt.utils.errors import InputError, listed, printable


@dataclass
class LeftOut:
    """Files that a reader skips.

    Args:
        hidden: Number of hidden files, and of folders that are hidden or belong to a tool.
        other: Files without an image suffix.
        unreadable: Pairs of path and reason.
    """

    hidden: int = 0
    other: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self, shown: int = 3) -> str:
        """Describe the skipped files, naming the first few; empty if there are none."""
        parts = []
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        if self.other:
            named = listed(map(printable, self.other), shown)
            parts.append(f"{len(self.other)} without an image's suffix ({named})")
        if self.unreadable:
            each = (f"{printable(path)}: {printable(why)}" for path, why in self.unreadable)
            named = listed(each, shown, "; ")
            parts.append(f"{len(self.unreadable)} that cannot be read ({named})")
        return ", ".join(parts)


def _cannot_list(error: OSError) -> NoReturn:
    raise InputError(
        f"the folder {error.filename} cannot be read ({error.strerror}); its images would be"
        " missing: change its permissions or remove it"
    ) from error


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in ``folder``, without hidden ones and those of tools.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _cannot_list(error)
    return sorted(name for name in names if not is_tool_folder(name))


def has_images(folder: Path) -> bool:
    """Whether the folder directly contains images."""
    with os.scandir(folder) as entries:
        return any(
            os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
            and not entry.name.startswith(".")
            for entry in entries
        )


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[str]:
    """Image files in ``folder`` and its subfolders.

    Args:
        folder: Where to look. Linked subfolders are not entered.
        left_out: Records the other files.

    Returns:
        Paths relative to ``folder``, with ``/``, sorted by their parts.

    Raises:
        InputError: if a folder cannot be read.
    """
    left_out = LeftOut() if left_out is None else left_out
    found: list[tuple[str, ...]] = []
    for current, folders, files in os.walk(folder, onerror=_cannot_list):
        for name in [name for name in folders if is_tool_folder(name)]:
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


def images_to_predict(folder: str | os.PathLike) -> list[str]:
    """Image files to predict in a folder, as :func:`find_images`. Other files, such as HEIC, are
    named in a warning.

    Raises:
        InputError: if a folder cannot be read, or has no images.
    """
    left_out = LeftOut()
    found = find_images(Path(folder), left_out)
    sentence = f"left out {left_out.sentence()}" if left_out.other else ""
    if not found:
        reason = f" ({sentence}): convert them to JPEG or PNG" if sentence else ""
        raise InputError(f"the folder {printable(folder)} has no images{reason}")
    if sentence:
        print_log(f"{printable(folder)}: {sentence}", "current", logging.WARNING)
    return found


def find_unreadable(root: Path, paths: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of path and reason of the images that cannot be decoded.

    Args:
        root: Folder that the paths are relative to.
        paths: Image files.
    """
    paths = list(paths)
    found = inspect_images(root / path for path in paths)
    return [
        (path, str(found[root / path]))
        for path in paths
        if isinstance(found[root / path], UnreadableImage)
    ]


def find_animations(root: Path, paths: Iterable[str]) -> list[str]:
    """The ``paths`` with several frames or pages."""
    paths = list(paths)
    found = inspect_images(root / path for path in paths)
    frames = {path: getattr(found[root / path], "frames", 1) for path in paths}
    return [f"{path}: {number}" for path, number in frames.items() if number > 1]


def find_copies(root: Path, paths: Iterable[str], others: Iterable[str]) -> list[str]:
    """The ``paths`` whose content equals that of one of ``others``, byte for byte."""

    def sizes(names: Iterable[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name in names:
            if (root / name).is_file():
                found.setdefault((root / name).stat().st_size, []).append(name)
        return found

    def digest(name: str) -> bytes:
        return hashlib.blake2b((root / name).read_bytes()).digest()

    other_sizes, copies = sizes(others), []
    for size, names in sizes(paths).items():
        digests = {digest(name) for name in other_sizes.get(size, [])}
        copies += [name for name in names if digests and digest(name) in digests]
    return copies
