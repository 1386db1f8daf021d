"""Read text files of other people and systems."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError

_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")


def encoding_of(content: bytes) -> str:
    """The encoding by the byte order mark, or by null bytes in the first four; else UTF-8."""
    return json.detect_encoding(content)


def decode_text(content: bytes) -> str:
    """Decode a text file, without a byte order mark and with ``\\n`` as line ends.

    Raises:
        InputError: if it is neither UTF-8 nor in the encoding of its byte order mark.
    """
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"it is not text in {encoding.upper()}, see byte {error.start}; save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(content: bytes) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: if it is not JSON, or an object has a key twice, so that its value is ambiguous.
    """

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        for key, value in pairs if len(found) < len(pairs) else ():
            if found[key] != value:
                raise ValueError(f"an object has the key {key!r} twice")
        return found

    if what := disguise(content):
        raise InputError(f"this is not a JSON file: it is {what}")
    try:
        return json.loads(decode_text(content), object_pairs_hook=once)
    except RecursionError as error:
        raise InputError("this is not a JSON file (it is nested too deeply)") from error
    except ValueError as error:
        raise InputError(f"this is not a JSON file ({error})") from error


def read_json(path: str | Path) -> Any:
    """Read a file with :func:`parse_json`.

    Raises:
        InputError: with the path, if it cannot be read.
    """
    try:
        return parse_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def folded(name: str) -> str:
    """A file name in the form that file systems of Windows and macOS compare."""
    return unicodedata.normalize("NFC", name).casefold()


def no_folder(path: str | Path) -> str:
    """Why a path is not a folder, as the end of a message that begins with the path."""
    path = Path(path)
    if not path.exists():
        return "is a broken link" if path.is_symlink() else "does not exist"
    if is_archive(path):
        return "is an archive: unpack it and give the folder"
    return "is a file, not a folder"


def is_archive(path: str | Path) -> bool:
    """Whether a file is a ZIP or another archive, by its first bytes."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _is_archive(file.read(300))


def _is_archive(start: bytes) -> bool:
    return start.startswith(_ARCHIVES) or start[257:262] == b"ustar"


def disguise(start: bytes) -> str:
    """Detect files with unexpected content, and what to do; empty if nothing is detected.

    Args:
        start: The first 300 bytes or more.
    """
    text = start[:300].lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "an HTML page, probably from a failed download: download the file again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: get the file itself with git lfs pull"
    if not start:
        return "empty: download the file again"
    return "an archive: unpack it first" if _is_archive(start) else ""
