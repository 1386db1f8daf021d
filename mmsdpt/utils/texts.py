"""Text from files of other people and systems."""

from __future__ import annotations

import codecs

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
