"""What a YOLO data.yaml says, and the files it names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from .common import ConverterError
from .files import IMAGE_SUFFIXES, LabelRefused, read_label, resolve_inside, scan
from .report import ConversionReport

_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_NO_LABELS = ("classes.txt", "notes.txt", "readme")
"""Beginnings of the names of what labelling tools put beside the labels."""
_MAX_YAML_BYTES = 2**18
"""Ten times LVIS's 1,203 names. Parsing takes seconds per MiB."""


def read_data_file(source: Path) -> dict[str, Any]:
    """Reads a data.yaml safely.

    Raises:
        ConverterError: If it is no YAML, no mapping or too large.
    """
    try:
        data = yaml.safe_load(read_label(source, _MAX_YAML_BYTES).decode("utf-8-sig"))
    except (LabelRefused, UnicodeDecodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConverterError(f"{source} cannot be read as YAML: {reason}.") from error
    if not isinstance(data, dict):
        raise ConverterError(f"{source} holds no mapping; expected the keys names, train and val.")
    return data


def class_names(data: dict[str, Any], source: Path, report: ConversionReport) -> dict[int, str]:
    """Returns class number to name from ``names``, a list or a mapping."""
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    result: dict[int, str] = {}
    for number, name in names.items() if isinstance(names, dict) else ():
        if (
            not isinstance(name, str | int | float)
            or not str(number).isdecimal()
            or not str(name).strip()
        ):
            raise ConverterError(
                f"names in {source} must be a list of class names or map numbers to class names."
            )
        result[int(number)] = str(name).strip()
    if not result:
        raise ConverterError(
            f"{source} has no class names; add a line such as 'names: [cat, dog]'."
        )
    if len(set(result.values())) != len(result):
        raise ConverterError(f"names in {source} repeats a class name; give every class its own.")
    if "nc" in data and data["nc"] != len(result):
        report.add("nc_differs", source.name, f"nc differs from {len(result)} names")
    return dict(sorted(result.items()))


def chosen_classes(classes: Sequence[str] | None, names: dict[int, str]) -> list[str]:
    """Returns the classes to convert, in the order of their ids.

    Raises:
        ConverterError: If one of them is not in data.yaml or is named twice.
    """
    if classes is None:
        return list(names.values())
    unknown = [name for name in classes if name not in names.values()]
    if unknown or not classes or len(set(classes)) != len(classes):
        raise ConverterError(
            f"--classes needs different names out of data.yaml's ({', '.join(names.values())}); "
            f"got '{','.join(classes)}'."
        )
    return list(classes)


class DatasetFolders:
    """Finds images and label files, never outside ``top``."""

    def __init__(
        self, here: Path, top: Path, data: dict[str, Any], exclude: Path, report: ConversionReport
    ) -> None:
        self.top, self.data, self.exclude, self.report = top, data, exclude, report
        self.bases = [here, top]
        path = data.get("path")
        if isinstance(path, str) and path.strip():
            base = self._find(path, [here, top], "data.yaml path")
            if base is not None:
                self.bases.insert(0, base)
        self.label_folders: set[Path] = set()
        self.lists: set[Path] = set()

    def images(self, split: str) -> list[Path]:
        """Returns the images of a split, without repeats, in sorted order per entry."""
        key = "valid" if split == "val" and "val" not in self.data else split
        entries = self.data.get(key)
        if not entries:
            return self._unnamed(split)
        entries = entries if isinstance(entries, list) else [entries]
        found: list[Path] = []
        for entry in entries:
            if not isinstance(entry, str):
                raise ConverterError(f"'{key}' in data.yaml must be a path or a list of paths.")
            path = self._find(entry, self.bases, f"data.yaml {key}")
            if path is None:
                self.report.add("split_missing", f"data.yaml {key}", entry)
            elif path.is_dir():
                found += self._scan(path)
            elif path.suffix.lower() == ".txt":
                found += self._listed(path)
            else:
                self.report.add(
                    "split_missing",
                    f"data.yaml {key}",
                    f"{entry} is neither a folder nor a text file",
                )
        unique: dict[Path, None] = {}
        for path in found:
            self.report.images_found += 1
            if path in unique:
                self.report.drop_image("image_listed_twice", path, split)
            unique[path] = None
        return list(unique)

    def label_files(self) -> list[Path]:
        """Returns the label files in the folders in which labels were looked for."""
        found: dict[Path, None] = {}
        for folder in sorted(self.label_folders):
            if folder.is_dir():
                found |= dict.fromkeys(
                    scan(
                        folder, self.top, {".txt"}, ConversionReport(self.top, "yolo"), self.exclude
                    )
                )
        return [
            path
            for path in found
            if path not in self.lists and not path.name.lower().startswith(_NO_LABELS)
        ]

    def _unnamed(self, split: str) -> list[Path]:
        for base in dict.fromkeys(self.bases):
            for name in _FOLDERS[split]:
                for folder in (base / name / "images", base / "images" / name):
                    if folder.is_dir() and resolve_inside(self.top, folder) is not None:
                        self.report.add("split_from_folder", folder, split)
                        found = self._scan(folder.resolve())
                        self.report.images_found += len(found)
                        return found
        return []

    def _scan(self, folder: Path) -> list[Path]:
        self.label_folders.add(label_side(folder, self.top))
        return scan(folder, self.top, IMAGE_SUFFIXES, self.report, self.exclude)

    def _listed(self, path: Path) -> Iterator[Path]:
        self.lists.add(path)
        try:
            lines = read_label(path).decode("utf-8-sig").split("\n")
        except (LabelRefused, UnicodeDecodeError) as error:
            raise ConverterError(f"The image list {path} cannot be read: {error}.") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{self.report.name(path)}:{number}"
            image = self._find(line, [path.parent, *self.bases], where)
            if image is None or not image.is_file() or image.suffix.lower() not in IMAGE_SUFFIXES:
                self.report.add("listed_absent", where, line.strip())
                continue
            self.label_folders.add(label_side(image.parent, self.top))
            yield image

    def _find(self, text: str, bases: Sequence[Path], where: str) -> Path | None:
        """Returns the existing path that ``text`` names below a base, or None; never outside
        ``top``.
        """
        text = text.strip().replace("\\", "/")
        inner = text
        while inner.startswith(("../", "./")):
            inner = inner.split("/", 1)[1]
        outside = False
        for candidate in (base / part for part in dict.fromkeys((text, inner)) for base in bases):
            path = resolve_inside(self.top, candidate)
            if path is None:
                outside = True
            elif path.exists():
                return path
        if outside:
            self.report.add(
                "path_refused",
                where,
                f"{text} is not inside {self.top.name}; --root names another folder",
            )
        return None


def label_side(folder: Path, top: Path) -> Path:
    """Returns the folder of labels of a folder: its last ``images`` below ``top`` becomes
    ``labels``.
    """
    parts = list(folder.relative_to(top).parts)
    for index in reversed(range(len(parts))):
        if parts[index] in ("images", "Images"):
            parts[index] = "labels" if parts[index] == "images" else "Labels"
            return top.joinpath(*parts)
    return folder
