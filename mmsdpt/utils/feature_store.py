"""Cache of features: in memory up to a limit, and in memory-mapped files of a folder.

A folder holds::

    <space>/about.json          in words, what the features are of
    <space>/<key>.safetensors   the tensors of one entry

A space is what its entries have in common: the frozen weights that computed them, and how. Files
are written atomically. Any number of processes may read and write: a writer holds ``.lock``, which
the system releases when its process ends for any reason.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import write_atomically
from .errors import InputError

Entry = tuple[Tensor, ...]
GB = 10**9
_FILES, _ABOUT, _SUFFIX = "*.safetensors", "about.json", ".unfinished"
_OPEN = 2048  # number of files that stay mapped


@dataclass(frozen=True)
class Space:
    """The common settings of features.

    Attributes:
        name: A digest of everything that they depend on, except the input.
        about: A readable description of it.
    """

    name: str
    about: Mapping[str, str] = field(default_factory=dict, compare=False)


class FeatureStore:
    """Features by space and key; a key is a digest of the input.

    Entries that do not fit are not kept. Only entries that the current run has not used are evicted
    for new ones, as it will request the others again.

    Args:
        memory_gb: Limit of the memory.
        folder: Folder to share features with other processes and runs; None: memory only.
        max_gb: Limit of the folder.
    """

    def __init__(
        self, memory_gb: float = 1.0, folder: str | os.PathLike | None = None, max_gb: float = 20.0
    ) -> None:
        self._room = int(memory_gb * GB)
        self._memory: OrderedDict[tuple[str, str], tuple[Entry, int]] = OrderedDict()
        self._run = 0
        self._told = False
        self.folder = _Folder(Path(folder), int(max_gb * GB)) if folder is not None else None

    def __deepcopy__(self, memo: dict) -> FeatureStore:
        return self  # copied hosts share the store

    def begin_run(self) -> None:
        """Mark the start of a run: entries of earlier runs may be evicted from now on."""
        self._run += 1
        if self.folder is not None:
            self.folder.began = _now()

    def get(self, space: Space, keys: Sequence[str]) -> list[Entry | None]:
        """The entries of keys, on the CPU and read-only; None for a missing one."""
        return [self._get(space, key) for key in keys]

    def _get(self, space: Space, key: str) -> Entry | None:
        place = (space.name, key)
        if place in self._memory:
            entry = self._memory[place][0]
            self._memory[place] = (entry, self._run)
            self._memory.move_to_end(place)
            return entry
        return None if self.folder is None else self.folder.get(space, key)

    def put(self, space: Space, entries: Mapping[str, Entry]) -> None:
        """Keep entries as far as there is room. Their tensors must be on the CPU, and unchanged."""
        kept = True
        for key, entry in entries.items():
            kept = self._take((space.name, key), entry) and kept
        if self.folder is not None:
            kept = self.folder.put(space, entries)
        if not kept and not self._told:
            self._told = True
            where = "memory (feature_cache.memory_gb)"
            if self.folder is not None:
                where = f"{self.folder.path} (feature_cache.max_gb)"
            print_log(
                f"Feature cache: {where} is full; the remaining features are recomputed each time",
                "current",
            )

    def _take(self, place: tuple[str, str], entry: Entry) -> bool:
        size = _size(entry)
        while self._room < size and self._memory:
            oldest = next(iter(self._memory))
            old, run = self._memory[oldest]
            if run == self._run:
                return False
            del self._memory[oldest]
            self._room += _size(old)
        if self._room < size:
            return False
        if place not in self._memory:
            self._memory[place] = (entry, self._run)
            self._room -= size
        return True


def _now() -> float:
    """The current time of the file system, whose clock is some milliseconds behind."""
    return time.time() - 0.1


def _size(entry: Entry) -> int:
    return sum(part.nbytes for part in entry)


class _Folder:
    """The files of a folder.

    Attributes:
        began: Files used after this time are not evicted.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes, self.began = path, max_bytes, _now()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"feature_cache.folder={path} cannot be created: {error.strerror}"
            ) from error
        self._lock = FileLock(path / ".lock")
        self._open: OrderedDict[Path, tuple[Entry, float]] = OrderedDict()  # and its last use
        self._broken = False

    def get(self, space: Space, key: str) -> Entry | None:
        path = self._path(space, key)
        entry, used = self._open.pop(path, (None, -1.0))
        try:
            if used < self.began:
                with suppress(OSError):  # the folder may be read-only, or belong to others
                    os.utime(path)  # marks it as used: the least recently used are evicted first
                used = time.time()
            entry = entry or _read(path)
        except FileNotFoundError:  # never written, or evicted by another process
            return None
        except (OSError, SafetensorError, ValueError):  # damaged by a system crash
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        self._open[path] = entry, used
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return entry

    def put(self, space: Space, entries: Mapping[str, Entry]) -> bool:
        """Write entries; False if there is no space for them."""
        if self._broken:
            return False
        about = self.path / space.name / _ABOUT
        try:
            with self._lock:
                wanted = sum(map(_file_size, entries.values()))
                if not _make_room(self.path, self.max_bytes, self.began, wanted):
                    return False
                if not about.is_file():
                    write_atomically(about, json.dumps(dict(space.about), indent=1).encode())
                for key, entry in entries.items():
                    _write(self._path(space, key), entry)
        except (OSError, SafetensorError) as error:
            self._broken = True
            print_log(f"Feature cache: cannot write to {about.parent}: {error}", "current")
            return False
        return True

    def _path(self, space: Space, key: str) -> Path:
        return self.path / space.name / f"{key}.safetensors"


