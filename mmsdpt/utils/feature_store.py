"""Where features are kept: in memory up to a bound, and in memory-mapped files of a folder.

A folder holds::

    <space>/about.json               in words, what the features are of
    <space>/<random>.safetensors     some entries, written at once

A space is what its entries have in common: the frozen weights that computed them, and how. Files
appear complete or not at all. Any number of processes may read and write: whoever writes holds
``.lock``, which the system drops when its process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

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
_OPEN = 512  # files that stay mapped


@dataclass(frozen=True)
class Space:
    """What features have in common.

    Attributes:
        name: A digest of all that they are computed with, but for the input.
        about: The same in words, for people.
    """

    name: str
    about: Mapping[str, str] = field(default_factory=dict, compare=False)


class FeatureStore:
    """Features by space and key; a key is a digest of the input.

    What does not fit is not kept. Entries that the present run has not used make room for new ones:
    evicting those that it will ask for again would help nobody.

    Args:
        memory_gb: Bound of what is held in memory.
        folder: Where everything is kept for other processes and runs; None: nowhere.
        max_gb: Bound of the folder.

    Attributes:
        notes: For those who use the store: what they remember of an object, as long as it lives.
    """

    def __init__(
        self, memory_gb: float = 1.0, folder: str | os.PathLike | None = None, max_gb: float = 20.0
    ) -> None:
        self._room = int(memory_gb * GB)
        self._memory: OrderedDict[tuple[str, str], tuple[Entry, int]] = OrderedDict()
        self._run = 0
        self._told = False
        self.notes: WeakKeyDictionary[Any, dict] = WeakKeyDictionary()
        self.folder = _Folder(Path(folder), int(max_gb * GB)) if folder is not None else None

    def __deepcopy__(self, memo: dict) -> FeatureStore:
        return self  # of a copied host, too

    def begin_run(self) -> None:
        """From here on what earlier runs have used makes room for what this one uses."""
        self._run += 1
        if self.folder is not None:
            self.folder.began = _now()

    def get(self, space: Space, keys: Sequence[str]) -> list[Entry | None]:
        """The entries of keys, on the CPU, not to be written to; None where there is none."""
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
        """Keep entries, as far as there is room; their tensors are on the CPU, and nobody's own."""
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
                f"Feature cache: there is no more room in {where}; the rest is computed each time",
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
    """The present as file systems date it, whose clocks are some milliseconds behind."""
    return time.time() - 0.1


def _size(entry: Entry) -> int:
    return sum(part.nbytes for part in entry)


class _Folder:
    """The files of a folder.

    Attributes:
        began: Files that were used later than this are not evicted.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes, self.began = path, max_bytes, _now()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"feature_cache.folder is {path}, which cannot be a folder: {error.strerror}"
            ) from error
        self._lock = FileLock(path / ".lock")
        self._where: dict[str, dict[str, Path]] = {}  # files by space and key
        self._seen: dict[str, int] = {}  # when the folder of a space was looked at
        self._files: OrderedDict[Path, _File] = OrderedDict()
        self._broken = False

    def get(self, space: Space, key: str) -> Entry | None:
        where = self._where.setdefault(space.name, {})
        if key not in where:
            self._look(space.name, where)
        while (path := where.get(key)) is not None:
            try:
                return self._file(path).get(key, self.began)
            except (OSError, SafetensorError, _Damaged) as error:
                # Evicted by another process, or damaged by a crash of the machine.
                if not isinstance(error, FileNotFoundError):
                    path.unlink(missing_ok=True)
                self._files.pop(path, None)
                for other in [other for other, its in where.items() if its == path]:
                    del where[other]
        return None

    def _file(self, path: Path) -> _File:
        if path not in self._files:
            self._files[path] = _File(path)
            if len(self._files) > _OPEN:
                self._files.popitem(last=False)
        self._files.move_to_end(path)
        return self._files[path]

    def _look(self, name: str, where: dict[str, Path]) -> None:
        """Read which entries are in files that were not there before."""
        folder = self.path / name
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if self._seen.get(name) == changed:
            return
        known = set(where.values())
        for path in folder.glob(_FILES):
            if path not in known:
                try:
                    where.update(dict.fromkeys(_keys(path), path))
                except (OSError, SafetensorError):
                    continue  # evicted in this moment, or damaged: nobody asks for it
        self._seen[name] = changed

    def put(self, space: Space, entries: Mapping[str, Entry]) -> bool:
        """Write entries into one file; False where there is no room for it."""
        if self._broken:
            return False
        folder = self.path / space.name
        path = folder / f"{uuid.uuid4().hex}.safetensors"
        try:
            with self._lock:
                if not _make_room(self.path, self.max_bytes, self.began, _bytes(entries)):
                    return False
                if not (folder / _ABOUT).is_file():
                    content = json.dumps(dict(space.about), indent=1)
                    write_atomically(folder / _ABOUT, content.encode())
                _write(path, entries)
        except (OSError, SafetensorError) as error:
            self._broken = True
            print_log(f"Feature cache: cannot write to {folder}: {error}", "current")
            return False
        self._where.setdefault(space.name, {}).update(dict.fromkeys(entries, path))
        return True


class _Damaged(Exception):
    """A file's content is not what was written."""


