"""MMPreTrain dataset of classification data for CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from mmpretrain.datasets import BaseDataset

from mmsdpt.registry import DATASETS
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.templates import checked_templates, default_template

from .benchmarks import BENCHMARKS
from .class_folders import ClassFolders
from .items import SPLITS, Item
from .source import Source
from .subsets import Subset, sample_few_shot, select_classes
from .tables import CsvFile, JsonFile

OWN_DATA: dict[str, Callable[..., Source]] = {
    "folder": ClassFolders,
    "csv": CsvFile,
    "json": JsonFile,
}
DOCS = "docs/classification_data.md"


@DATASETS.register_module()
class ClassificationData(BaseDataset):
    """A benchmark of the protocols, or your own images, in full or with K images per class.

    Its metainfo has ``classes``, the names that CLIP reads (with ``_`` replaced by a space), and
    ``template``, the sentence around them. Each item has ``img_path`` and ``gt_label``.

    As in the protocols, shots are drawn over all classes before base or new ones are selected.

    Args:
        name: One of :data:`BENCHMARKS`, or ``folder``, ``csv`` or ``json``.
        data_root: Folder of the data; for a benchmark also its parent folder.
        split: ``train``, ``val`` or ``test``. ImageNet has no validation images: with shots, its
            val are other training images, so that selection on val does not use test images;
            without shots, and for the variants of ImageNet, val is test, as in CoOp.
        shots: K images per class of train and min(K, 4) of val; None: all. The test set is always
            complete.
        seed: Seed of the shots.
        classes: ``all``, ``base`` (first half) or ``new``; labels count from 0 within each.
        template: A sentence with ``{}`` for the class, or several for an ensemble. None: the
            dataset's own.
        image_size: Side of the images in pixels. It replaces the word ``"image_size"`` in the
            settings of ``pipeline``, so that a config sets it once.
        file: The file of ``csv`` and ``json``, relative to ``data_root``.
        image_dir: Folder that the paths in ``file`` are relative to, itself relative to
            ``data_root``.
        fractions: Fractions of train, val and test for your own data without splits.
        split_seed: Seed of that split.
        check_images: Leave out unreadable images of your own data, with a warning.
        **kwargs: ``serialize_data``, ``test_mode``, ``indices`` and ``max_refetch`` of MMEngine's
            ``BaseDataset``.

    Raises:
        InputError: if a setting is invalid, or a folder, a file or a listed image is missing.
    """

    def __init__(
        self,
        name: str,
        data_root: str = "data/",
        split: Literal["train", "val", "test"] = "train",
        *,
        shots: int | None = None,
        seed: int = 1,
        classes: Subset = "all",
        template: str | Sequence[str] | None = None,
        image_size: int = 224,
        file: str | None = None,
        image_dir: str = "",
        fractions: Sequence[float] = (0.5, 0.2, 0.3),
        split_seed: int = 0,
        check_images: bool = True,
        pipeline: Sequence[Any] = (),
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        _require("name", name, (*BENCHMARKS, *OWN_DATA))
        _require("split", split, SPLITS)
        _require("classes", classes, ("all", "base", "new"))
        if shots is not None and (isinstance(shots, bool) or not isinstance(shots, int)):
            raise InputError(
                f"shots must be a positive integer or None (all images), got {shots!r}"
            )
        if shots is not None and shots < 1:
            raise InputError(f"shots must be at least 1, or None for all images, got {shots}")
        if name in ("csv", "json") and not file:
            raise InputError(f"name={name!r} needs file=, relative to data_root={data_root!r}")
        self.name = name
        self.split = split
        self.shots = shots
        self.seed = seed
        self.subset = classes
        self.image_size = image_size
        if name in BENCHMARKS:
            root = Path(data_root).expanduser()
            if root.name == name and root.is_dir() and not (root / name).is_dir():
                root = root.parent  # the folder of the benchmark, as for other data
            self.source = BENCHMARKS[name].open(root)
        else:
            where = {} if name == "folder" else {"file": file, "image_dir": image_dir}
            self.source = OWN_DATA[name](
                Path(data_root).expanduser(),
                fractions=tuple(fractions),
                split_seed=split_seed,
                check_images=check_images,
                **where,
            )
        super().__init__(
            ann_file="",
            data_root=str(data_root),
            pipeline=[_with_size(step, image_size) for step in pipeline],
            lazy_init=True,
            **kwargs,
        )
        # Not with the argument metainfo: MMEngine would look for a file of that name.
        template = default_template(name) if template is None else template
        sentences = list(checked_templates(template))
        self._metainfo["template"] = template if isinstance(template, str) else sentences
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Read the items, draw shots and select classes; sets ``classes`` in the metainfo."""
        try:
            items, names = self._select()
        except InputError as error:
            raise InputError(self._explained(str(error))) from error
        self._metainfo["classes"] = tuple(name.replace("_", " ") for name in names)
        root = self.source.root
        return [{"img_path": str(root / item.path), "gt_label": item.label} for item in items]

    def _select(self) -> tuple[list[Item], tuple[str, ...]]:
        source = self.source
        if self.shots is None or self.split == "test" or not source.has_train:
            items = source.items(self.split)
        else:
            # Validation shots continue the random numbers of the training shots. For other splits
            # val need not be read.
            train = source.items("train")
            val: list[Item] | None = []
            if self.split == "val":
                val = source.items("val") if source.has_val else None
            drawn = sample_few_shot(train, val, self.shots, self.seed)
            items = drawn[0] if self.split == "train" else drawn[1]
        items, names = select_classes(items, source.class_names(), self.subset)
        if not items:
            why = ""
            if self.split == "val" and not source.has_val:
                why = (
                    f": no training images are left after shots={self.shots}; draw fewer, or set"
                    " val_dataloader, val_cfg and val_evaluator to None"
                )
            raise InputError(
                f"{self.name} has no {self.split} images of classes={self.subset!r} in "
                f"{source.root}{why}"
            )
        if source.lists_images:
            self._check_files(items)
        return items, names

    def _check_files(self, items: Sequence[Item]) -> None:
        missing = [item.path for item in items if not (self.source.root / item.path).is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(items)} {self.split} images are missing, such as "
                f"{self.source.root / missing[0]}"
            )

    def _explained(self, sentence: str) -> str:
        """The sentence with the expected layout and where to learn more."""
        root = self.source.root
        if self.name in BENCHMARKS:
            layout = BENCHMARKS[self.name].layout(root)
            return (
                f"{sentence}; {self.name} needs {layout} ({DOCS}); 'python tools/data_doctor.py "
                f"--data-root {root} --datasets {self.name}' lists the problems"
            )
        return f"{sentence} (name={self.name!r}, data_root={self.data_root!r}; see {DOCS})"

    def extra_repr(self) -> list[str]:
        """Lines of ``repr``."""
        shots = "all" if self.shots is None else f"{self.shots} shots, seed {self.seed}"
        return [
            f"Data: \t{self.name} in {self.source.root}",
            f"Split: \t{self.split}, {shots}, classes {self.subset}",
            f"Template: \t{self._metainfo['template']}",
        ]


def _require(argument: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"unknown {argument}={value!r}; expected one of {', '.join(allowed)}")


def _with_size(step: Any, image_size: int) -> Any:
    """A transform's config with its size filled in."""
    if not isinstance(step, dict):
        return step
    return {key: image_size if value == "image_size" else value for key, value in step.items()}
