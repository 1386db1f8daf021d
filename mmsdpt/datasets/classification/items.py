"""Records of labelled images, and CoOp's ``split_zhou_*.json`` files of such records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mmsdpt.datasets.split_names import SPLITS, split_of
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import read_json


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image.

    Args:
        path: Image file, relative to the data root, with ``/`` between its parts.
        label: Index of the class, from 0.
        class_name: Name of the class as in the files, with underscores.
    """

    path: str
    label: int
    class_name: str


def inside(path: str, source: str) -> str:
    """Return ``path`` in normal form, with ``/`` between its parts and without ``./``, if it stays
    below the folder that it is relative to.

    Only the string is checked. Links that a user created below the data root may lead anywhere.

    Args:
        path: A path from a file.
        source: Where it was found, for the message.

    Raises:
        InputError: if it is empty, absolute, or climbs with ``..``.
    """
    bad = not path or "\0" in path
    for flavour in (PurePosixPath(path), PureWindowsPath(path)):
        bad = bad or bool(flavour.anchor) or ".." in flavour.parts
    if bad:
        raise InputError(
            f"{source} names the image {path!r}, which is not below the data root; use paths "
            "relative to it, without '..'"
        )
    return PurePosixPath(path.replace("\\", "/")).as_posix()


def join(*parts: str) -> str:
    """Join relative parts with ``/``, leaving out empty ones."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def read_split(file: str | Path, image_dir: str = "") -> dict[str, list[Item]]:
    """Read ``{"train"|"val"|"test": [[path, label, class name], ...]}``.

    Args:
        file: The JSON file; keys may be other usual names of splits, such as ``valid``.
        image_dir: Folder below the data root that the file's paths are relative to.

    Returns:
        Items of train, val and test in the order of the file; a missing split is empty.

    Raises:
        InputError: if the file is missing or malformed, or a path leaves the data root.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"the file {file} is missing")
    content = read_json(file)
    form = '{"train": [[path, label, class name], ...], "val": [...], "test": [...]}'
    if not isinstance(content, dict) or not any(map(split_of, content)):
        raise InputError(f"{file} has no key train, val or test; expected {form}")
    result: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for key, entries in content.items():
        split = split_of(key)
        if split is None or result[split]:
            raise InputError(
                f"{file} has the key {key!r} beside {', '.join(content)}; expected {form}"
            )
        if not isinstance(entries, list):
            raise InputError(f"{key} in {file} is not a list; expected {form}")
        result[split] = [_item(entry, file, image_dir, form) for entry in entries]
    return result


def _item(entry: object, file: Path, image_dir: str, form: str) -> Item:
    match entry:
        case [str(path), int(label), str(name)] if label >= 0 and not isinstance(label, bool):
            return Item(join(image_dir, inside(path, str(file))), label, name)
    raise InputError(f"{file} has the entry {entry!r:.200}; expected {form}")


def class_names(items: Iterable[Item], source: str) -> tuple[str, ...]:
    """The class names in the order of the labels.

    Args:
        items: Items of all splits.
        source: Where they come from, for the message.

    Raises:
        InputError: if a label has two names, or the labels are not 0 .. C - 1.
    """
    names: dict[int, str] = {}
    for item in items:
        if names.setdefault(item.label, item.class_name) != item.class_name:
            raise InputError(
                f"{source} has two names for label {item.label}, {names[item.label]!r} and "
                f"{item.class_name!r}; expected one name per label"
            )
    for expected in range(len(names)):
        if expected not in names:
            raise InputError(
                f"{source} has {len(names)} labels up to {max(names)} but no label {expected}; "
                "labels must be 0, 1, ... without gaps"
            )
    return tuple(names[label] for label in range(len(names)))
