"""ImageNet and its four variants: one folder per class, and CoOp's ``classnames.txt``."""

from __future__ import annotations

from pathlib import Path

from mmsdpt.utils.errors import InputError

from .images import find_images, subfolders
from .items import Item, join
from .source import Source

CLASS_NAMES_FILE = "classnames.txt"


def parse_class_names(lines: list[str], source: str) -> dict[str, str]:
    """Read lines ``<folder> <name>``, such as ``n01440764 tench``, keeping their order.

    With a tab instead of the space, the folder may contain spaces.

    Raises:
        InputError: if a line has no name, or a folder has two.
    """
    names: dict[str, str] = {}
    for line in lines:
        folder, _, name = line.partition("\t" if "\t" in line else " ")
        if not name.strip():
            raise InputError(f"{source} has the line {line!r}; expected '<folder> <name>'")
        if names.setdefault(folder, name.strip()) != name.strip():
            raise InputError(
                f"{source} names {folder!r} twice, {names[folder]!r} and {name.strip()!r}; if"
                " folders contain spaces, put a tab before the name"
            )
    return names


class _ImageNetLayout(Source):
    """Base of ImageNet and its variants: names by WordNet id, images in class folders."""

    lists_images = False
    has_val = False

    def __init__(self, root: str | Path, home: str) -> None:
        super().__init__(root)
        self.home = home
        self._names: dict[str, str] = {}

    def _names_by_id(self) -> dict[str, str]:
        """Names from the dataset's ``classnames.txt``, or else from ImageNet's copy."""
        if not self._names:
            own = join(self.home, CLASS_NAMES_FILE)
            shared = join("imagenet", CLASS_NAMES_FILE)
            name = own if (self.root / own).is_file() else shared
            if not (self.root / name).is_file():
                raise InputError(f"the file {self.root / own} is missing")
            self._names = parse_class_names(self.lines(name), str(self.root / name))
        return self._names

    def _name(self, wordnet_id: str) -> str:
        names = self._names_by_id()
        if wordnet_id not in names:
            raise InputError(
                f"{self.root / self.home} has images of {wordnet_id}, which {CLASS_NAMES_FILE} does"
                " not name"
            )
        return names[wordnet_id]

    def _items_in(self, folder: str, label: int, name: str) -> list[Item]:
        return [Item(join(folder, path), label, name) for path in find_images(self.root / folder)]


class ImageNet(_ImageNetLayout):
    """``imagenet/images/{train,val}/<WordNet id>/*.JPEG``.

    Labels number the folders of both splits in alphabetical order. ``images/val`` is used for both
    val and test (CoOp).
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root, "imagenet")
        self._ids: list[str] = []

    def _class_ids(self) -> list[str]:
        if not self._ids:
            ids = set(subfolders(self.folder("imagenet/images/val")))
            train = self.root / "imagenet/images/train"
            if train.is_dir():  # not needed for testing
                ids |= set(subfolders(train))
            self._ids = sorted(ids)
        return self._ids

    def items(self, split: str) -> list[Item]:
        ids = self._class_ids()
        images = f"imagenet/images/{'train' if split == 'train' else 'val'}"
        present = set(subfolders(self.folder(images)))
        return [
            item
            for label, wordnet_id in enumerate(ids)
            if wordnet_id in present
            for item in self._items_in(f"{images}/{wordnet_id}", label, self._name(wordnet_id))
        ]

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._name(wordnet_id) for wordnet_id in self._class_ids())


class ImageNetVariant(_ImageNetLayout):
    """A test set in folders named by WordNet id: Sketch, Adversarial (A), Rendition (R).

    Labels number the existing folders in alphabetical order: 1,000, 200 and 200.
    """

    has_train = False

    def __init__(self, root: str | Path, home: str, images: str) -> None:
        super().__init__(root, home)
        self.images = join(home, images)

    def _check(self, split: str) -> None:
        if split == "train":
            raise InputError(f"{self.home} is a test set and has no images for training")

    def items(self, split: str) -> list[Item]:
        self._check(split)
        ids = subfolders(self.folder(self.images))
        return [
            item
            for label, wordnet_id in enumerate(ids)
            for item in self._items_in(f"{self.images}/{wordnet_id}", label, self._name(wordnet_id))
        ]

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._name(folder) for folder in subfolders(self.folder(self.images)))


class ImageNetV2(ImageNetVariant):
    """``imagenetv2/imagenetv2-matched-frequency-format-val/<label>/``: folders 0 .. 999 are the
    lines of ``classnames.txt``.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root, "imagenetv2", "imagenetv2-matched-frequency-format-val")

    def items(self, split: str) -> list[Item]:
        self._check(split)
        names = self.class_names()
        folders = subfolders(self.folder(self.images))
        wrong = [name for name in folders if not name.isdecimal() or int(name) >= len(names)]
        if wrong:
            raise InputError(
                f"{self.root / self.images} has the folder {wrong[0]}; expected 0 to "
                f"{len(names) - 1}, the lines of {CLASS_NAMES_FILE}"
            )
        return [
            item
            for folder in sorted(folders, key=int)
            for item in self._items_in(f"{self.images}/{folder}", int(folder), names[int(folder)])
        ]

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._names_by_id().values())
