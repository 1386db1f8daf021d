"""Base of the readers for your own data: missing splits and unreadable images."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from mmengine.logging import print_log

from mmsdpt.datasets.split_names import SPLITS
from mmsdpt.utils.class_names import as_written, check_class_names, one_form
from mmsdpt.utils.errors import InputError, listed, printable

from .imagenet import CLASS_NAMES_FILE, parse_class_names
from .images import LeftOut, find_animations, find_copies, find_unreadable
from .items import Item, class_names
from .source import Source
from .subsets import hold_out_val, split_all


def is_number(key: str) -> bool:
    """Whether the name of a class is a number, such as 10, -1 or 1.0."""
    return re.fullmatch(r"-?\d+\.?\d*", key) is not None


def number_key(key: str) -> str:
    """The name of a class without the decimals that pandas adds: 1.0 becomes 1."""
    return re.sub(r"\.0*$", "", key) if is_number(key) else key


class OwnData(Source):
    """Your own data, with or without splits.

    If only val is missing, it gets a fifth of train, at least one image of a class that has two.
    Data without splits is split by ``fractions``. Both are drawn per class with ``split_seed``.

    Args:
        fractions: Fractions of train, val and test for data without splits.
        split_seed: Seed of the split.
        check_images: Leave out images that cannot be decoded, with a warning. It takes about a
            millisecond per image.
    """

    lists_images = False  # missing files count as unreadable
    renaming = "rename them"
    """Advice about unusable class names."""

    def __init__(
        self,
        root: str | Path,
        fractions: tuple[float, float, float] = (0.5, 0.2, 0.3),
        split_seed: int = 0,
        check_images: bool = True,
    ) -> None:
        super().__init__(root)
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise InputError(
                "fractions must be three values for train, val and test with sum 1, got"
                f" {fractions}"
            )
        self.fractions = fractions
        self.split_seed = split_seed
        self.check_images = check_images
        self._left_out = LeftOut()
        self._splits: dict[str, list[Item]] = {}

    @abstractmethod
    def _read(self) -> dict[str, list[Item]]:
        """Items by split; all under ``""`` if the data has no splits."""

    @abstractmethod
    def _title(self) -> str:
        """Name of the data in messages: its folder or file."""

    def _complete(self) -> dict[str, list[Item]]:
        """Items of all three splits, read in the first call."""
        if self._splits:
            return self._splits
        splits = self._read()
        if not any(splits.values()):
            raise InputError(f"{self._title()} has no images")
        if set(splits) == {""}:
            shares = "/".join(f"{share:.0%}" for share in self.fractions)
            self.say(
                f"no splits found: split into train/val/test by {shares}, seed {self.split_seed}"
            )
            splits = split_all(splits[""], self.fractions, self.split_seed)
        elif not splits.get("train") or not splits.get("test"):
            here = " and ".join(split for split in SPLITS if splits.get(split))
            raise InputError(
                f"{self._title()} has only the splits {here}; expected train and test (val is "
                "optional), or no splits at all"
            )
        elif not splits.get("val"):
            splits = hold_out_val(splits, self.split_seed)
            if splits["val"]:
                self.say(f"no val split found: taking a fifth of train, seed {self.split_seed}")
        splits = {split: self._each_once(items, split) for split, items in splits.items()}
        self._check(splits)
        self._splits = splits
        if sentence := self._left_out.sentence():
            self.say(f"left out {sentence}")
        return splits

    def _each_once(self, items: list[Item], split: str) -> list[Item]:
        """The images of a split without repeats.

        Raises:
            InputError: if an image has two classes.
        """
        found: dict[str, Item] = {}
        for item in items:
            before = found.setdefault(item.path, item)
            if before.label != item.label:
                raise InputError(
                    f"{self._title()} has two classes for {item.path}, {before.class_name!r} and"
                    f" {item.class_name!r}; expected one per image"
                )
        if len(found) < len(items):
            self.say(
                f"{len(items) - len(found)} {split} images are repeated; each is used once",
                logging.WARNING,
            )
        return list(found.values())

    def _check(self, splits: dict[str, list[Item]]) -> None:
        """Refuse images that are in both train and test, and unusable class names."""
        trained = {item.path for item in splits["train"]}
        for split in ("val", "test"):
            both = [item.path for item in splits[split] if item.path in trained]
            if both:
                raise InputError(
                    f"{self._title()} has {len(both)} images in both train and {split}, such as"
                    f" {both[0]}: remove them from one, as scores on training images are misleading"
                )
        every = [item for items in splits.values() for item in items]
        names = class_names(every, self._title())
        if len(names) < 2:
            raise InputError(
                f"{self._title()} has only one class, {', '.join(names)}; a classifier needs at"
                " least two"
            )
        check_class_names(
            names,
            lambda name: as_written(name.replace("_", " ")),
            source=self._title(),
            advice=self.renaming,
        )
        self.say(f"{len(names)} classes: {', '.join(names).replace('_', ' ')}")
        for split in SPLITS:
            if splits[split]:
                self._say_absent(split, splits[split], names)

    def _say_absent(self, split: str, items: list[Item], names: Iterable[str]) -> None:
        """Warn about classes without images in a split."""
        there = {item.class_name for item in items}
        absent = [name for name in names if name not in there]
        if absent:
            named = listed(map(repr, absent))
            what = "are not trained" if split == "train" else f"are not evaluated on {split}"
            self.say(f"{split} has no images of {named}: these classes {what}", logging.WARNING)

    def say(self, sentence: str, level: int = logging.INFO) -> None:
        """Log a line about the data."""
        line = printable(f"{self._title()}: {sentence}", 20_000)
        print_log(line, logger="current", level=level)

    def items(self, split: str) -> list[Item]:
        items = self._complete()[split]
        if split == "val" and not items:
            raise InputError(
                f"{self._title()} has no val images, and too few training images to take some from;"
                " add images, or set val_dataloader, val_cfg and val_evaluator to None"
            )
        if not self.check_images or not items:
            return items
        bad = find_unreadable(self.root, [item.path for item in items])
        if len(bad) == len(items):
            raise InputError(
                f"none of the {len(bad)} {split} images of {self._title()} can be read, such as "
                f"{self.root / bad[0][0]}: {bad[0][1]}"
            )
        if bad:
            left_out = LeftOut(unreadable=bad).sentence()
            self.say(f"{split} leaves out {left_out}", logging.WARNING)
        if several := find_animations(self.root, [item.path for item in items]):
            self.say(
                f"{len(several)} {split} images have several frames or pages; only the first is"
                f" used ({listed(several, 3)})",
                logging.WARNING,
            )
        if split != "train":
            trained = [item.path for item in self._complete()["train"]]
            copies = find_copies(self.root, [item.path for item in items], trained)
            if copies:
                self.say(
                    f"{len(copies)} of {len(items)} {split} images are copies of training images,"
                    f" such as {copies[0]}",
                    logging.WARNING,
                )
        wrong = {path for path, _ in bad}
        used = [item for item in items if item.path not in wrong]
        self._say_absent(split, used, dict.fromkeys(item.class_name for item in items))
        return used

    def class_names(self) -> tuple[str, ...]:
        every = [item for items in self._complete().values() for item in items]
        return class_names(every, self._title())

    def names_of(self, keys: Iterable[str], are_names: bool = False) -> dict[str, str]:
        """Names of the classes: from ``classnames.txt`` if it exists, else the ``keys``.

        Args:
            are_names: Whether keys that are words are names. The file may then lack them, with a
                warning, as it may belong to something else.

        Raises:
            InputError: if the file lacks one of them or is malformed, or if there is none and the
                keys are numbers.
        """
        keys = list(keys)
        path = self.root / CLASS_NAMES_FILE
        numbers = all(map(is_number, keys))
        if not keys:
            return {}
        if not path.exists():
            if numbers:
                raise InputError(
                    f"the classes of {self._title()} are numbers, but CLIP needs names: add"
                    f" {path} with lines such as '{keys[0]} name of the class'"
                )
            return {key: key for key in keys}
        names: dict[str, str] = {}
        try:
            named = parse_class_names(self.lines(CLASS_NAMES_FILE), str(path))
            names = {one_form(key): one_form(name) for key, name in named.items()}
            for key, name in list(names.items()):
                names.setdefault(number_key(key), name)
            unnamed = [key for key in keys if key not in names]
            if unnamed:
                tab = ", with a tab before the name" if " " in unnamed[0] else ""
                raise InputError(
                    f"{path} has no name for {unnamed[0]!r} ({len(unnamed)} of {len(keys)} classes "
                    f"are missing); add lines such as '{unnamed[0]} name of the class'{tab}"
                )
        except InputError as error:
            if numbers or not are_names:
                raise
            self.say(f"{error}; classes without one keep their current names", logging.WARNING)
        return {key: names.get(key, key) for key in keys}
