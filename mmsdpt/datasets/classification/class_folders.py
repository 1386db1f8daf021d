"""Data of one's own in a folder per class."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mmsdpt.datasets.split_names import split_in, split_of
from mmsdpt.utils.class_names import one_form
from mmsdpt.utils.errors import InputError, listed

from .images import find_images, has_images, subfolders
from .items import Item, join
from .own_data import OwnData


class ClassFolders(OwnData):
    """``<class>/<images>``, or the same below ``train``, ``val`` and ``test``, or these below each
    class.

    A class is called as its folder, unless ``classnames.txt`` has a line ``<folder> <name>``.
    Splits may have other usual names in any case (``Training``, ``valid``, ``testing``). Folders
    that archives put around all of this are entered.
    """

    def _title(self) -> str:
        return str(self.root)

    def _inner(self, folder: str) -> str:
        """The folder itself or, where it holds a single folder of folders, that one."""
        while True:
            path = self.root / folder
            names = subfolders(path)
            single = len(names) == 1 and not has_images(path) and split_of(names[0]) is None
            if not single or not subfolders(path / names[0]):
                return folder
            folder = join(folder, names[0])
            self.say(f"the class folders are those of {folder}")

    def _split_folders(self, top: str) -> dict[str, str]:
        """Folder by split; ``{"": top}`` where class folders lie in it themselves."""
        names = subfolders(self.root / top)
        by_words = {split_in(name) for name in names}
        # "train_set" beside "test_set"; but "train" beside "bus" is a class of vehicles.
        of_folder = split_in if {"train", "test"} <= by_words and None not in by_words else split_of
        found = self._by_split(top, names, of_folder)
        # "train" may be a class of vehicles.
        if "train" not in found or not subfolders(self.root / top / found["train"]):
            return {"": top}
        others = [name for name in names if name not in found.values()]
        if others:
            self.say(f"{', '.join(others)} beside the splits is ignored")
        return {split: join(top, name) for split, name in found.items()}

    def _by_split(
        self, folder: str, names: list[str], read: Callable[[str], str | None] = split_of
    ) -> dict[str, str]:
        """Those of the folders in ``folder`` that ``read`` finds a split in, by split.

        Raises:
            InputError: if two are the same split.
        """
        found: dict[str, str] = {}
        for name in names:
            split = read(name)
            if split in found:
                raise InputError(
                    f"{self.root / folder} has both {found[split]} and {name}; expected one of them"
                )
            if split:
                found[split] = name
        return found

    def _class_folders(self) -> dict[str, dict[str, str]]:
        """By split and class, the folder of its images relative to the root."""
        self.folder("")
        result: dict[str, dict[str, str]] = {}
        for split, outer in self._split_folders(self._inner("")).items():
            folder = self._inner(outer) if split else outer
            names = subfolders(self.root / folder)
            if not names and has_images(self.root / folder):
                what = f"the {split} images" if split else "images"
                raise InputError(
                    f"{self.root / folder} holds {what} without class folders, so their"
                    " classes are unknown; put each class's images into a folder of its name"
                    + ("" if split == "train" or not split else ", or remove the folder")
                )
            self._check_below(folder, names, split)
            for name in names:
                inner = subfolders(self.root / folder / name)
                kinds = set(map(split_of, inner))
                if not split and "train" in kinds and None not in kinds:
                    # <class>/<split>/<images>
                    for part, sub in self._by_split(join(folder, name), inner).items():
                        self._add(result.setdefault(part, {}), name, join(folder, name, sub))
                    continue
                self._add(result.setdefault(split, {}), name, join(folder, name))
        if len(result) > 1 and "" in result:
            raise InputError(
                f"some class folders of {self.root} have folders for train and test, others do"
                " not; expected all or none"
            )
        return result

    def _check_below(self, folder: str, names: list[str], split: str) -> None:
        """Refuse a copy of the class folders among them; warn where they seem to be splits.

        Raises:
            InputError: if a folder holds folders of its neighbours' names.
        """
        below = {name: set(subfolders(self.root / folder / name)) for name in names}
        for name, inner in below.items():
            if copied := inner & (below.keys() - {name}):
                raise InputError(
                    f"{self.root / folder / name} has folders of the same names as those beside it"
                    f" ({listed(sorted(copied))}): remove what is a copy"
                )
        first = next(iter(below.values()), set())
        alike = len(below) > 1 and all(inner == first for inner in below.values())
        if alike and len(first) > 1 and not split and not any(map(split_of, first)):
            self.say(
                f"the classes are {listed(names)}, and each has the folders"
                f" {listed(sorted(first))}: if these are the classes, call the folders around them"
                " train, val and test",
                logging.WARNING,
            )

    def _add(self, of_class: dict[str, str], name: str, folder: str) -> None:
        before = of_class.setdefault(one_form(name), folder)
        if before != folder:
            raise InputError(
                f"the folders {before!r} and {folder!r} of {self.root} have one class name,"
                f" {one_form(name)!r}: they differ in signs that nobody sees; rename or join them"
            )

    def _read(self) -> dict[str, list[Item]]:
        folders = self._class_folders()
        classes = sorted({name for of_class in folders.values() for name in of_class})
        if not classes:
            raise InputError(f"{self.root} has no folders; expected one for each class")
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
                f"the folders of {len(empty)} classes in {self.root} have no images, the first is "
                f"{empty[0]}; remove them or fill them"
                + (f" (there are {others})" if others else "")
            )
        return splits
