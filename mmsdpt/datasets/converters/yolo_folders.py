"""The data file of a YOLO dataset (data.yaml, obj.data or classes.txt), and the files that it
names.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from mmsdpt.datasets.image_files import IMAGE_FOLDERS, IMAGE_SUFFIXES, is_tool_folder
from mmsdpt.datasets.split_names import split_in, split_of, splits_of_folders
from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text, disguise

from .files import LabelRefused, find_inside, read_label, scan
from .report import ConversionReport

_NAME_FILES = (
    *("classes.txt", "obj.names", "classes.names", "predefined_classes.txt", "names.txt"),
    "_darknet.labels",
)
_LABEL_FOLDERS = ("labels", "Labels", "LABELS", "label", "txt")
_NO_LABELS = ("classes.txt", "notes.txt", "readme")
"""Beginnings of the names of what labelling tools put beside the labels."""
_MAX_YAML_BYTES = 2**18
"""Ten times LVIS's 1,203 names. Parsing takes seconds per MiB."""
_MAX_DEPTH = 100
_NULLS = ("", "~", "null", "Null", "NULL")  # YAML's ways to give no value


def find_data_file(folder: Path) -> Path:
    """The file that describes the data set in a folder, or in the one folder inside it that has
    such a file: archives often unpack to a folder of their own name.

    Raises:
        InputError: if there is none, or several.
    """
    found = _data_files(folder) or [
        path for inner in _folders(folder) for path in _data_files(inner)
    ]
    if len(found) > 1 and all(path.name == "_darknet.labels" for path in found):
        found = found[:1]  # Roboflow writes the same file into each split's folder
    if len(found) != 1:
        told = ", ".join(path.relative_to(folder).as_posix() for path in found) or "none of these"
        raise InputError(
            f"{folder} must hold one data.yaml (Ultralytics, Roboflow), obj.data (CVAT) or"
            f" classes.txt (Label Studio, labelImg); found {told}."
        )
    return found[0]


def _data_files(folder: Path) -> list[Path]:
    here = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path for path in here if path.name.lower() == "data.yaml"] or [
        path for path in here if path.suffix.lower() in (".yaml", ".yml")
    ]
    found = found or [path for path in here if path.suffix.lower() == ".data"]
    if not found:
        found = [path for path in here if path.name.lower() in _NAME_FILES][:1]
        # labelImg writes classes.txt into the folder of the labels
        for inner in _LABEL_FOLDERS:
            found = found or [path for n in _NAME_FILES if (path := folder / inner / n).is_file()]
    return found


def names_of_a_part(source: Path) -> bool:
    """Whether a list of class names lies in the folder of labels or of one split."""
    folder = source.resolve().parent.name
    in_labels = folder in _LABEL_FOLDERS and source.suffix.lower() == ".txt"
    return in_labels or (source.name == "_darknet.labels" and split_of(folder) is not None)


