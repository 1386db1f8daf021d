"""Models with and without tuners, and images with ground truth, for visualization."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from mmsdpt.apis.recipe import Recipe
from mmsdpt.datasets.classification.images import images_to_predict
from mmsdpt.engine.data_checks import prepare_data, use_own_image_loader
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.cli import name_and_path, own_name
from mmsdpt.utils.data_files import missing_files
from mmsdpt.utils.errors import InputError, printable

BEFORE = "before"


def split_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split arguments into tuners (``[NAME=]TUNER.safetensors``) and images or folders, in any
    order.

    Returns:
        Tuner files by name (default: the method's name), and the images; those of a folder are
        sorted.

    Raises:
        InputError: if something does not exist, or two tuner files have the same name.
    """
    tuners: dict[str, str] = {}
    images: list[str] = []
    for argument in arguments:
        if argument.endswith(".safetensors"):
            name, path = name_and_path(argument)
            if name is None:
                name = printable(read_tuner_header(path).get("method"))
            tuners[own_name(name, path, {BEFORE: "", **tuners})] = path
        elif argument.endswith(".pth"):
            raise InputError(
                f"{argument} is a checkpoint of a run: give its tuner.safetensors instead"
            )
        elif os.path.isdir(argument):
            images += [os.path.join(argument, name) for name in images_to_predict(argument)]
        elif os.path.isfile(argument):
            images.append(argument)
        else:
            raise InputError(f"not found: {argument}; give images, folders or *.safetensors files")
    return tuners, images


def each_model(
    cfg: Config, tuners: Mapping[str, str], classes: Sequence[str]
) -> Iterator[tuple[str, nn.Module]]:
    """Name and model of each tuner, the last one first, and finally ``before``, without tuners.
    Only one model is in memory at a time. A classifier has the templates of its tuner file, and
    without tuners those of the config, as in a test.
    """

    def model(file: str | None) -> nn.Module:
        recipe = Recipe.of_one(cfg, file)
        host = recipe.build()
        set_classes(host, recipe)
        return host.to(get_device()).eval()

    def set_classes(host: nn.Module, recipe: Recipe) -> None:
        if hasattr(host, "set_classes"):
            host.set_classes(classes, recipe.templates)

    for name in list(tuners)[:0:-1]:
        yield name, model(tuners[name])
    first = next(iter(tuners), None)
    host = model(None if first is None else tuners[first])
    if first is not None:
        yield first, host
        set_classes(host, Recipe.of_one(cfg, None))
    with host.tuners_off():
        yield BEFORE, host


@dataclass(frozen=True)
class Picture:
    """An image prepared for a model.

    Attributes:
        name: Its path relative to the folder of the data, or its name.
        path: Its file.
        item: Output of the pipeline: ``inputs`` and ``data_samples``.
        has_truth: Whether the sample has ground truth.
    """

    name: str
    path: str
    item: dict[str, Any]
    has_truth: bool

    def batch(self, host: nn.Module) -> tuple[torch.Tensor, Any]:
        """The image (1, 3, H, W) and its data sample, ready for the model."""
        sample = copy.deepcopy(self.item["data_samples"])  # the model writes into it
        data = dict(inputs=self.item["inputs"][None], data_samples=[sample])
        data = host.data_preprocessor(data, training=False)
        # MMDetection calls it inputs, MMPreTrain images.
        return data["inputs" if "inputs" in data else "images"], data["data_samples"][0]


class Pictures:
    """Images of the test data, or other images, with the test pipeline of a config.

    Args:
        cfg: A config with ``test_dataloader``. If its data are missing, images have no ground
            truth.
        words: Additional classes to detect.
    """

    def __init__(self, cfg: Config, words: Sequence[str] = ()) -> None:
        init_default_scope(cfg.get("default_scope", "mmdet"))
        dataset = cfg.test_dataloader.dataset
        use_own_image_loader(dataset)
        self.captions = dataset.get("caption_prompt")
        self.detects = cfg.get("default_scope") != "mmpretrain"
        self._error: Exception | None = None
        self._known: dict[str, int] = {}
        loader = dict(dataset=copy.deepcopy(dataset))
        try:
            with TemporaryDirectory() as folder:  # as a test reads them
                prepare_data({"test": loader}, {}, folder, max_inspected=0)
                self.dataset = DATASETS.build(loader["dataset"])
            self.classes = tuple(self.dataset.metainfo["classes"])
            self.pipeline = self.dataset.pipeline
        except (InputError, OSError) as error:
            named = (dataset.get("metainfo") or {}).get("classes")
            if not self.detects or not named or not missing_files(dataset):
                raise
            self._error, self.dataset = error, []
            self.classes = tuple(dataset.metainfo.classes)
            self.pipeline = Compose(dataset.pipeline)
        for i in range(len(self.dataset)):
            path = self.dataset.get_data_info(i)["img_path"]
            self._known.setdefault(os.path.realpath(path), i)
        self.words = self.classes + tuple(word for word in words if word not in self.classes)
        if words and not self.detects and len(self.words) > len(self.classes):
            raise InputError(
                f"the data has no class {self.words[len(self.classes)]!r}; it has:"
                f" {', '.join(self.classes)}"
            )

    def choose(self, paths: Sequence[str], count: int) -> list[Picture]:
        """The images of these paths; if there are none, ``count`` evenly spaced images of the test
        data. An image that cannot be read is reported and left out.

        Raises:
            InputError: if there are neither paths nor data, or no image can be read.
        """
        if not paths:
            if not len(self.dataset):
                raise InputError(
                    f"give images, as there is no test data ({self._error or 'it is empty'})"
                )
            count = min(count, len(self.dataset))
            indices = [len(self.dataset) * i // count for i in range(count)]
            paths = [self.dataset.get_data_info(i)["img_path"] for i in indices]
        parents = [os.path.dirname(os.path.abspath(path)) for path in paths]
        root = os.path.commonpath(parents)
        found = []
        for path in paths:
            try:
                found.append(self._picture(path, os.path.relpath(path, root)))
            except InputError as error:
                if len(paths) == 1:
                    raise
                print_log(f"Left out: {printable(error, 1000)}", "current", logging.WARNING)
        if not found:
            raise InputError(f"none of the {len(paths)} images can be read")
        return found

    def _picture(self, path: str, name: str) -> Picture:
        index = self._known.get(os.path.realpath(path))
        if index is not None:
            item = self.dataset[index]
        else:
            info = dict(img_path=path, img_id=0, instances=[])
            if self.detects:
                info.update(text=self.classes, custom_entities=True)
                if self.captions:
                    info["caption_prompt"] = self.captions
            item = self.pipeline(info)
        if self.detects:
            item["data_samples"].set_metainfo(dict(text=self.words, custom_entities=True))
        return Picture(name, path, item, index is not None)
