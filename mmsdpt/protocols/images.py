"""Images kept in memory: the same few are read again and again, in every epoch of every cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import Dataset

from mmsdpt.registry import DATASETS, TRANSFORMS

_LOADERS = ("LoadPillowImage", "LoadImageFromFile")


class Budget:
    """Memory that may be used for keeping images, in bytes."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.left = limit

    def take(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes more, which are then taken."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


class DecodedImages:
    """Images by path, decoded once as far as the budget goes. Copies share them."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._found: dict[str, dict[str, Any]] = {}

    def lookup(self, path: str, load: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What loading the image adds to the results."""
        if path in self._found:
            return dict(self._found[path])
        added = load()
        if self.budget.take(added["img"].nbytes):
            self._found[path] = dict(added)
        return added

    def __deepcopy__(self, memo: dict) -> DecodedImages:
        return self


class LoadOnce:
    """A loading transform that decodes an image at its first use.

    The transforms behind it get the same array every time, so they must not write into it; those of
    the protocols crop, resize and flip into new ones.
    """

    def __init__(self, load: Callable[[dict], dict], images: DecodedImages) -> None:
        self.load, self.images = load, images

    def __call__(self, results: dict) -> dict:
        before = set(results)

        def added() -> dict[str, Any]:
            loaded = self.load(dict(results))
            return {key: value for key, value in loaded.items() if key not in before}

        return {**results, **self.images.lookup(results["img_path"], added)}


class TestImages:
    """A test set, run through its pipeline once.

    Args:
        loader: Config of the data loader.
        dataset: The dataset.
        budget: Of the memory for keeping the pixels.

    Attributes:
        labels: (N,).
        features: (N, e), for the one who computes them to keep: the pooled image features of the
            model without tuners.
    """

    __test__ = False  # pytest takes it for tests

    def __init__(self, loader: Mapping[str, Any], dataset: Dataset, budget: Budget) -> None:
        self.loader, self.dataset, self.budget = loader, dataset, budget
        self.features: Tensor | None = None
        self._kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> Tensor:
        return torch.as_tensor(self.dataset.get_gt_labels())

    def samples(self) -> Iterator[list[DataSample]]:
        """Batches of samples with ``gt_label`` alone."""
        for labels in self.labels.split(self.loader["batch_size"]):
            yield [DataSample().set_gt_label(label) for label in labels.tolist()]

    def batches(self) -> Iterator[dict[str, Any]]:
        """Batches of ``inputs`` (B, 3, H, W), uint8, and ``data_samples`` with ``gt_label``."""
        if self._kept is not None:
            parts = self._kept.split(self.loader["batch_size"])
            for inputs, samples in zip(parts, self.samples(), strict=True):
                yield dict(inputs=inputs, data_samples=samples)
            return
        seen: list[Tensor] = []
        keep: bool | None = None
        for batch in Runner.build_dataloader(dict(self.loader, dataset=self.dataset)):
            if keep is None:
                keep = self.budget.take(batch["inputs"][0].nbytes * len(self))
            if keep:
                seen.append(batch["inputs"])
            yield batch
        if keep:
            self._kept = torch.cat(seen)


class DataShelf:
    """Datasets by their configs, built once, with their images in memory where those fit.

    Args:
        keep_images: Whether images are kept. Processes that load images keep none.
    """

    def __init__(self, keep_images: bool) -> None:
        self.budget = Budget()
        self.images = DecodedImages(self.budget) if keep_images else None
        self._datasets: dict[str, Dataset] = {}
        self._tests: dict[str, TestImages] = {}

    def dataset(self, cfg: Mapping[str, Any]) -> Dataset:
        """The dataset of a config."""
        key = _key(cfg)
        if key not in self._datasets:
            pipeline = list(cfg.get("pipeline", ()))
            if self.images is not None and pipeline and _loads(pipeline[0]):
                pipeline[0] = LoadOnce(TRANSFORMS.build(dict(pipeline[0])), self.images)
            self._datasets[key] = self._build(dict(cfg, pipeline=pipeline))
        return self._datasets[key]

    def test_images(self, loader: Mapping[str, Any]) -> TestImages:
        """The images of a test set; its sentences do not count."""
        cfg = {key: value for key, value in loader["dataset"].items() if key != "template"}
        key = _key(cfg)
        if key not in self._tests:
            self._tests[key] = TestImages(loader, self._build(cfg), self.budget)
        return self._tests[key]

    def _build(self, cfg: Mapping[str, Any]) -> Dataset:
        # Only processes that load images need the list of images as one block of memory, and
        # making it takes a full garbage collection.
        serialize = {} if self.images is None else {"serialize_data": False}
        return DATASETS.build({**serialize, **cfg})


def _loads(step: Any) -> bool:
    return isinstance(step, Mapping) and str(step.get("type")).rpartition(".")[2] in _LOADERS


def _key(cfg: Mapping[str, Any]) -> str:
    return json.dumps(cfg, sort_keys=True, default=str)