def read_data_file(source: Path) -> dict[str, Any]:
    """Reads data.yaml, or obj.data or a list of class names in its form. Every value is text:
    ``no`` and ``1`` are class names. Keys without a value (``test: null``) are left out.

    Raises:
        InputError: if it cannot be read, is no mapping or too large.
    """
    suffix = source.suffix.lower()
    if suffix in (".txt", ".names", ".labels"):
        return {"names": _class_list(source)}
    if suffix == ".data":
        pairs = (line.partition("=") for line in _lines(source) if not line.startswith("#"))
        data = {key.strip(): value.strip() for key, _, value in pairs}
        return {("nc" if key == "classes" else key): value for key, value in data.items()}
    try:
        content = read_label(source, _MAX_YAML_BYTES)
        if what := disguise(content):
            raise ValueError(f"it is {what}")
        text = decode_text(content)
        _refuse_deep(text)
        _refuse_twice(text)
        data = yaml.load(text, Loader=yaml.BaseLoader)  # creates only text, lists and mappings
    except (LabelRefused, RecursionError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{source} cannot be read as YAML: {reason}.") from error
    if not isinstance(data, dict):
        raise InputError(f"{source} is not a mapping; expected the keys names, train and val.")
    return {key: value for key, value in data.items() if value not in _NULLS}


def _refuse_deep(text: str) -> None:
    """Refuse deeply nested brackets, because PyYAML's time grows with the square of the depth.

    Raises:
        ValueError: if they are nested more deeply than in any real data set.
    """
    depth = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if sign in "[{" else max(0, depth - 1)
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested over {_MAX_DEPTH} deep")


def _refuse_twice(text: str) -> None:
    """Refuse a repeated key, because PyYAML uses its last value and other programs the first.

    Raises:
        ValueError: if a key is repeated.
    """
    keys = Counter(re.findall(r"^([\w-]+)\s*:", text, re.MULTILINE))
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise ValueError(f"it has the key {twice[0]} twice")


def _lines(path: Path, keep_empty: bool = False) -> list[str]:
    """The lines of a text file, stripped, without empty ones. With ``keep_empty``, only empty lines
    at the end are left out.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        text = decode_text(read_label(path))
    except (LabelRefused, InputError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    return [line.strip() for line in text.rstrip().split("\n") if keep_empty or line.strip()]


def _class_list(path: Path) -> list[str]:
    """The names in a file, one per line, perhaps after a number: ``0 cat`` or ``0: cat``.

    Raises:
        InputError: if it cannot be read, or has empty lines or comments, which programs count
            differently.
    """
    lines = _lines(path, keep_empty=True)
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            raise InputError(
                f"line {number} of {path} is {'empty' if not line else repr(line)}, so that the"
                " numbers of the classes after it are not certain; remove it, or name the class."
            )
    numbered = [re.fullmatch(r"(\d+)[\s:]\s*(\S.*)", line) for line in lines]
    if [match and int(match[1]) for match in numbered] == list(range(len(lines))):
        return [match[2] for match in numbered if match]
    return lines


def class_names(data: dict[str, Any], source: Path, report: ConversionReport) -> dict[int, str]:
    """Returns class number to name from ``names``: a list, a mapping, or a file of lines."""
    names = data.get("names")
    if isinstance(names, str):
        files = [source.parent / part for part in (names, Path(names).name)]
        found = [path for path in files if find_inside(source.resolve().parent, path)]
        names = next((_class_list(path) for path in found if path.is_file()), None)
    if isinstance(names, list):
        names = dict(enumerate(names))
    result: dict[int, str] = {}
    for number, name in names.items() if isinstance(names, dict) else ():
        if not isinstance(name, str) or not str(number).isdecimal() or not name.strip():
            raise InputError(
                f"names in {source} must be a list of class names or map numbers to class names."
            )
        result[int(number)] = one_form(name)
    if not result:
        raise InputError(f"{source} has no class names; add a line such as 'names: [cat, dog]'.")
    if len(set(result.values())) != len(result):
        raise InputError(f"names in {source} repeats a class name; give every class its own.")
    if "nc" in data and data["nc"] != str(len(result)):
        report.add("nc_differs", source.name, f"nc differs from {len(result)} names")
    return dict(sorted(result.items()))


class DatasetFolders:
    """Finds images and label files, never outside ``top``."""

    def __init__(
        self,
        here: Path,
        top: Path,
        data: dict[str, Any],
        exclude: Path | None,
        report: ConversionReport,
        short_paths: bool = False,
    ) -> None:
        self.top, self.data, self.exclude, self.report = top, data, exclude, report
        self.short_paths = short_paths  # CVAT writes data/train.txt for train.txt
        self.bases = [here, top]
        path = data.get("path")
        if isinstance(path, str) and path.strip():
            base = self._find(path, self.bases, "data.yaml path", refused="path_unused")
            if base is not None:
                self.bases.insert(0, base)
        self.image_folders: set[Path] = set()
        self.lists: set[Path] = set()
        self.names_splits = any(value for key, value in data.items() if split_of(str(key)))
        self.split_parents: set[Path] = set()
        # For each folder, the splits of its subfolders by words in their names, computed once.
        self.by_words: dict[Path, dict[Path, str | None]] = {}

    def images(self, split: str) -> list[Path]:
        """Returns the images of a split, without repeats, in sorted order per entry."""
        keys = [key for key in self.data if split_of(str(key)) == split]
        key = keys[0] if keys else split
        entries = self.data.get(key)
        if not entries:
            return self._unnamed(split)
        entries = entries if isinstance(entries, list) else [entries]
        found: list[Path] = []
        for entry in entries:
            if not isinstance(entry, str):
                raise InputError(f"'{key}' in data.yaml must be a path or a list of paths.")
            path = self._find(entry, self.bases, f"data.yaml {key}", self.short_paths)
            where = f"data.yaml {key}"
            if path is None:
                self.report.add("split_missing", where, f"{entry} is not there")
                if self.report.counts.pop("path_unused", 0):  # that path was needed
                    self.report.add("path_refused", *self.report.named.pop("path_unused")[0])
                continue
            if not path.is_dir() and path.suffix.lower() != ".txt":
                why = f"{entry} is neither a folder nor a text file"
                self.report.add("split_missing", where, why)
                continue
            images = self._scan(path) if path.is_dir() else list(self._listed(path))
            if not images:
                empty = path.is_dir() or not _lines(path)
                why = f"{entry} has no image" if empty else f"no image that {entry} lists is there"
                self.report.add("split_missing", where, why)
            found += images
        unique: dict[Path, None] = {}
        for path in found:
            if path in unique:
                self.report.images_found += 1
                self.report.drop_image("image_listed_twice", path, split)
            unique[path] = None
        return list(unique)

    def label_files(self, texts: Sequence[Path]) -> list[Path]:
        """Returns the files out of ``texts`` that lie where labels were looked for."""
        sides = (label_side(folder, self.top) for folder in self.image_folders)
        folders = {Path(os.path.realpath(side)) for side in sides}
        lists = {path.resolve() for path in self.lists}
        return [
            path
            for path in texts
            if not folders.isdisjoint(path.parents)
            and path not in lists
            and not path.name.lower().startswith(_NO_LABELS)
        ]

    def everything(self) -> list[Path]:
        """All images, of data without splits."""
        found = self._scan(self.bases[0])
        self.report.add("no_split", self.bases[0].name)
        return found

    def _unnamed(self, split: str) -> list[Path]:
        for base in dict.fromkeys(self.bases):
            for part in (*(base / name for name in IMAGE_FOLDERS), base):
                found = []
                for folder in self._folders_of_split(part, split):
                    inner = folder / "images"
                    if find_inside(self.top, inner) is None:
                        continue
                    images = self._scan(inner if inner.is_dir() else folder)
                    if images:
                        self.report.add("split_from_folder", folder, split)
                    found += images
                if found:
                    self.split_parents.add(part)
                    return found
        return []

    def in_no_split(self, taken: Iterable[Path]) -> list[Path]:
        """The images beside the folders of splits that are not in ``taken``; none if the data file
        lists the images.
        """
        if self.names_splits:
            return []
        known = set(map(os.path.realpath, taken))
        unused = ConversionReport(self.top, "yolo")
        there = dict.fromkeys(
            path
            for parent in sorted(self.split_parents)
            for path in scan(parent, self.top, IMAGE_SUFFIXES, unused, self.exclude)
        )
        return [path for path in there if os.path.realpath(path) not in known]

    def _folders_of_split(self, part: Path, split: str) -> list[Path]:
        """The folders in ``part`` with the name of the split. If there is none and the data file
        names no split, those with a word for the split in their names, as far as such words are
        used.
        """
        inner = _folders(part) if part.is_dir() else []
        found = [path for path in inner if split_of(path.name) == split]
        if found or self.names_splits or all(split_in(path.name) != split for path in inner):
            return found
        if part not in self.by_words:
            unused = ConversionReport(self.top, "yolo")
            images = [scan(path, self.top, IMAGE_SUFFIXES, unused, self.exclude) for path in inner]
            inner = [path for path, there in zip(inner, images, strict=True) if there]
            splits = splits_of_folders([PurePath(path.name, "_") for path in inner])
            self.by_words[part] = dict(zip(inner, splits, strict=True))
        return [path for path, each in self.by_words[part].items() if each == split]

    def _scan(self, folder: Path) -> list[Path]:
        found = scan(folder, self.top, IMAGE_SUFFIXES, self.report, self.exclude)
        self.image_folders |= {folder, *(path.parent for path in found)}
        return found

    def _listed(self, path: Path) -> Iterator[Path]:
        self.lists.add(path)
        for number, line in enumerate(_lines(path), start=1):
            where = f"{self.report.name(path)}:{number}"
            # CVAT lists data/obj_train_data/a.jpg for obj_train_data/a.jpg.
            folders = [base / name for base in self.bases for name in IMAGE_FOLDERS]
            bases = [path.parent, *self.bases, *folders]
            image = self._find(line, bases, where, shorten=True)
            if image is None or not image.is_file() or image.suffix.lower() not in IMAGE_SUFFIXES:
                self.report.add("listed_absent", where, line.strip())
                continue
            self.image_folders.add(image.parent)
            yield image

    def _find(
        self,
        text: str,
        bases: Sequence[Path],
        where: str,
        shorten: bool = False,
        refused: str = "path_refused",
    ) -> Path | None:
        """Returns the existing path that ``text`` names in one of the bases, or None; never outside
        ``top``. If it is a path of another machine, or with ``shorten``, the end of the path may
        match.
        """
        text = text.strip().replace("\\", "/")
        inner = text
        while inner.startswith(("../", "./")):
            inner = inner.split("/", 1)[1]
        wholes, ends = dict.fromkeys((text, inner)), []
        absolute = text.startswith("/") or bool(PureWindowsPath(text).drive)
        if shorten or (absolute and not _exists(Path(text))):
            parts = [part for part in text.split("/") if part not in ("", ".", "..")]
            ends = ["/".join(parts[start:]) for start in range(len(parts))]
        outside = False
        for part, base in product((*wholes, *ends), bases):
            path = find_inside(self.top, base / part)
            if path is not None and path.exists():
                if absolute and part in ends:
                    self.report.add("path_moved", where, text)
                return path
            if path is None and part in wholes:
                # Roboflow writes ../test/images also where there is no test split.
                outside |= refused == "path_unused" or _exists(base / part)
        if outside:
            self.report.add(
                refused,
                where,
                f"{text} is not inside {self.top.name}; --root names another folder",
            )
        return None


def _folders(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.iterdir()) if path.is_dir() and not is_tool_folder(path.name)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def label_side(folder: Path, top: Path) -> Path:
    """Returns the folder of labels of a folder: its last ``images`` below ``top`` becomes
    ``labels``, in the case that is there.
    """
    parts = list(folder.relative_to(top).parts)
    for index in reversed(range(len(parts))):
        if parts[index] in IMAGE_FOLDERS:
            before, after = top.joinpath(*parts[:index]), parts[index + 1 :]
            there = [name for name in _LABEL_FOLDERS if (before / name).is_dir()]
            return before.joinpath((there or ["labels"])[0], *after)
    return folder
