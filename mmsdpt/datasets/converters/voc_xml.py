"""Parsing XML from files that nobody vouches for."""

import math
import re
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from .files import LabelRefused

_MAX_DEPTH = 32


def parse_xml(content: bytes) -> Element:
    """Parses XML without entities; every ``<object>`` carries its line as the attribute ``line``.

    Raises:
        LabelRefused: If the file has a DOCTYPE, the door of entity bombs and of files read from
            elsewhere, or is nested beyond any real annotation.
        expat.ExpatError: If it is no well-formed XML.
    """
    content, encoding = _in_utf8(content)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    builder = TreeBuilder()

    depth = 0

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise LabelRefused(f"it is nested over {_MAX_DEPTH} deep")
        builder.start(tag, {"line": str(parser.CurrentLineNumber)} if tag == "object" else {})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> NoReturn:
        raise LabelRefused("it has a DOCTYPE")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.Parse(content, True)
    return builder.close()


def _in_utf8(content: bytes) -> tuple[bytes, str | None]:
    """The content in an encoding that expat knows, and which one to take whatever the file
    declares; expat itself knows no encoding of more bytes per character, such as GBK or Shift-JIS.
    """
    declared = re.match(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""", content[:200])
    if declared is None or declared[1].lower().startswith((b"utf", b"us-ascii", b"iso-8859-1")):
        return content, None
    encoding = declared[1].decode()
    try:
        return content.decode(encoding).encode(), "utf-8"
    except LookupError as error:
        raise LabelRefused(f"it declares the encoding {encoding}, which is not known") from error
    except UnicodeError as error:
        raise LabelRefused(f"it is not in {encoding}, the encoding that it declares") from error


def read_number(node: Element, path: str) -> float | None:
    """Returns the finite number at ``path``, or None."""
    try:
        value = float(node.findtext(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
