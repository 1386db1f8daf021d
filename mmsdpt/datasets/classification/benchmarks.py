"""The eleven datasets and four ImageNet variants of the protocols: paths and image counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from .aircraft import Aircraft
from .imagenet import ImageNet, ImageNetV2, ImageNetVariant
from .source import Source, SplitFile


@dataclass(frozen=True)
class Benchmark:
    """A dataset of the protocols. All paths are relative to the data root.

    Args:
        name: Name, which is also the name of its folder.
        open: Creates the reader for a data root.
        folders: Folders of images.
        files: Split lists and files of class names.
        num_classes: Number of classes.
        counts: Number of images in each split.
    """

    name: str
    open: Callable[[Path], Source]
    folders: tuple[str, ...]
    files: tuple[str, ...]
    num_classes: int
    counts: Mapping[str, int]

    def layout(self, root: str | Path) -> str:
        """The expected folders and files as text."""
        paths = [str(Path(root) / path) + "/" for path in self.folders]
        paths += [str(Path(root) / path) for path in self.files]
        return " and ".join(filter(None, [", ".join(paths[:-1]), paths[-1]]))


def _with_split_file(
    name: str,
    title: str,
    images: tuple[str, ...],
    num_classes: int,
    counts: tuple[int, int, int],
    image_dir: str | None = None,
) -> Benchmark:
    """A dataset with a ``split_zhou_<title>.json`` beside its folder of images."""
    file = f"{name}/split_zhou_{title}.json"
    prefix = f"{name}/{images[0] if image_dir is None else image_dir}"
    return Benchmark(
        name=name,
        open=partial(SplitFile, file=file, image_dir=prefix.rstrip("/")),
        folders=tuple(f"{name}/{folder}" for folder in images),
        files=(file,),
        num_classes=num_classes,
        counts=dict(zip(("train", "val", "test"), counts, strict=True)),
    )


def _variant(name: str, images: str, num_classes: int, count: int) -> Benchmark:
    return Benchmark(
        name=name,
        open=partial(ImageNetVariant, home=name, images=images),
        folders=(f"{name}/{images}",),
        files=(f"{name}/classnames.txt",),
        num_classes=num_classes,
        counts={"test": count},
    )


_ALL = (
    Benchmark(
        name="imagenet",
        open=ImageNet,
        folders=("imagenet/images/train", "imagenet/images/val"),
        files=("imagenet/classnames.txt",),
        num_classes=1000,
        counts={"train": 1_281_167, "test": 50_000},
    ),
    _with_split_file(
        "caltech-101", "Caltech101", ("101_ObjectCategories",), 100, (4128, 1649, 2465)
    ),
    _with_split_file("oxford_pets", "OxfordPets", ("images",), 37, (2944, 736, 3669)),
    # Its paths begin with cars_train/ and cars_test/.
    _with_split_file(
        "stanford_cars", "StanfordCars", ("cars_train", "cars_test"), 196, (6509, 1635, 8041), ""
    ),
    _with_split_file("oxford_flowers", "OxfordFlowers", ("jpg",), 102, (4093, 1633, 2463)),
    _with_split_file("food-101", "Food101", ("images",), 101, (50_500, 20_200, 30_300)),
    Benchmark(
        name="fgvc_aircraft",
        open=Aircraft,
        folders=("fgvc_aircraft/images",),
        files=(
            "fgvc_aircraft/variants.txt",
            *(f"fgvc_aircraft/images_variant_{split}.txt" for split in ("train", "val", "test")),
        ),
        num_classes=100,
        counts={"train": 3334, "val": 3333, "test": 3333},
    ),
    _with_split_file("sun397", "SUN397", ("SUN397",), 397, (15_880, 3970, 19_850)),
    _with_split_file("dtd", "DescribableTextures", ("images",), 47, (2820, 1128, 1692)),
    _with_split_file("eurosat", "EuroSAT", ("2750",), 10, (13_500, 5400, 8100)),
    _with_split_file("ucf101", "UCF101", ("UCF-101-midframes",), 101, (7639, 1898, 3783)),
    Benchmark(
        name="imagenetv2",
        open=ImageNetV2,
        folders=("imagenetv2/imagenetv2-matched-frequency-format-val",),
        files=("imagenetv2/classnames.txt",),
        num_classes=1000,
        counts={"test": 10_000},
    ),
    _variant("imagenet-sketch", "images", 1000, 50_889),
    _variant("imagenet-adversarial", "imagenet-a", 200, 7500),
    _variant("imagenet-rendition", "imagenet-r", 200, 30_000),
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({each.name: each for each in _ALL})
"""By name, in the order of the papers' tables; the four variants are last."""
