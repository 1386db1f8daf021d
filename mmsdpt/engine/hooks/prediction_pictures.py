"""Pictures of what a classifier predicts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from mmsdpt.datasets.classification.transforms import LoadPillowImage
from mmsdpt.registry import HOOKS


@HOOKS.register_module()
class PredictionPicturesHook(Hook):
    """Draw the true and the predicted class on test images.

    MMPreTrain's ``VisualizationHook`` draws on what enters the model: a crop of 224 pixels or fewer
    with red and blue swapped, as its pipelines load BGR. And it names pictures by the file's name
    alone, so that images of one name in different folders overwrite each other. This one draws on
    the whole image file, and keeps the dataset's folders.

    Args:
        out_dir: Folder for the pictures, ``<path below the dataset's folder>.png``. None: none are
            written.
        show: Whether to show them in a window.
        wait_time: Seconds between pictures that are shown.
        edge: Short edge of the pictures in pixels.
        interval: Draw every so many images.
    """

    def __init__(
        self,
        out_dir: str | None = None,
        show: bool = False,
        wait_time: float = 2.0,
        edge: int = 320,
        interval: int = 1,
    ) -> None:
        self.out_dir, self.show, self.wait_time = out_dir, show, wait_time
        self.edge, self.interval = edge, interval
        self._load = LoadPillowImage()
        self._seen = 0

    def before_test(self, runner: Runner) -> None:
        self._seen = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Draw the samples of a batch."""
        if self.out_dir is None and not self.show:
            return
        root = Path(getattr(runner.test_dataloader.dataset, "data_root", None) or ".").expanduser()
        visualizer = cast(UniversalVisualizer, Visualizer.get_current_instance())
        inputs = data_batch["inputs"]
        for image, sample in zip(inputs, outputs or (), strict=True):
            self._seen += 1
            if (self._seen - 1) % self.interval:
                continue
            path = sample.get("img_path")
            if path is None:
                name = f"{self._seen:06d}"
                bgr = image.permute(1, 2, 0).cpu().numpy().astype(np.uint8)
            else:
                name = path_below(Path(path), root)
                bgr = self._load.transform(dict(img_path=path))["img"]
            visualizer.visualize_cls(
                bgr[..., ::-1],
                sample,
                resize=self.edge,
                show=self.show,
                wait_time=self.wait_time,
                out_file=None if self.out_dir is None else str(Path(self.out_dir, f"{name}.png")),
                name=name,
            )


def path_below(path: Path, root: Path) -> str:
    """The path below the root, links not followed; of a file elsewhere, its name."""
    try:
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(root)).as_posix()
    except ValueError:
        return path.name