# ------------------------------------------------------------------------------- files of a folder


def _read(path: Path) -> Entry:
    """The entry in a file, mapped into memory.

    Raises:
        OSError, SafetensorError, ValueError: if it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        sums = json.loads((file.metadata() or {}).get("crc32", "[]"))
        entry = tuple(file.get_tensor(str(i)) for i in range(len(sums)))
    if not sums or [_crc32(part) for part in entry] != sums:
        raise ValueError(f"{path} is damaged")
    return entry


def _write(path: Path, entry: Entry) -> None:
    """Like :func:`write_atomically`, without waiting for the disk. Files damaged by a system crash
    are detected by their checksum and computed again.
    """
    temporary = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        sums = json.dumps([_crc32(part) for part in entry])
        save_file({str(i): part for i, part in enumerate(entry)}, temporary, {"crc32": sums})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _crc32(part: Tensor) -> int:
    flat = part.detach().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy()) if flat.numel() else 0


def _file_size(entry: Entry) -> int:
    """Upper bound of the file size of an entry."""
    return _size(entry) + 200 * len(entry) + 1000


def _spaces(folder: Path) -> Iterator[Path]:
    """Folders of spaces, which have an ``about.json``."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / _ABOUT).is_file() and not path.is_symlink():
            yield path


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Last use, size and path of the files of a space."""
    found = []
    for path in folder.glob(_FILES):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        found.append((facts.st_mtime, facts.st_size, path))
    return found


def _sweep(space: Path) -> None:
    """Remove temporary files of killed processes, ours and safetensors' own. The caller must hold
    the lock.
    """
    for path in space.glob(".*"):
        path.unlink(missing_ok=True)


def _make_room(folder: Path, most: int, began: float, wanted: int) -> bool:
    """Evict files until ``wanted`` bytes fit. The caller must hold the lock.

    Returns:
        Whether they fit.
    """
    found = []
    for space in _spaces(folder):
        _sweep(space)
        found += _files(space)
    excess = sum(size for _, size, _ in found) + wanted - most
    unused = [each for each in sorted(found) if each[0] < began]
    if excess > sum(size for _, size, _ in unused):
        return False
    for _, size, path in unused:
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
    return True


@dataclass(frozen=True)
class SpaceFacts:
    """Statistics of one space of a folder.

    Attributes:
        name: Name of the space.
        about: Description of its features.
        entries: Number of entries.
        size: Size in bytes.
        used: Time of the last use, in seconds since 1970.
    """

    name: str
    about: Mapping[str, Any]
    entries: int
    size: int
    used: float


def list_features(folder: str | os.PathLike) -> list[SpaceFacts]:
    """The spaces of a folder, the most recently used last.

    Raises:
        InputError: if there is no such folder.
    """
    facts = []
    for space in _spaces(_existing(folder)):
        files = _files(space)
        about = json.loads((space / _ABOUT).read_text(encoding="utf-8"))
        used = max((used for used, _, _ in files), default=0.0)
        size = sum(size for _, size, _ in files)
        facts.append(SpaceFacts(space.name, about, len(files), size, used))
    return sorted(facts, key=lambda each: each.used)


def clear_features(folder: str | os.PathLike, unused_days: float = 0.0) -> tuple[int, int]:
    """Remove features, and nothing else, from a folder. Later runs compute them again.

    Args:
        folder: Folder of the features.
        unused_days: Remove only files unused for this many days.

    Returns:
        Number of files and of bytes that were removed.

    Raises:
        InputError: if there is no such folder.
    """
    path, before = _existing(folder), time.time() - 86400 * unused_days
    count = size = 0
    with FileLock(path / ".lock"):
        for space in _spaces(path):
            _sweep(space)
            for used, its, file in _files(space):
                if used <= before:
                    file.unlink(missing_ok=True)
                    count, size = count + 1, size + its
            if [file.name for file in space.iterdir()] == [_ABOUT]:
                (space / _ABOUT).unlink()
                space.rmdir()
    return count, size


def _existing(folder: str | os.PathLike) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give the folder set as feature_cache.folder")
    return path
