"""Text from files of other people and systems."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),  # what Windows calls Unicode
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(content: bytes) -> str:
    """The encoding that a byte order mark tells; UTF-8 without one."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")


def decode_text(content: bytes) -> str:
    """The text of a file, without a byte order mark and with ``\\n`` at the ends of lines.

    Raises:
        UnicodeDecodeError: if it is neither UTF-8 nor what its mark says.
    """
    text = content.decode(encoding_of(content))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def folded(name: str) -> str:
    """A file name as file systems of Windows and macOS compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def no_folder(path: str | Path) -> str:
    """Why there is no folder at a path, as the end of a sentence that begins with the path."""
    path = Path(path)
    if not path.exists():
        return "leads to nothing" if path.is_symlink() else "does not exist"
    if is_archive(path):
        return "is an archive: unpack it, and name the folder"
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
    """What the content of a file of another name is, and the way out; empty for a usual one.

    Args:
        start: The first 300 bytes or more.
    """
    text = start[:300].lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "an HTML page, as a failed download leaves it: fetch the file again"
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: fetch the file itself with git lfs pull"
    if not start:
        return "empty: fetch the file again"
    return "an archive: unpack it first" if _is_archive(start) else ""
