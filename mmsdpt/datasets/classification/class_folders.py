"""Your own data with one folder per class."""

from __future__ import annotations

import logging
from pathlib import Path

from mmsdpt.datasets.split_names import split_in, split_of
from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError, listed

from .imagenet import CLASS_NAMES_FILE
from .images import find_images, has_images, subfolders
from .items import Item, join
from .own_data import OwnData


class ClassFolders(OwnData):
    """``<class>/<images>``, or the same below ``train``, ``val`` and ``test``, or with these below
    each class.

    A class has the name of its folder, unless ``classnames.txt`` has a line ``<folder> <name>``.
    Splits may have other usual names in any case (``Training``, ``valid``, ``testing``). Extra
    top-level folders, as created by archives, are entered.
    """

    renaming = f"rename them, or add names for the folders to {CLASS_NAMES_FILE}"

    def _title(self) -> str:
        return str(self.root)

    def _inner(self, folder: str, split: str | None = None) -> str:
        """The folder itself, or its only subfolder if that contains folders.

        Args:
            split: Split of the folder. A single subfolder of the same name ("train/train") is never
                a class.
        """
        while True:
            path = self.root / folder
            names = subfolders(path)
            if len(names) != 1 or has_images(path):
                return folder
            called = split_of(names[0])
            if called not in (None, split) or not (called or subfolders(path / names[0])):
                return folder
            folder = join(folder, names[0])
            self.say(f"the class folders are those of {folder}")

    def _splits_in(self, folder: str) -> tuple[dict[str, str], list[str]]:
        """The split folders in ``folder``, by split, and the names of the other folders.

        They have a usual name of a split or, if there is none, contain one as a word: "train_set",
        but not "train_masks" beside "train". A single "train_set" is not a split.

        Raises:
            InputError: if two are the same split.
        """
        names = subfolders(self.root / folder)
        usual = set(map(split_of, names))
        alike: dict[str, list[str]] = {}
        for name in names:
            split = split_in(name)
            if split and (split_of(name) or split not in usual):
                alike.setdefault(split, []).append(name)
        if "train" not in alike or not (alike.keys() - {"train"} or "train" in usual):
            return {}, names
        if twice := next((same for same in alike.values() if len(same) > 1), None):
            raise InputError(
                f"{self.root / folder} has both {twice[0]} and {twice[1]}; expected only one of"
                " them"
            )
        found = {split: same[0] for split, same in alike.items()}
        others = [name for name in names if name not in found.values()]
        return {split: join(folder, name) for split, name in found.items()}, others

    def _split_folders(self, top: str) -> dict[str, str]:
        """The folder with the class folders of each split; ``{"": top}`` if there are no splits.

        Raises:
            InputError: if it is ambiguous whether folders are splits or classes.
        """
        names = subfolders(self.root / top)
        trains = [name for name in names if split_in(name) == "train"]
        # "train" may be a class of vehicles.
        if not any(subfolders(self.root / top / name) for name in trains):
            return {"": top}
        found, others = self._splits_in(top)
        if not found or not subfolders(self.root / found["train"]):
            return {"": top}
        inner = {split: self._inner(folder, split) for split, folder in found.items()}
        trained = set(subfolders(self.root / inner["train"]))
        for split, folder in found.items():
            tested = set(subfolders(self.root / inner[split]))
            usual = split_of(Path(folder).name) and split_of(Path(found["train"]).name)
            if usual or not tested:
                continue
            if not tested & trained:
                raise InputError(
                    f"the folders {found['train']} and {folder} of {self.root} are named like"
                    " splits but contain different folders; name splits train, val and test, and"
                    " use other names for class folders (classnames.txt can name the classes)"
                )
            if all(map(split_of, tested & trained)):  # "bullet train" and "test tube" have splits
                return {"": top}
        if others:
            self.say(f"{', '.join(others)} beside the splits is ignored")
        return inner

    def _parts(self, folder: str) -> tuple[dict[str, str], list[str]]:
        """The splits below a class folder, and the names of other entries."""
        found, others = self._splits_in(folder)
        # "train" beside "bus" is a kind of vehicle.
        return ({}, []) if others and len(found) < 2 else (found, others)

    def _class_folders(self) -> dict[str, dict[str, str]]:
        """The image folder by split and class, relative to the root."""
        self.folder("")
        result: dict[str, dict[str, str]] = {}
        ignored: set[str] = set()
        for split, folder in self._split_folders(self._inner("")).items():
            names = subfolders(self.root / folder)
            if not names and has_images(self.root / folder):
                what = f"the {split} images" if split else "images"
                raise InputError(
                    f"{self.root / folder} has {what} without class folders, so their"
                    " classes are unknown; put the images of each class into a folder with its name"
                    + ("" if split == "train" or not split else ", or remove the folder")
                )
            self._check_below(folder, names, split)
            for name in names:
                # <class>/<split>/<images>
                parts, others = ({}, []) if split else self._parts(join(folder, name))
                ignored.update(others)
                for part, inner in (parts or {split: join(folder, name)}).items():
                    self._add(result.setdefault(part, {}), name, inner)
        if len(result) > 1 and "" in result:
            raise InputError(
                f"only some class folders of {self.root} have folders for train and test;"
                " expected all or none"
            )
        if ignored:
            self.say(f"{listed(sorted(ignored))} beside the splits below the classes is ignored")
        return result

    def _check_below(self, folder: str, names: list[str], split: str) -> None:
        """Refuse a copy of the class folders inside one of them; warn if they look like splits.

        Raises:
            InputError: if a folder contains folders with the names of its siblings.
        """
        below = {name: set(subfolders(self.root / folder / name)) for name in names}
        for name, inner in below.items():
            if copied := inner & (below.keys() - {name}):
                raise InputError(
                    f"{self.root / folder / name} contains folders with the names of its siblings"
                    f" ({listed(sorted(copied))}): remove the copy"
                )
        first = next(iter(below.values()), set())
        alike = len(below) > 1 and all(inner == first for inner in below.values())
        if alike and len(first) > 1 and not split and not self._parts(join(folder, names[0]))[0]:
            self.say(
                f"the classes are {listed(names)}, and each has the folders"
                f" {listed(sorted(first))}: if these are the classes, rename the folders around"
                " them to train, val and test",
                logging.WARNING,
            )

    def _add(self, of_class: dict[str, str], name: str, folder: str) -> None:
        before = of_class.setdefault(one_form(name), folder)
        if before != folder:
            raise InputError(
                f"the folders {before!r} and {folder!r} of {self.root} have the same class name"
                f" {one_form(name)!r}: they differ in invisible characters; rename or merge them"
            )

    def _read(self) -> dict[str, list[Item]]:
        folders = self._class_folders()
        classes = sorted({name for of_class in folders.values() for name in of_class})
        if not classes:
            raise InputError(f"{self.root} has no folders; expected one per class")
        names = self.names_of(classes)
        splits: dict[str, list[Item]] = {}
        for split, of_class in folders.items():
            splits[split] = [
                Item(join(of_class[name], path), label, names[name])
                for label, name in enumerate(classes)
                if name in of_class
                for path in find_images(Path(self.root / of_class[name]), self._left_out)
            ]
        filled = {item.label for items in splits.values() for item in items}
        empty = [name for label, name in enumerate(classes) if label not in filled]
        if empty:
            others = self._left_out.sentence()
            raise InputError(
                f"{len(empty)} class folders in {self.root} have no images, such as {empty[0]};"
                " remove them or add images" + (f" (there are {others})" if others else "")
            )
        return splits
