"""Interface of the readers: class names, and the items of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from mmsdpt.utils.errors import InputError
from mmsdpt.utils.texts import decode_text, disguise, no_folder

from .items import Item, class_names, read_split


class Source(ABC):
    """A dataset on disk, which is read lazily.

    Args:
        root: The data root; the paths of all items are relative to it.
    """

    has_val = True
    """Whether there are validation images. If not, ``items("val")`` are the test images, as in
    CoOp, and shots of val are remaining training images.
    """

    has_train = True
    """Whether there are training images. A dataset with only a test set is never sampled."""

    lists_images = True
    """Whether the paths come from a list, so that files may be missing, and not from the folders.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @abstractmethod
    def items(self, split: str) -> list[Item]:
        """Items of ``train``, ``val`` or ``test``; the order is the same on every machine.

        Raises:
            InputError: naming the missing or invalid folder or file.
        """

    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names as in the files, in the order of the labels."""

    def folder(self, name: str) -> Path:
        """An existing folder below the root."""
        path = self.root / name
        if not path.is_dir():
            raise InputError(f"the folder {path} is missing: it {no_folder(path)}")
        return path

    def text(self, name: str) -> str:
        """The content of an existing text file below the root."""
        path = self.root / name
        if not path.is_file():
            raise InputError(f"the file {path} is missing")
        content = path.read_bytes()
        if content and (what := disguise(content)):
            raise InputError(f"{path} is not a text file: it is {what}")
        try:
            return decode_text(content)
        except InputError as error:
            raise InputError(f"{path}: {error} (in Excel: CSV UTF-8)") from error

    def lines(self, name: str) -> list[str]:
        """The non-empty lines of a text file, stripped."""
        return [line.strip() for line in self.text(name).split("\n") if line.strip()]


class SplitFile(Source):
    """A dataset with one of CoOp's ``split_zhou_*.json`` files.

    Args:
        file: The JSON file, relative to the root.
        image_dir: Folder that the file's paths are relative to, itself relative to the root.
    """

    def __init__(self, root: str | Path, file: str, image_dir: str = "") -> None:
        super().__init__(root)
        self.file = file
        self.image_dir = image_dir
        self._splits: dict[str, list[Item]] = {}

    def _read(self) -> dict[str, list[Item]]:
        if not self._splits:
            self.folder(self.image_dir)
            self._splits = read_split(self.root / self.file, self.image_dir)
        return self._splits

    def items(self, split: str) -> list[Item]:
        return self._read()[split]

    def class_names(self) -> tuple[str, ...]:
        every = [item for items in self._read().values() for item in items]
        return class_names(every, str(self.root / self.file))
