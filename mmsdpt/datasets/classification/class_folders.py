"""Data of one's own in a folder per class."""

from __future__ import annotations

from mmsdpt.utils.errors import InputError

from .images import find_images, subfolders
from .items import Item, join
from .own_data import SPLIT_NAMES, OwnData


class ClassFolders(OwnData):
    """``<class>/<images>``, or the same below ``train``, ``val`` and ``test``.

    A class is called as its folder, unless ``classnames.txt`` has a line ``<folder> <name>``.
    ``val`` may be called ``valid`` or ``validation``.
    """

    def _title(self) -> str:
        return str(self.root)

    def _split_folders(self) -> dict[str, str]:
        """Folder by split; ``{"": ""}`` where class folders lie in the root itself."""
        names = subfolders(self.folder(""))
        if "train" not in names or not subfolders(self.root / "train"):
            return {"": ""}  # "train" may be a class of vehicles
        found: dict[str, str] = {}
        for name in names:
            split = SPLIT_NAMES.get(name)
            if split in found:
                raise InputError(
                    f"{self.root} has both {found[split]} and {name}; expected one of them"
                )
            if split:
                found[split] = name
        return found

    def _read(self) -> dict[str, list[Item]]:
        folders = self._split_folders()
        classes = sorted(
            {name for each in folders.values() for name in subfolders(self.root / each)}
        )
        if not classes:
            raise InputError(f"{self.root} has no folders; expected one for each class")
        names = self.names_of(classes)
        splits: dict[str, list[Item]] = {}
        for split, folder in folders.items():
            present = set(subfolders(self.root / folder))
            splits[split] = [
                Item(join(folder, name, path), label, names[name])
                for label, name in enumerate(classes)
                if name in present
                for path in find_images(self.root / folder / name, self._left_out)
            ]
        filled = {item.label for items in splits.values() for item in items}
        empty = [name for label, name in enumerate(classes) if label not in filled]
        if empty:
            raise InputError(
                f"the folders of {len(empty)} classes in {self.root} have no images, the first is "
                f"{empty[0]}; remove them or fill them"
            )
        return splits
