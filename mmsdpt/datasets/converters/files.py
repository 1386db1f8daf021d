"""Read untrusted folders, and write files atomically."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from mmsdpt.datasets.image_files import IMAGE_SUFFIXES, OTHER_SUFFIXES, is_tool_folder
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError

from .report import ConversionReport

ImageMode = Literal["copy", "link", "in-place"]
MAX_LABEL_BYTES = 8 * 2**20
"""Maximum size of a label file in bytes; real ones have kilobytes."""

# VOC's segmentation masks have the same names as their images.
_MASK_FOLDERS = frozenset({"segmentationclass", "segmentationobject"})


class LabelRefused(Exception):
    """A label file is not read, for the reason in its message."""


def trusted_folder(root: str | Path | None, default: Path) -> Path:
    """Returns the folder that no path may leave: ``root`` resolved, or without one ``default``.

    Raises:
        InputError: if ``root`` is not a folder.
    """
    if root is None:
        return default
    if not Path(root).is_dir():
        raise InputError(f"--root {root} is not a folder; give the folder of the dataset.")
    return Path(root).resolve()


def find_inside(root: Path, path: Path) -> Path | None:
    """Returns ``path`` without ``..``, or None where it, or what it links to, leaves ``root`` or is
    no valid path. Links stay, as a label has the name of the link and not of what it leads to; but
    where a link outside leads into ``root``, the path inside is returned.

    Args:
        root: Resolved folder that must contain the path, which need not exist.
    """
    try:
        path = Path(os.path.normpath(path))
        target = path.resolve()
        target.exists()  # raises an error if the name is too long
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a loop of links
        return None
    if not target.is_relative_to(root):
        return None
    return path if path.is_relative_to(root) else target


def scan(
    folder: Path,
    root: Path,
    suffixes: Collection[str],
    report: ConversionReport,
    exclude: Path | None = None,
) -> list[Path]:
    """Lists the regular files with one of ``suffixes`` (any case) under ``folder``, sorted by path.

    Links that leave ``root`` are refused and counted; a linked folder is entered unless its files
    are listed under another name.

    Args:
        root: Resolved folder that no link may leave.
        suffixes: Lower-case suffixes, such as ``{".xml"}``.
        exclude: Folder to leave out, such as the output.
    """
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        report.add("folder_unreadable", Path(error.filename), error.strerror or "")

    top = folder.resolve()
    hint = "" if report.source_format == "voc" else ", see --root"  # voc2coco.py has no --root
    seen = {exclude}
    for current, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(current)
        enter = []
        for name in sorted(folders):
            path = here / name
            if is_tool_folder(name):
                report.add("hidden_file", path)
                continue
            if find_inside(root, path) is None:
                report.add("path_refused", path, f"link to a folder outside{hint}")
                continue
            target = path.resolve()
            known = path.is_symlink() and (target.is_relative_to(top) or top.is_relative_to(target))
            if name.lower() not in _MASK_FOLDERS and target not in seen and not known:
                enter.append(name)
                seen.add(target)
        folders[:] = enter
        for name in sorted(files):
            path = here / name
            if path.suffix.lower() in OTHER_SUFFIXES and suffixes >= IMAGE_SUFFIXES:
                report.add("image_other_format", path)
            if path.suffix.lower() not in suffixes:
                continue
            if name.startswith("."):
                report.add("hidden_file", path)
            elif find_inside(root, path) is None:
                report.add("path_refused", path, f"link to a file outside{hint}")
            elif path.is_file():
                found.append(path)
            else:
                report.add("path_refused", path, "a link to nothing, or no regular file")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_label(path: Path, limit: int = MAX_LABEL_BYTES) -> bytes:
    """Returns the content of a label file.

    Raises:
        LabelRefused: if it is not a regular file, is larger than ``limit`` bytes or cannot be read.
    """
    try:
        if not path.is_file():
            raise LabelRefused("not a regular file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise LabelRefused(error.strerror or "cannot be read") from error
    if len(content) > limit:
        raise LabelRefused(f"over {limit // 2**10} KiB")
    return content


def write_json(path: Path, data: Any) -> None:
    """Writes JSON atomically, in ASCII: file names may hold bytes that are not UTF-8."""
    write_atomically(path, json.dumps(data).encode() + b"\n")


def place_image(source: Path, target: Path, mode: ImageMode) -> None:
    """Puts an image at ``target`` as a copy or a symbolic link; ``in-place`` does nothing."""
    if mode == "in-place":
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)
