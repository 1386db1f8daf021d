"""Write the predictions of a test as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from mmsdpt.registry import METRICS
from mmsdpt.utils.atomic import write_atomically


@METRICS.register_module()
class JsonResults(BaseMetric):
    """Writes the predictions of a test; computes no score.

    Boxes are written in COCO's result format: ``image_id``, ``category_id``, ``bbox`` (xywh) and
    ``score``. For classification each image has ``image``, ``label``, ``name``, and the ``scores``
    of all classes.

    Args:
        out: File to write.
        category_ids: Category ids by label; by default 1, 2, ...
    """

    default_prefix = "json"  # MMEngine warns if there is none

    def __init__(self, out: str | Path, category_ids: Sequence[int] | None = None) -> None:
        super().__init__()
        self.out, self.category_ids = Path(out), category_ids

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the predictions of a batch."""
        for sample in data_samples:
            boxes = "pred_instances" in sample
            self.results.append(self._boxes(sample) if boxes else [self._classes(sample)])

    def _boxes(self, sample: dict) -> list[dict]:
        found = sample["pred_instances"]
        values = (found[key].cpu().tolist() for key in ("bboxes", "scores", "labels"))
        return [
            dict(
                image_id=sample["img_id"],
                category_id=self.category_ids[label] if self.category_ids else label + 1,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score,
            )
            for (x1, y1, x2, y2), score, label in zip(*values, strict=True)
        ]

    def _classes(self, sample: dict) -> dict:
        names = (self.dataset_meta or {}).get("classes", ())
        label = int(sample["pred_label"])
        return dict(
            image=sample.get("img_path"),
            label=label,
            name=names[label] if names else str(label),
            scores=sample["pred_score"].cpu().tolist(),
        )

    def compute_metrics(self, results: list) -> dict:
        """Write the file."""
        found = [each for image in results for each in image]
        write_atomically(self.out, json.dumps(found).encode())
        return {}
