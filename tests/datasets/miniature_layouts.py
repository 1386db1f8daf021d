"""Miniature copies of the benchmarks, in the layout of the real downloads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = (
    "red_fox",
    "sea_lion",
    "owl",
    "tabby_cat",
    "ant",
    "dog",
    "apple_pie",
    "river",
    "tulip",
    "airliner",
    "crane",
    "shopping_cart",
)
"""Class names that are used where only a number of classes is given."""

SPLIT_FILES = {
    "caltech-101": ("Caltech101", "101_ObjectCategories"),
    "oxford_pets": ("OxfordPets", "images"),
    "stanford_cars": ("StanfordCars", ""),
    "oxford_flowers": ("OxfordFlowers", "jpg"),
    "food-101": ("Food101", "images"),
    "sun397": ("SUN397", "SUN397"),
    "dtd": ("DescribableTextures", "images"),
    "eurosat": ("EuroSAT", "2750"),
    "ucf101": ("UCF101", "UCF-101-midframes"),
}
VARIANT_FOLDERS = {
    "imagenetv2": "imagenetv2-matched-frequency-format-val",
    "imagenet-sketch": "images",
    "imagenet-adversarial": "imagenet-a",
    "imagenet-rendition": "imagenet-r",
}
ALL_NAMES = ("imagenet", *SPLIT_FILES, "fgvc_aircraft", *VARIANT_FOLDERS)


def make_dataset(
    name: str,
    root: Path,
    classes: int | Sequence[str] = 3,
    per_class: int | tuple[int, int, int] = (5, 2, 3),
    size: tuple[int, int] = (40, 32),
) -> Path:
    """Make one benchmark in the data root ``root``.

    Args:
        name: One of ``ALL_NAMES``.
        root: The data root.
        classes: Number of classes, or their names with underscores.
        per_class: Images of each class in train, val and test; one number for all three. ImageNet
            and its variants have no val; the variants only test.
        size: Width and height of the images. Each class has a colour.

    Returns:
        The dataset's folder.
    """
    names = NAMES[:classes] if isinstance(classes, int) else tuple(classes)
    counts = (per_class,) * 3 if isinstance(per_class, int) else per_class
    home = root / name
    if name in SPLIT_FILES:
        _make_split_file(name, home, names, counts, size)
    elif name == "fgvc_aircraft":
        _make_aircraft(home, names, counts, size)
    elif name == "imagenet":
        _write_class_names(home, names)
        for split, count in (("train", counts[0]), ("val", counts[2])):
            for label in range(len(names)):
                folder = home / "images" / split / wordnet_id(label)
                prefix = wordnet_id(label) if split == "train" else "ILSVRC2012_val"
                for i in range(count):
                    save_image(folder / f"{prefix}_{i:08d}.JPEG", label, i, size)
    elif name in VARIANT_FOLDERS:
        _write_class_names(home, names)
        for label in range(len(names)):
            folder = str(label) if name == "imagenetv2" else wordnet_id(label)
            for i in range(counts[2]):
                path = home / VARIANT_FOLDERS[name] / folder / f"image_{i}.JPEG"
                save_image(path, label, i, size)
    else:
        raise ValueError(name)
    return home


def make_class_folders(
    root: Path,
    splits: dict[str, int],
    classes: int | Sequence[str] = 3,
    size: tuple[int, int] = (40, 32),
) -> Path:
    """Make a folder per class.

    Args:
        root: The data's own folder.
        splits: Images of each class by folder of a split; the key ``""`` for no such folder.
        classes: Number of classes, or their names.
        size: Width and height of the images.
    """
    names = NAMES[:classes] if isinstance(classes, int) else tuple(classes)
    for split, count in splits.items():
        for label, name in enumerate(names):
            for i in range(count):
                save_image(root / split / name / f"{i:03d}.jpg", label, i, size)
    return root


def wordnet_id(label: int) -> str:
    """A made-up WordNet id; their order is that of the labels."""
    return f"n{label + 1:08d}"


def save_image(path: Path, label: int, index: int, size: tuple[int, int] = (40, 32)) -> None:
    """Save noise around the colour of a class."""
    generator = np.random.default_rng(1000 * label + index)
    colour = np.array([(label * 67 + 30) % 256, (label * 131 + 60) % 256, (label * 29 + 90) % 256])
    pixels = colour + generator.normal(0, 20, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def _make_split_file(
    name: str,
    home: Path,
    names: Sequence[str],
    counts: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    title, images = SPLIT_FILES[name]
    content: dict[str, list] = {"train": [], "val": [], "test": []}
    number = 0
    for split, count in zip(content, counts, strict=True):
        for label, class_name in enumerate(names):
            for i in range(count):
                number += 1
                if name == "stanford_cars":  # its two folders are part of the paths
                    path = f"cars_{'test' if split == 'test' else 'train'}/{number:05d}.jpg"
                elif name == "oxford_flowers":  # all in one folder
                    path = f"image_{number:05d}.jpg"
                else:
                    path = f"{class_name}/image_{number:04d}.jpg"
                save_image(home / images / path, label, 100 * number + i, size)
                content[split].append([path, label, class_name])
    (home / f"split_zhou_{title}.json").write_text(json.dumps(content))


def _make_aircraft(
    home: Path, names: Sequence[str], counts: tuple[int, int, int], size: tuple[int, int]
) -> None:
    number = 1_000_000
    (home / "images").mkdir(parents=True, exist_ok=True)
    (home / "variants.txt").write_text("".join(f"{name}\n" for name in names))
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        lines = []
        for label, class_name in enumerate(names):
            for _ in range(count):
                number += 1
                save_image(home / "images" / f"{number}.jpg", label, number, size)
                lines.append(f"{number} {class_name}\n")
        (home / f"images_variant_{split}.txt").write_text("".join(lines))


def _write_class_names(home: Path, names: Sequence[str]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    lines = [f"{wordnet_id(label)} {name.replace('_', ' ')}\n" for label, name in enumerate(names)]
    (home / "classnames.txt").write_text("".join(lines))
