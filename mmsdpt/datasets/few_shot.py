"""Few-shot subsets after GLIP's protocol (Li et al. 2022, ODinW)."""

import copy
import logging
import random
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn

from mmengine.dataset import BaseDataset, force_full_init
from mmengine.logging import print_log

from mmsdpt.registry import DATASETS


class FewShotSchedule(NamedTuple):
    """Length of a run: maximum number of epochs, and copies of the selection per epoch."""

    epochs: int
    copies: int


ODINW_SCHEDULE: Mapping[int, FewShotSchedule] = MappingProxyType(
    {
        1: FewShotSchedule(200, 8),
        3: FewShotSchedule(200, 4),
        5: FewShotSchedule(200, 2),
        10: FewShotSchedule(200, 1),
        0: FewShotSchedule(200, 1),
    }
)
"""GLIP's schedules on ODinW by number of shots; 0 is the full data."""

ODINW_SEEDS = (3, 30, 300)
"""Seeds over which GLIP reports means."""


@DATASETS.register_module()
class FewShotDataset:
    """A few images per category, chosen by seed, each ``copies`` times.

    The protocol: sort the image ids, shuffle them with ``random.Random(seed)``, then walk through
    them and keep an image if any of its categories still needs shots. Every kept image counts for
    all of its categories, so frequent categories end up with more than ``shots``; a category that
    is too rare keeps all of its images, with a warning.

    Two details that the paper leaves open follow GLIP's released code
    (``maskrcnn_benchmark``, ``coco.py``):

    - A shot is an *image* that holds the category, however many of its boxes it has (the ``set``
      of category ids in that code). ``count="box"`` counts boxes instead (the ``tuple`` of that
      code's comment).
    - Images without a box, or only with boxes of at most one pixel in width or height, are removed
      before the shuffle, so that they do not affect its order. Boxes that training ignores
      (``ignore_flag``) do not count as shots.

    The selection depends only on ids, labels and seed, not on the order of the annotation file.

    Args:
        dataset: The dataset to choose from (an MMEngine ``BaseDataset``) or its config.
        shots: Shots per category; 0 keeps the full data in its own order.
        copies: How many times an epoch holds the selection (``ODINW_SCHEDULE``).
        seed: Seed of the shuffle (``ODINW_SEEDS``); None keeps the sorted order, as seed 0 does in
            GLIP.
        count: What a shot is, ``"image"`` or ``"box"``.
        max_images: Stop after this many images, if given.

    Raises:
        TypeError: if ``dataset`` is neither of the two; wrap the parts of a concatenated dataset
            one by one.
        ValueError: if a number is out of range, or no image can be chosen.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict[str, Any],
        shots: int,
        copies: int = 1,
        seed: int | None = 3,
        count: Literal["image", "box"] = "image",
        max_images: int | None = None,
        lazy_init: bool = False,
    ) -> None:
        for name, value, least in (
            ("shots", shots, 0),
            ("copies", copies, 1),
            ("max_images", max_images, 1),
        ):
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(
                    f"FewShotDataset needs {name} to be an integer of at least {least}, got"
                    f" {value!r}."
                )
        if count not in ("image", "box"):
            raise ValueError(f"FewShotDataset counts shots by 'image' or 'box', got {count!r}.")
        built = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not isinstance(built, BaseDataset):
            raise TypeError(
                f"FewShotDataset wraps a BaseDataset or its config, got {type(built).__name__}; "
                "wrap each plain dataset first, then concatenate or repeat."
            )
        self.dataset: BaseDataset = built
        self.shots = shots
        self.copies = copies
        self.seed = seed
        self.count = count
        self.max_images = max_images
        self._metainfo = self.dataset.metainfo
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """A copy of the wrapped dataset's meta information."""
        return copy.deepcopy(self._metainfo)

    def full_init(self) -> None:
        """Loads the annotations and chooses the images."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        infos = [self.dataset.get_data_info(i) for i in range(len(self.dataset))]
        chosen = self._choose(infos)
        if not chosen:
            raise ValueError(
                f"FewShotDataset found no image with a box among {len(infos)}; check the data and"
                " filter_cfg."
            )
        self._log([infos[i] for i in chosen], len(infos))
        if self.shots or self.max_images:
            # A subset, not a list of indices: BaseDataset.__getitem__ replaces a broken image by a
            # random other one of its own, which must not come from outside the selection.
            self.dataset = self.dataset.get_subset(chosen)
        self._fully_initialized = True

    def _choose(self, infos: list[dict[str, Any]]) -> list[int]:
        """Returns the indices of the chosen images, in the order in which they were chosen."""
        if self.shots == 0:
            return list(range(len(infos)))[: self.max_images]
        order = [i for i in range(len(infos)) if _has_box(infos[i])]
        order.sort(key=lambda i: _sort_key(infos[i]))
        if self.seed is not None:
            random.Random(self.seed).shuffle(order)
        met: Counter[int] = Counter()
        chosen: list[int] = []
        for i in order:
            if len(chosen) == self.max_images:
                break
            labels = _labels(infos[i])
            if any(met[label] < self.shots for label in labels):
                chosen.append(i)
                met.update(set(labels) if self.count == "image" else labels)
        return chosen

    def _log(self, chosen: list[dict[str, Any]], total: int) -> None:
        boxes: Counter[int] = Counter()
        images: Counter[int] = Counter()
        for info in chosen:
            labels = _labels(info)
            boxes.update(labels)
            images.update(set(labels))
        names = self._metainfo.get("classes") or [
            str(label) for label in range(max(boxes, default=-1) + 1)
        ]
        table = ", ".join(f"{name} {images[k]}/{boxes[k]}" for k, name in enumerate(names))
        print_log(
            f"FewShotDataset: {len(chosen)} of {total} images (shots={self.shots},"
            f" seed={self.seed}, count={self.count}, copies={self.copies}); images/boxes per class:"
            f" {table}",
            logger="current",
        )
        have = images if self.count == "image" else boxes
        short = [f"{name} {have[k]}" for k, name in enumerate(names) if have[k] < self.shots]
        if short:
            unit = "images" if self.count == "image" else "boxes"
            print_log(
                f"FewShotDataset: fewer than {self.shots} {unit} were found for:"
                f" {', '.join(short)}",
                logger="current",
                level=logging.WARNING,
            )

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the annotation of item ``idx`` of ``len(self)``."""
        return self.dataset.get_data_info(self._inner(idx))

    @force_full_init
    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the labels of the boxes of item ``idx``, one per box."""
        return self.dataset.get_cat_ids(self._inner(idx))

    @force_full_init
    def __len__(self) -> int:
        return self.copies * len(self.dataset)

    @force_full_init
    def __getitem__(self, idx: int) -> Any:
        return self.dataset[self._inner(idx)]

    def _inner(self, idx: int) -> int:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"index {idx} is out of range for {len(self)} items")
        return idx % len(self.dataset)

    def get_subset_(self, indices: Any) -> NoReturn:
        """Not supported, as in MMEngine's dataset wrappers."""
        raise NotImplementedError(
            "FewShotDataset has no subsets; set max_images, or indices of the wrapped dataset."
        )

    get_subset = get_subset_


def _sort_key(info: dict[str, Any]) -> tuple[bool, int | str, str]:
    """Order of image ids, all integers or all strings; the path tells apart images that share
    one.
    """
    return isinstance(info["img_id"], str), info["img_id"], info.get("img_path", "")


def _labels(info: dict[str, Any]) -> list[int]:
    """Returns the labels of the boxes that are trained on, one per box."""
    return [box["bbox_label"] for box in info["instances"] if not box.get("ignore_flag", 0)]


def _has_box(info: dict[str, Any]) -> bool:
    """Whether a box that is trained on is over one pixel wide and high
    (``has_valid_annotation``).
    """
    boxes = [box["bbox"] for box in info["instances"] if not box.get("ignore_flag", 0)]
    return any(x2 - x1 > 1 and y2 - y1 > 1 for x1, y1, x2, y2 in boxes)
