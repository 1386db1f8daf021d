"""Parse XML from untrusted files, and read the boxes in it."""

import codecs
import math
import re
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mmsdpt.utils.texts import encoding_of

from .common import Box
from .files import LabelRefused

_MAX_DEPTH = 32
# Python's codecs that are not for text; the time of some grows with the square of the length.
_NOT_OF_TEXTS = frozenset(
    """
    punycode idna unicode_escape raw_unicode_escape undefined charmap utf_7
    hex rot_13 uu bz2 zlib quopri base64
    """.split()
)
# Windows programs often write an extended encoding and declare the standard one.
_LARGER = dict(gb2312="gb18030", gbk="gb18030", shift_jis="cp932", euc_kr="cp949")


def parse_xml(content: bytes) -> Element:
    """Parses XML without entities; every ``<object>`` carries its line as the attribute ``line``.

    Raises:
        LabelRefused: if the file has a DOCTYPE, which can expand without limit or read other files,
            or is nested deeper than any real annotation.
        expat.ExpatError: if it is not well-formed XML.
    """
    parser = expat.ParserCreate("utf-8")  # the content is converted to UTF-8 first
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
    parser.Parse(_in_utf8(content), True)
    return builder.close()


def _in_utf8(content: bytes) -> bytes:
    """The content in UTF-8. Expat supports only few encodings, and none with several bytes per
    character, such as GBK or Shift-JIS.

    Raises:
        LabelRefused: if it is not in the encoding of its byte order mark or declaration.
    """
    encoding = encoding_of(content)
    if encoding == "utf-8":
        encoding = _declared(content)
    try:
        return content.decode(encoding).lstrip().encode()
    except UnicodeError as error:
        raise LabelRefused(f"it is not text in {encoding}, as it should be") from error


def _declared(content: bytes) -> str:
    found = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""", content[:200])
    if found is None:
        return "utf-8"
    try:
        name = codecs.lookup(found[1].decode()).name.replace("-", "_")
    except LookupError:
        name = ""
    if not name or name in _NOT_OF_TEXTS:
        raise LabelRefused(f"it declares the encoding {found[1].decode()}, which is not known")
    if name.startswith(("utf_16", "utf_32", "ascii")):
        return "utf-8"  # the declaration was readable, so it is not UTF-16 or UTF-32
    return _LARGER.get(name, name)


def read_number(node: Element, path: str) -> float | None:
    """Returns the finite number at ``path``, or None."""
    try:
        value = float(node.findtext(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def boxed_objects(tree: Element) -> list[Element]:
    """The <object> elements, one for each box: some tools write several <bndbox> into one."""
    found = []
    for node in tree.findall("object"):
        boxes = node.findall("bndbox")
        if len(boxes) < 2:
            found.append(node)
            continue
        others = [child for child in node if child.tag != "bndbox"]
        for box in boxes:
            single = Element(node.tag, node.attrib)
            single.extend([*others, box])
            found.append(single)
    return found


def box_corners(node: Element) -> Box | None:
    """The four numbers of <bndbox>."""
    found = [read_number(node, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = found
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return x1, y1, x2, y2


def rotated_corners(node: Element) -> list[float]:
    """Corners of roLabelImg's <robndbox>: x, y, x, y, ..."""
    found = [read_number(node, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")]
    if None in found:
        return []
    cx, cy, w, h, angle = (value for value in found if value is not None)
    cos, sin = math.cos(angle), math.sin(angle)
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    sides = [(w / 2 * a, h / 2 * b) for a, b in signs]
    return [c for x, y in sides for c in (cx + x * cos - y * sin, cy + x * sin + y * cos)]


def polygon_points(node: Element) -> list[float]:
    """Points of <polygon>, as <pt><x/><y/></pt> (LabelMe) or <x1/><y1/><x2/> ... (Roboflow)."""
    polygon = node.find("polygon")
    if polygon is None:
        return []
    places = [point for point in polygon if point.tag in ("pt", "point")]
    pairs = [(read_number(point, "x"), read_number(point, "y")) for point in places]
    number = 1
    while not places and polygon.find(f"x{number}") is not None:
        pairs.append((read_number(polygon, f"x{number}"), read_number(polygon, f"y{number}")))
        number += 1
    points = [value for pair in pairs for value in pair if value is not None]
    return points if len(points) == 2 * len(pairs) >= 6 else []
