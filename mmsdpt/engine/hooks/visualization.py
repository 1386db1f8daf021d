"""Pictures of predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from mmsdpt.registry import HOOKS
from mmsdpt.utils.data_files import innermost_datasets
from mmsdpt.visualization import (
    Boxes,
    Entry,
    contact_sheet,
    draw_detections,
    draw_scores,
    match_boxes,
)
from mmsdpt.visualization.single import read_upright


# The second name is that of version 0.1.
@HOOKS.register_module(name=["VisualizationHook", "PredictionPicturesHook"])
class VisualizationHook(Hook):
    """Draw predictions and ground truth on test images, and a contact sheet of all pictures.

    For detectors and classifiers. The toolboxes' hooks use only the file name, so images of the
    same name in different folders overwrite each other; this hook keeps the dataset's folders, and
    draws on the original image.

    Args:
        out_dir: Folder for the pictures, ``<path below the dataset's folder>.png``, and
            ``index.html``, the worst predictions first. None: nothing is written.
        show: Whether to show them in a window.
        wait_time: Seconds between pictures in the window.
        interval: Draw every n-th image.
        score_thr: Minimum score of a box.
        top_k: Maximum number of boxes, or of classes, per image.
    """

    def __init__(
        self,
        out_dir: str | None = None,
        show: bool = False,
        wait_time: float = 2.0,
        interval: int = 1,
        score_thr: float = 0.3,
        top_k: int | None = None,
    ) -> None:
        self.out_dir, self.show, self.wait_time = out_dir, show, wait_time
        self.interval, self.score_thr, self.top_k = interval, score_thr, top_k
        self.before_test(None)

    def before_test(self, runner: Runner | None) -> None:
        self._seen = 0
        self._entries: list[Entry] = []
        self._paths: dict[str, str] = {}  # image by name of its picture

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Draw the samples of a batch."""
        if self.out_dir is None and not self.show:
            return
        dataset = runner.test_dataloader.dataset
        roots = [_folder(part) for part in innermost_datasets(dataset)]
        for image, sample in zip(data_batch["inputs"], outputs or (), strict=True):
            self._seen += 1
            if (self._seen - 1) % self.interval:
                continue
            path = sample.get("img_path")
            if path is None:
                name = f"{self._seen:06d}"
                rgb = image.permute(1, 2, 0).cpu().numpy().astype(np.uint8)[..., ::-1]
            else:
                name, rgb = self._name(path, roots), read_upright(path)
            with TemporaryDirectory() as temporary:
                picture = Path(self.out_dir or temporary, f"{name}.png")
                note, weight = self._draw(rgb, sample, dataset.metainfo["classes"], picture)
                self._entries.append(Entry(name, {"": picture}, note, weight))
                if self.show:
                    Visualizer.get_current_instance().show(
                        read_upright(picture), win_name=name, wait_time=self.wait_time
                    )

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the contact sheet."""
        if self.out_dir is None:
            return
        entries = {entry.name: entry for part in all_gather_object(self._entries) for entry in part}
        if is_main_process() and entries:
            scores = [f"{name}: {value:.4g}" for name, value in (metrics or {}).items()]
            page = contact_sheet(
                list(entries.values()),
                self.out_dir,
                f"{len(entries)} test images",
                [
                    ", ".join(scores[:3]),
                    "The worst predictions come first. A click shows the whole picture.",
                ],
            )
            runner.logger.info(f"Pictures: {page}")

    def _draw(
        self, image: np.ndarray, sample: Any, classes: Sequence[str], path: Path
    ) -> tuple[str, float]:
        """Draw a sample. Returns a sentence on it, and how bad the prediction is."""
        if "pred_instances" not in sample:
            scores = np.asarray(sample.pred_score.cpu())
            order = np.argsort(-scores, kind="stable")[: self.top_k or 5]
            best = [(classes[i], float(scores[i])) for i in order]
            true = classes[int(sample.gt_label[0])] if "gt_label" in sample else None
            draw_scores(image, best, path, true)
            return best[0][0] + (f"; it is {true}" if true else ""), (
                best[0][1] if best[0][0] != true else -best[0][1]
            )
        found = Boxes.of(sample.pred_instances)
        truth = (
            Boxes.of(sample.gt_instances) if "bboxes" in sample.get("gt_instances", {}) else None
        )
        kwargs = dict(score_thr=self.score_thr, top_k=self.top_k)
        draw_detections(image, found, classes, path, truth, **kwargs)
        shown = found.shown(**kwargs)
        if truth is None:
            return f"{len(shown)} found", float(len(shown))
        right = int(match_boxes(shown, truth).correct.sum())
        note = f"{right} of {len(truth)} right, {len(shown) - right} wrong"
        return note, float(len(truth) + len(shown) - 2 * right)

    def _name(self, path: str, roots: Sequence[str]) -> str:
        """The image's path below one of the folders, without resolving links; for a file elsewhere
        its name, with a number if the name is taken.
        """
        absolute = Path(os.path.abspath(path))
        root = next((root for root in roots if absolute.is_relative_to(root)), absolute.parent)
        name = unique = absolute.relative_to(root).as_posix()
        number = 1
        while self._paths.setdefault(unique, path) != path:
            number += 1
            unique = f"{name} ({number})"
        return unique


def _folder(dataset: Any) -> str:
    """The image folder of a dataset."""
    prefix = getattr(dataset, "data_prefix", None)
    folder = prefix.get("img") if isinstance(prefix, Mapping) else None
    return os.path.abspath(Path(folder or getattr(dataset, "data_root", None) or ".").expanduser())