class _File:
    """A file of entries, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = safe_open(path, framework="pt")
        self._sums = json.loads((self._handle.metadata() or {}).get("crc32", "{}"))
        self._used = -1.0
        self._checked: set[str] = set()

    def get(self, key: str, began: float) -> Entry:
        """An entry; its content is checked when it is first read, as a check costs more than
        mapping it.
        """
        if self._used < began:
            os.utime(self.path)  # what is unused for longest goes first
            self._used = time.time()
        sums = self._sums.get(key, ())
        entry = tuple(self._handle.get_tensor(f"{key}.{i}") for i in range(len(sums)))
        if key not in self._checked:
            if not sums or [_crc32(part) for part in entry] != sums:
                raise _Damaged
            self._checked.add(key)
        return entry


def _crc32(part: Tensor) -> int:
    flat = part.detach().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy()) if flat.numel() else 0


# ------------------------------------------------------------------------------- files of a folder


def _bytes(entries: Mapping[str, Entry]) -> int:
    """Size of a file of entries, a little more than it will be."""
    parts = sum(len(entry) for entry in entries.values())
    return sum(map(_size, entries.values())) + 200 * parts + 1000


def _write(path: Path, entries: Mapping[str, Entry]) -> None:
    """As :func:`write_atomically`, without waiting for the disk: what a crash of the machine
    damages is found by its checksum, and computed again.
    """
    tensors = {f"{key}.{i}": part for key, entry in entries.items() for i, part in enumerate(entry)}
    sums = {key: [_crc32(part) for part in entry] for key, entry in entries.items()}
    temporary = path.with_name(f".{path.name}{_SUFFIX}")
    try:
        save_file(tensors, temporary, {"crc32": json.dumps(sums)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _keys(path: Path) -> set[str]:
    """The keys in a file.

    Raises:
        OSError: if it is not there.
        ValueError: if it is damaged.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= os.fstat(file.fileno()).st_size - 8:
            raise ValueError(f"{path} is damaged")
        header = json.loads(file.read(length))
    return {name.rpartition(".")[0] for name in header if name != "__metadata__"}


def _spaces(folder: Path) -> Iterator[Path]:
    """Folders of spaces: those that say what they are of."""
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
    """Remove what killed processes left, ours and that of safetensors; for the one who holds the
    lock, so that nobody else writes.
    """
    for path in space.glob(".*"):
        path.unlink(missing_ok=True)


def _make_room(folder: Path, most: int, began: float, wanted: int) -> bool:
    """Evict until ``wanted`` bytes fit; for the one who holds the lock.

    Returns:
        Whether they do.
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
    """What a folder holds of one space.

    Attributes:
        name: Of the space.
        about: In words, what its features are of.
        entries: Their number.
        size: Bytes.
        used: When one was last used, in seconds since 1970.
    """

    name: str
    about: Mapping[str, Any]
    entries: int
    size: int
    used: float


def list_features(folder: str | os.PathLike) -> list[SpaceFacts]:
    """What a folder holds, the latest used last.

    Raises:
        InputError: if there is no such folder.
    """
    facts = []
    for space in _spaces(_existing(folder)):
        keys: set[str] = set()
        files = _files(space)
        for _, _, path in files:
            try:
                keys |= _keys(path)
            except (OSError, ValueError):
                continue
        about = json.loads((space / _ABOUT).read_text(encoding="utf-8"))
        used = max((used for used, _, _ in files), default=0.0)
        size = sum(size for _, size, _ in files)
        facts.append(SpaceFacts(space.name, about, len(keys), size, used))
    return sorted(facts, key=lambda each: each.used)


def clear_features(folder: str | os.PathLike, unused_days: float = 0.0) -> tuple[int, int]:
    """Remove features; nothing else in the folder is touched. Runs that use them compute again.

    Args:
        folder: Of the features.
        unused_days: Only files that were not used for so long.

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
            if not _files(space):
                (space / _ABOUT).unlink(missing_ok=True)
                _remove_empty(space)
    return count, size


def _remove_empty(space: Path) -> None:
    if not any(space.iterdir()):
        space.rmdir()


def _existing(folder: str | os.PathLike) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: name the one that feature_cache.folder names")
    return path
