"""FGVC Aircraft in its own layout: a list of variants, and a list of images for each split."""

from __future__ import annotations

from mmsdpt.utils.errors import InputError

from .items import Item, inside, join
from .source import Source


class Aircraft(Source):
    """``fgvc_aircraft/images/<id>.jpg``, ``variants.txt`` and ``images_variant_<split>.txt``.

    Labels are the lines of ``variants.txt``; a line of the lists is ``<id> <variant>``.
    """

    home = "fgvc_aircraft"

    def items(self, split: str) -> list[Item]:
        labels = {name: label for label, name in enumerate(self.class_names())}
        self.folder(join(self.home, "images"))
        file = join(self.home, f"images_variant_{split}.txt")
        items = []
        for line in self.lines(file):
            image, _, name = line.partition(" ")
            name = name.strip()
            if name not in labels:
                raise InputError(
                    f"{self.root / file} has the line {line!r}; expected '<id> <variant>' with a "
                    "line of variants.txt"
                )
            path = join(self.home, "images", f"{inside(image, str(self.root / file))}.jpg")
            items.append(Item(path, labels[name], name))
        return items

    def class_names(self) -> tuple[str, ...]:
        return tuple(self.lines(join(self.home, "variants.txt")))
