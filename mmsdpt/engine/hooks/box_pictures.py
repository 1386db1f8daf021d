"""Pictures of the boxes that a detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.runner import Runner

from mmsdpt.datasets.transforms import LoadImageFromFile
from mmsdpt.registry import HOOKS

from .class_names import innermost_datasets
from .prediction_pictures import path_below

_WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp"})


@HOOKS.register_module()
class BoxPicturesHook(DetVisualizationHook):
    """MMDetection's hook, with pictures in the dataset's folders and for every kind of image.

    MMDetection's names a picture by the image's name alone, so that ``cam1/000.jpg`` and
    ``cam2/000.jpg`` overwrite each other, and it cannot draw on pixels of 16 bits or floating
    point.

    Args: as MMDetection's ``DetVisualizationHook``.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw the samples of a batch."""
        if not self.draw:
            return
        folders = [
            Path(prefix)
            for dataset in innermost_datasets(runner.test_dataloader.dataset)
            if (prefix := (getattr(dataset, "data_prefix", None) or {}).get("img"))
        ]
        load = LoadImageFromFile(imdecode_backend="pillow", backend_args=self.backend_args)
        for sample in outputs:
            self._test_index += 1
            path = Path(sample.img_path)
            name = max((path_below(path, folder) for folder in folders), key=len, default=path.name)
            out_file = None
            if self.test_out_dir is not None:
                suffix = "" if path.suffix.lower() in _WRITABLE else ".png"
                out = Path(runner.work_dir, runner.timestamp, self.test_out_dir, name + suffix)
                out.parent.mkdir(parents=True, exist_ok=True)
                out_file = str(out)
            self._visualizer.add_datasample(
                name if self.show else "test_img",
                load.transform(dict(img_path=str(path)))["img"][..., ::-1],
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=out_file,
                step=self._test_index,
            )
