"""AP of LVIS, computed by the lvis package."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from mmsdpt.compat import mend_lvis
from mmsdpt.registry import METRICS
from mmsdpt.utils.errors import InputError

mend_lvis()
# One detection: image and category ids, box as x, y, width, height in pixels, score.
_DETECTION = np.dtype(
    [("image_id", "i8"), ("category_id", "i8"), ("bbox", "f8", (4,)), ("score", "f8")]
)
# Keys that the lvis package reads in addition to those of COCO.
_NEEDED = (
    ("categories", "frequency"),
    ("images", "neg_category_ids"),
    ("images", "not_exhaustive_category_ids"),
)
_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


@METRICS.register_module()
class LVISMetric(BaseMetric):
    """Box AP of LVIS v1 in two variants, not rounded.

    ``lvis/AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``APr``, ``APc``, ``APf``: the 300
    best detections of each image count (Gupta et al., CVPR 2019). ``lvis_fixed_ap/...``: the 10,000
    best detections of each class over the whole set count, with any number per image (Dave et al.
    2021, "Evaluating large-vocabulary object detectors"). GLIP reports this variant. Both are the
    numbers of the lvis package; MMDetection's ``LVISMetric`` rounds them to three digits.

    Args:
        ann_file: Annotations in LVIS's format.
        per_image: Number of detections per image that count for ``lvis``.
        per_class: Number of detections per class that count for ``lvis_fixed_ap``.

    Raises:
        InputError: if the file is not in LVIS's format, or its number of categories differs from
            the number of classes of the data.
    """

    def __init__(
        self,
        ann_file: str,
        per_image: int = 300,
        per_class: int = 10_000,
        collect_device: str = "cpu",
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix="lvis")
        self.prefix = None  # the names below contain two prefixes
        self.per_image, self.per_class = per_image, per_class
        with get_local_path(ann_file, backend_args=backend_args) as path:
            self.truth = LVIS(path)
        for part, key in _NEEDED:
            lacking = [each["id"] for each in self.truth.dataset[part] if key not in each]
            if lacking:
                raise InputError(
                    f"{ann_file} is not in LVIS's format: {len(lacking)} of its {part} have no"
                    f" {key!r}; use CocoMetric instead"
                )
        self._category_ids = np.array(self.truth.get_cat_ids(), dtype=np.int64)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the detections of a batch; labels are indices of the file's categories."""
        # For joined data it is a list until MMDetection's MultiDatasetsEvaluator computes.
        names = self.dataset_meta.get("classes") if isinstance(self.dataset_meta, dict) else None
        if names and len(names) != len(self._category_ids):
            raise InputError(
                f"the data have {len(names)} classes, but the file of LVISMetric has"
                f" {len(self._category_ids)} categories, so labels would get wrong ids: use the"
                " same file for both"
            )
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes = found["bboxes"].cpu().double().numpy().reshape(-1, 4)
            kept = np.empty(len(boxes), _DETECTION)
            kept["image_id"] = sample["img_id"]
            kept["category_id"] = self._category_ids[found["labels"].cpu().long().numpy()]
            kept["bbox"] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            kept["score"] = found["scores"].cpu().double().numpy()
            self.results.append(kept)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Both kinds of AP; -1 if nothing is annotated, as in the lvis package."""
        found = np.concatenate([np.empty(0, _DETECTION), *results])
        values = {}
        for prefix, kept, limit in (  # the first one is the AP of studies
            ("lvis_fixed_ap", best_of_each_class(found, self.per_class), -1),
            ("lvis", found, self.per_image),
        ):
            for name, value in self._evaluate(kept, limit).items():
                values[f"{prefix}/{name}"] = value
        return values

    def _evaluate(self, found: np.ndarray, per_image: int) -> dict[str, float]:
        if not len(found):  # the package cannot handle this case
            print_log("no detections, so AP is 0", logger="current", level=logging.WARNING)
            return dict.fromkeys(_NAMES, 0.0)
        detections = [
            dict(image_id=image, category_id=category, bbox=list(box), score=score)
            for image, category, box, score in found.tolist()
        ]
        evaluation = LVISEval(
            self.truth, LVISResults(self.truth, detections, max_dets=per_image), "bbox"
        )
        evaluation.params.max_dets = per_image
        evaluation.run()
        return {name: float(evaluation.get_results()[name]) for name in _NAMES}


def best_of_each_class(found: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` detections with the highest scores of each category; ties keep their order."""
    order = np.lexsort((-found["score"], found["category_id"]))
    ids = found["category_id"][order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1)) if len(ids) else np.empty(0, int)
    rank = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    return found[np.sort(order[rank < count])]
