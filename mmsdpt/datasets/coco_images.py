"""Checks of the images of a COCO file: paths, readability and sizes."""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import unquote

from mmsdpt.utils.texts import folded

from .coco_report import CocoReport
from .image_files import IMAGE_FOLDERS, IMAGE_SUFFIXES, ImageFacts, UnreadableImage, inspect_images
from .split_names import share_split

_SAME_SIZE = 2  # tolerance in pixels, for rounding by the tool that resized
_IMAGE_FOLDERS = frozenset(map(folded, IMAGE_FOLDERS))
_NOT_TAKEN = "files of the same name in other folders, or matching several entries, are not used"


class _Match(NamedTuple):
    """A file whose path matches the end of a name, and the differing folders in front of it."""

    path: str  # relative to the folder
    end: str
    dropped: tuple[str, ...]  # of the name
    added: tuple[str, ...]  # of the file
    absolute: bool  # whether the name begins with a root, a drive or a URL scheme

    @property
    def lies_deeper(self) -> bool:
        """Whether the folders in front are the same, up to further ones on one side."""
        shared = os.path.commonprefix([self.dropped, self.added])
        return len(shared) in (len(self.dropped), len(self.added))

    @property
    def move(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Which folders took the place of which."""
        return self.dropped, self.added

    @property
    def tells_move(self) -> bool:
        """Whether it speaks for its move alone: a folder is the same, or all in another order."""
        return "/" in self.end or self._reordered

    @property
    def may_move(self) -> bool:
        """Whether no part of a data set took the place of another, as siteB that of siteA: the
        folders are in another order, or one side is another machine's or only says "images".
        """
        only_images = any(_IMAGE_FOLDERS.issuperset(side) for side in self.move)
        allowed = self.absolute or self._reordered or ("/" in self.end and only_images)
        files = (PurePath(*folders, "_") for folders in self.move)
        return allowed and not self._numbered_apart and share_split(*files)

    @property
    def _reordered(self) -> bool:
        return sorted(self.dropped) == sorted(self.added)

    @property
    def _numbered_apart(self) -> bool:
        """Whether the last folders in front differ in their numbers alone: cam1 and cam2."""
        last = {folder for side in self.move for folder in side[-1:]}
        return len(last) == 2 and len({re.sub(r"\d+", "0", folder) for folder in last}) == 1


class _Finder:
    """Finds files despite other spellings: backslashes, folders of another machine, case, percent
    encoding, Unicode forms.

    Args:
        folder: Folder that the names are relative to.
        exclude: Folder in it to leave out, such as an earlier result.
    """

    def __init__(self, folder: Path, exclude: Path | None) -> None:
        self.folder, self.exclude = folder, exclude
        self._paths: dict[str, list[Path]] | None = None

    def __call__(self, names: Iterable[str]) -> dict[str, str]:
        """Names to names relative to the folder under which the files are there. A file that one
        name has as it stands, or that two could mean, is not taken for another one; nor is one in
        another folder, cam2/000.jpg for cam1/000.jpg, unless all names have moved alike, and from
        folders that do not tell parts of the data set apart.
        """
        asked = dict.fromkeys(names)
        found = {name: path for name in asked if (path := self._as_it_stands(name)) is not None}
        matches = {name: self._elsewhere(name) for name in asked if name not in found}
        others = {name: match for name, match in matches.items() if match is not None}
        # Moves that contradict each other, or names that stand, show that folders tell files apart.
        moves = {match.move for match in others.values() if match.tells_move}
        moves |= {((), ()) for path in found.values() if "/" in path}
        alike = Counter(match.move for match in others.values())
        moves |= {move for move, count in alike.items() if count == len(asked) > 1}
        others = {
            name: match
            for name, match in others.items()
            if match.lies_deeper or (moves == {match.move} and match.may_move)
        }
        paths = [*found.values(), *(match.path for match in others.values())]
        wanted = Counter(os.path.normpath(self.folder / path) for path in paths)
        for name, match in others.items():
            if wanted[os.path.normpath(self.folder / match.path)] == 1:
                found[name] = match.path
        return found

    def named_otherwise(self, name: str) -> str | None:
        """The only file that differs from a name in its suffix. It may be another picture, such as
        a mask, so it is told and not used.
        """
        path = PurePath(unquote(name).strip().replace("\\", "/"))
        stem = path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path
        others = {folded(f"{stem}{suffix}") for suffix in IMAGE_SUFFIXES} - {folded(str(path))}
        found = [each for other in others for each in self._known().get(other, ())]
        return found[0].relative_to(self.folder).as_posix() if len(found) == 1 else None

    def _as_it_stands(self, name: str) -> str | None:
        name = name if os.path.exists(self.folder / name) else name.strip()
        for variant in dict.fromkeys((name, name.replace("\\", "/"), unquote(name))):
            if os.path.exists(self.folder / variant):
                return variant
        return None

    def _elsewhere(self, name: str) -> _Match | None:
        """The unique file that matches the longest possible end of a name."""
        name = unquote(name).strip().replace("\\", "/")
        absolute = re.match(r"([a-z]\w*:)?/", name, re.IGNORECASE) is not None
        parts = [folded(part) for part in name.split("/") if part not in "..."]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            if len(found := self._known().get(end, [])) == 1:
                path = found[0].relative_to(self.folder)
                added = path.parts[: len(path.parts) - len(parts) + start]
                dropped, added = tuple(parts[:start]), tuple(map(folded, added))
                return _Match(path.as_posix(), end, dropped, added, absolute)
        return None

    def _known(self) -> dict[str, list[Path]]:
        """Files below the folder by each end of their paths."""
        if self._paths is None:
            self._paths = defaultdict(list)
            for current, folders, files in os.walk(self.folder):
                folders[:] = [each for each in folders if Path(current, each) != self.exclude]
                for file in files:
                    path = Path(current, file)
                    parts = path.relative_to(self.folder).parts
                    for start in range(len(parts)):
                        self._paths[folded("/".join(parts[start:]))].append(path)
        return self._paths


def check_images(
    report: CocoReport,
    content: dict,
    folder: Path,
    most: int,
    leave_out_missing: bool,
    exclude: Path | None = None,
) -> None:
    """Find the image files, decode them, and compare their sizes."""
    images = []
    finder = _Finder(folder, exclude)
    found_names = finder(image["file_name"] for image in content["images"])
    used = set(found_names.values())
    seen: dict[str, Any] = {}
    for image in content["images"]:
        name = found_names.get(image["file_name"])
        if name is not None:
            images.append(image)
        else:
            missing = image["file_name"]
            other = finder.named_otherwise(missing)
            if other is not None and other not in used:
                missing += f", but {other} is there"
            if leave_out_missing:
                report.leave_out("image_missing", "images that are missing", missing)
                continue
            report.add(
                "errors",
                f"images are missing below {folder} ({_NOT_TAKEN}); put them there, correct"
                " data_prefix, or leave them out with tools/dataset_converters/coco2coco.py",
                missing,
            )
            continue
        if name != image["file_name"]:
            report.add(
                "filled", "file names that are spelt differently on disk", image["file_name"]
            )
            image["file_name"] = name
        if seen.setdefault(name, image["id"]) != image["id"]:
            what = "images listed under two ids, each with only its own boxes"
            report.add("doubtful", what, name)
    if not images and not report.errors:
        what = f"none of its images is below {folder} ({_NOT_TAKEN}); --root names another folder"
        report.add("errors", what)
    if report.errors:
        return
    step = max(1, math.ceil(len(images) / most)) if most else len(images) + 1
    chosen = images[::step] if most else []
    unknown = [image for image in images if not image["width"] or not image["height"]]
    paths = {id(image): folder / image["file_name"] for image in [*chosen, *unknown]}
    found = inspect_images(paths.values())
    broken: set[int] = set()
    for image in images:
        facts = found.get(paths.get(id(image), Path()))
        if isinstance(facts, UnreadableImage):
            what = f"{image['file_name']}: {facts}"
            report.leave_out("image_unreadable", "images that cannot be read", what)
            broken.add(id(image))
        elif facts is not None:
            report.facts[folder / image["file_name"]] = facts
            if facts.frames > 1:
                what = "images of several frames or pages, of which only the first is used"
                report.add("doubtful", what, f"{image['file_name']}: {facts.frames}")
            _size(report, image, facts)
    content["images"] = [image for image in images if id(image) not in broken]
    if images and not content["images"]:
        report.add("errors", "none of its images can be read", str(paths[id(images[0])]))


def _size(report: CocoReport, image: dict, facts: ImageFacts) -> None:
    """Compare the size of an image with what the file says."""
    name, told, found = image["file_name"], (image["width"], image["height"]), facts.displayed
    if 0 in told:
        report.add("filled", "images without width and height", name)
    elif max(abs(a - b) for a, b in zip(told, found, strict=True)) <= _SAME_SIZE:
        report.changed |= told != found
    elif told == facts.size:
        report.add(
            "errors",
            "boxes were drawn on images that the EXIF orientation turns for display; save the "
            "images turned, without orientation, and turn their boxes with them",
            name,
        )
    else:
        report.add(
            "errors",
            "images have another size than the boxes were drawn on; use the images that the file "
            "was made for",
            f"{name}: {told[0]}x{told[1]} in the file, {found[0]}x{found[1]} on disk",
        )
    if facts.orientation != 1 and (0 in told or facts.size == found):
        what = "images that the EXIF orientation turns, taken as turned before boxes were drawn"
        report.add("filled", what, name)
    image["width"], image["height"] = found
