"""COCO's average precision: computed by faster-coco-eval if that package is installed, and with
results of single classes under their own names.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
from mmdet.evaluation.metrics import coco_metric


class _InOrder:
    """An evaluation whose results keep the order of ``params.catIds``.

    The packages sort these ids, but ``CocoMetric(classwise=True)`` reads the results in the order
    in which it gave them, that of the file's categories.
    """

    params: Any
    eval: dict[str, Any]

    def evaluate(self) -> None:
        asked = list(self.params.catIds)
        self.places = np.searchsorted(np.unique(asked), asked)
        super().evaluate()  # type: ignore[misc]

    def summarize(self) -> None:
        super().summarize()  # type: ignore[misc]
        if self.params.useCats:
            for name, axis in (("precision", 2), ("recall", 1), ("scores", 2)):
                self.eval[name] = np.take(self.eval[name], self.places, axis)


class PlainEval(_InOrder, COCOeval):
    """With pycocotools."""


class ParallelEval(_InOrder, COCOevalMP):
    """With pycocotools in several processes, for ``use_mp_eval=True``."""


def mend_coco_eval() -> bool:
    """Let MMDetection's ``CocoMetric`` and its subclasses evaluate with faster-coco-eval, and give
    each class its own numbers. The package gives the same numbers as pycocotools, which takes
    minutes for COCO's 5,000 images and 80 classes.

    Returns:
        Whether the package is installed (``pip install "mmsdpt[fast-eval]"``).
    """
    coco_metric.COCOeval, coco_metric.COCOevalMP = PlainEval, ParallelEval
    if importlib.util.find_spec("faster_coco_eval") is None:
        return False
    from faster_coco_eval import COCOeval_faster

    class Faster(COCOeval_faster):
        # Its own gives an AP of 1,000 boxes of a class per image, not 100, and prints no table.
        summarize = COCOeval.summarize

    class FasterEval(_InOrder, Faster):
        """With faster-coco-eval."""

    coco_metric.COCOeval = FasterEval
    return True
