"""Write an HTML page with thumbnails of the pictures in a folder."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment
from PIL import Image

from mmsdpt.utils.atomic import write_atomically

_PAGE = Path(__file__).resolve().parents[1] / "assets" / "contact_sheet.html"
_THUMBNAILS = "thumbnails"
_SIZE, _WIDE = 480, 1400


@dataclass(frozen=True)
class Entry:
    """One image of a contact sheet.

    Attributes:
        name: Its title.
        pictures: Its pictures by column, such as "before" and "after": files in the sheet's folder.
        note: A sentence below its name.
        weight: Entries with larger weights come first.
    """

    name: str
    pictures: Mapping[str, Path]
    note: str = ""
    weight: float = 0.0


def contact_sheet(
    entries: Sequence[Entry],
    folder: str | os.PathLike,
    title: str,
    paragraphs: Sequence[str] = (),
    wide: bool = False,
) -> Path:
    """Write ``index.html`` into a folder, with thumbnails in ``thumbnails/``.

    The page needs no network and no files outside the folder, so you can move or send the folder.

    Args:
        folder: Folder of the pictures.
        paragraphs: Text at the top of the page.
        wide: Whether each picture takes the full width of the page.

    Returns:
        The page.
    """
    folder = Path(folder)
    rows = []
    for entry in sorted(entries, key=lambda entry: -entry.weight):
        cells = []
        for column, path in entry.pictures.items():
            below = Path(path).relative_to(folder)
            thumbnail = folder / _THUMBNAILS / f"{below}.jpg"
            content = io.BytesIO()
            with Image.open(path) as picture:
                picture.thumbnail((_WIDE if wide else _SIZE,) * 2)
                picture.convert("RGB").save(content, "jpeg", quality=85)
                size = picture.size
            write_atomically(thumbnail, content.getvalue())
            links = [quote(p.as_posix()) for p in (below, thumbnail.relative_to(folder))]
            cells.append((column, *links, *size))
        rows.append((entry, cells))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_PAGE.read_text(encoding="utf-8"))
    path = folder / "index.html"
    page = template.render(title=title, paragraphs=paragraphs, rows=rows, wide=wide)
    write_atomically(path, page.encode())
    return path
