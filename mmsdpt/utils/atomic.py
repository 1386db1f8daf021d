"""Write files atomically: a reader sees the old or the new content, never a part."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

_SUFFIX = ".unfinished"


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` to ``path``: a temporary file beside it, fsync, rename.

    A process killed at any moment leaves the previous file, or none, under ``path``.

    Raises:
        OSError: with the file's name, if the disk is full or permission is missing; the previous
            file is then unchanged.
    """
    with naming(path):
        _write(Path(path), data)


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Give disk errors the name of the file to write; the system names the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: str | os.PathLike) -> None:
    """Check before the work that the result file can be written.

    Raises:
        OSError: with the file's name, if it cannot.
    """
    path = Path(path)
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
        os.close(handle)
        os.unlink(temporary)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; set the usual permissions of a new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # saves the rename itself
    finally:
        os.close(directory)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove the temporary files and folders that killed processes left in ``folder``. No other
    process may be writing there.
    """
    for path in Path(folder).glob(f".*{_SUFFIX}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def staged(folder: str | os.PathLike, last: str) -> Iterator[Path]:
    """A temporary folder whose files move into ``folder`` when the block ends. After an error they
    are removed, with any folders created for them. Existing files stay, or are replaced by files of
    the same name.

    Args:
        folder: Destination of the files.
        last: The part of it that is moved last, because it makes the result valid.

    Raises:
        OSError: with the folder's name, if the disk is full or permission is missing.
    """
    folder = Path(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    stage = folder / f".{_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        stage = Path(tempfile.mkdtemp(_SUFFIX, ".", folder))
        yield stage
        files = [path for path in stage.rglob("*") if path.is_symlink() or path.is_file()]
        files = [path.relative_to(stage) for path in files]
        for name in sorted(files, key=lambda name: name.parts[0] == last):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, folder / name)
        shutil.rmtree(stage)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # it is not empty, or was never created
                each.rmdir()
        if isinstance(error, OSError) and _is_about(error, folder):
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether an error is about a file in ``folder``, also as the target of a copy."""
    name = error.filename2 or error.filename
    return isinstance(name, str) and Path(name).is_relative_to(folder)


@contextmanager
def lock_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Hold ``run.lock`` in a folder, so that no two runs write into it at once.

    The system releases the lock when the process ends for any reason, so a leftover file locks
    nothing. It is a record lock, which child processes (workers of a data loader) do not inherit,
    unlike ``flock`` in common libraries.

    Raises:
        InputError: if another process holds it, with that process's id.
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
