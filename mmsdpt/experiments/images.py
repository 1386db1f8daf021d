"""Datasets built once, with images cached in memory, as cells read the same images repeatedly."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import Dataset

from mmsdpt.engine.data_checks import use_own_image_loader
from mmsdpt.engine.feature_cache import FeatureCacheSettings
from mmsdpt.registry import DATASETS, TRANSFORMS
from mmsdpt.utils.data_files import check_dataset_files, dataset_configs, joined, loads_image
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.feature_store import FeatureStore

_BUDGET = 1 << 30
# What the toolboxes read of each entry of a COCO file.
_OF_ENTRIES = {
    *("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    *("file_name", "width", "height", "name"),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Print nothing, and log nothing below errors."""
    before = logging.root.manager.disable
    _disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        _disable(before)


def _disable(level: int) -> None:
    """Disable logging up to a level, including MMEngine's loggers, which logging does not know."""
    logging.disable(level)
    for logger in MMLogger._instance_dict.values():
        logger._cache.clear()


def _as_key(cfg: Any) -> str:
    """A config as text; equal configs give the same text."""
    return json.dumps(cfg, sort_keys=True, default=str)


class LoadOnce:
    """A loading transform that caches decoded images, as far as memory allows.

    Args:
        cfg: Config of the transform; images are cached separately for different settings.
    """

    def __init__(self, cfg: Mapping[str, Any], cache: DatasetCache) -> None:
        self.load, self.kind, self.cache = TRANSFORMS.build(dict(cfg)), _as_key(cfg), cache

    def __call__(self, results: dict) -> dict:
        key = self.kind, results["img_path"]
        added = self.cache.decoded.get(key)
        if added is None:
            loaded = self.load(dict(results))
            added = {name: loaded[name] for name in loaded if name not in results}
            if self.cache.take(added["img"].nbytes):
                self.cache.decoded[key] = added
        # A copy of the pixels, as transforms may modify them.
        return {**results, **added, "img": added["img"].copy()}

    def __deepcopy__(self, memo: dict) -> LoadOnce:
        return self


class TestImages:
    """A test set, run through its pipeline only once if it fits in memory.

    Attributes:
        features: Cache for pooled image features (N, e) of models without tuners, by a digest of
            the model.
    """

    __test__ = False  # not a test class for pytest

    def __init__(self, loader: Mapping[str, Any], dataset: Dataset, cache: DatasetCache) -> None:
        self.loader, self.dataset, self.cache = loader, dataset, cache
        self.features: dict[str, Tensor] = {}
        self._kept: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, pixels: bool = True) -> Iterator[dict[str, Any]]:
        """Batches of ``inputs`` and ``data_samples``; the samples are copies.

        Args:
            pixels: Whether to include ``inputs``; without them, samples have only ``gt_label``.
        """
        if not pixels:
            labels = torch.as_tensor(self.dataset.get_gt_labels())
            for part in labels.split(self.loader["batch_size"]):
                yield dict(data_samples=[DataSample().set_gt_label(x) for x in part.tolist()])
            return
        if self._kept:
            for batch in self._kept:
                yield dict(batch, data_samples=copy.deepcopy(batch["data_samples"]))
            return
        seen: list[dict[str, Any]] = []
        taken, fits = 0, True
        try:
            for batch in Runner.build_dataloader(dict(self.loader, dataset=self.dataset)):
                size = sum(image.nbytes for image in batch["inputs"])
                if fits := fits and self.cache.take(size):
                    taken += size
                    seen.append(dict(batch, data_samples=copy.deepcopy(batch["data_samples"])))
                else:
                    seen.clear()
                yield batch
            if fits:
                self._kept, taken = seen, 0
        finally:
            self.cache.left += taken  # nothing is kept


class DatasetCache:
    """Datasets by their configs, built once, with their images in memory if they fit.

    Args:
        keep_images: Whether to cache images. Data loader processes do not.
    """

    def __init__(self, keep_images: bool = True) -> None:
        self.left = _BUDGET if keep_images else 0
        self.keep_images = keep_images
        self.decoded: dict[tuple[str, str], dict[str, Any]] = {}
        self._made: dict[tuple[str, str], Any] = {}

    def _once(self, what: str, cfg: Any, make: Callable[[], Any]) -> Any:
        """Call ``make`` for a config at the first request, and cache the result."""
        key = what, _as_key(cfg)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def feature_store(self, cfg: Any) -> FeatureStore:
        """The store of a ``feature_cache``, shared by all cells with the same settings."""
        return self._once("features", cfg, lambda: FeatureCacheSettings.of(cfg).store())

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes; False if there is no room."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits

    def dataset(self, cfg: Mapping[str, Any]) -> Dataset:
        """The dataset of a config.

        Raises:
            InputError: if its files are missing, or entries of a COCO file are incomplete.
        """
        return self._once("dataset", cfg, lambda: self._build(copy.deepcopy(cfg)))

    def _build(self, cfg: Mapping[str, Any]) -> Dataset:
        check_dataset_files(cfg)
        use_own_image_loader(cfg)
        try:
            with quiet():
                return DATASETS.build(self._prepared(cfg))
        except KeyError as error:
            if error.args[0] not in _OF_ENTRIES:
                raise
            files = [
                joined(each.get("data_root") or "", each["ann_file"])
                for each in dataset_configs(cfg)
                if each.get("ann_file")
            ]
            raise InputError(
                f"an entry of {' or '.join(files)} has no {error.args[0]!r}, which a study needs:"
                " tools/dataset_converters/coco2coco.py writes a complete copy"
            ) from None

    def test_images(self, loader: Mapping[str, Any]) -> TestImages:
        """The images of a test set; the sentences around its class names do not matter."""
        cfg = {key: value for key, value in loader["dataset"].items() if key != "template"}
        loader = dict(loader, dataset=cfg)
        return self._once("test", loader, lambda: TestImages(loader, self.dataset(cfg), self))

    def digest(self, cfg: Mapping[str, Any]) -> str:
        """SHA-256 of a dataset's annotations and the names and sizes of its images; it does not
        depend on the location of the folder.
        """
        return self._once("digest", cfg, lambda: _digest(self.dataset(cfg)))

    def _prepared(self, cfg: Any) -> Any:
        """The config with a loading transform that caches decoded images."""
        if isinstance(cfg, (list, tuple)):
            return [self._prepared(each) for each in cfg]
        if not isinstance(cfg, Mapping) or not self.keep_images:
            return cfg
        made = {
            key: self._prepared(value) if key in ("dataset", "datasets") else value
            for key, value in cfg.items()
        }
        pipeline = list(cfg.get("pipeline") or ())
        if pipeline and loads_image(pipeline[0]):
            pipeline[0] = LoadOnce(pipeline[0], self)
            # Only data loader processes need the list of images as one block of memory, and
            # creating it takes a full garbage collection.
            made.update(pipeline=pipeline, serialize_data=False)
        return made


def _digest(dataset: Dataset) -> str:
    found = hashlib.sha256(repr(dataset.metainfo.get("classes")).encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        info.pop("sample_idx", None)
        path = info.get("img_path", "")
        size = os.path.getsize(path) if os.path.isfile(path) else None
        info["img_path"] = os.path.basename(path)
        found.update(json.dumps([size, info], sort_keys=True, default=str).encode())
    return found.hexdigest()
