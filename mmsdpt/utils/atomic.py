"""Writing files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

_SUFFIX = ".unfinished"


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` to ``path``: a temporary file beside it, fsync, rename.

    A process killed at any moment leaves the previous file, or none, under ``path``.

    Raises:
        OSError: with the file's name, if there is no room or no permission; the previous file is
            then as it was.
    """
    try:
        _write(Path(path), data)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; give the usual permissions of a new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove the temporary files that killed processes left in ``folder``; for a folder in which
    nobody writes now.
    """
    for path in Path(folder).glob(f".*{_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Hold ``run.lock`` in a folder, so that two runs do not write into it at once.

    The system drops the lock when its process ends, however it ends: a file that is left over locks
    nothing. It is a record lock, which child processes (a loader's workers) do not inherit; that is
    why this is not done by a library that uses ``flock``.

    Raises:
        InputError: if another process has it, with that process's id.
    """
    path = Path(folder) / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise InputError(
                f"another run (process {file.read(40).strip() or 'unknown'}) is writing to"
                f" {folder}: wait until it ends, or choose another folder with --work-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
