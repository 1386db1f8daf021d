"""Boxes of an image, and the matching of detections with the ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou, nms

SAME_PLACE = 0.5  # IoU of two boxes at one place, as in AP50


@dataclass(frozen=True)
class Boxes:
    """The n boxes of one image, ground truth or detections.

    Attributes:
        boxes: (n, 4) xyxy, pixels of the original image.
        labels: (n,) class indices.
        scores: (n,) between 0 and 1, or None for the ground truth.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        # The dataclass is frozen, so the checked arrays must be set this way.
        boxes = np.asarray(self.boxes, dtype=float).reshape(-1, 4)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=int).reshape(-1))
        if self.scores is not None:
            object.__setattr__(self, "scores", np.asarray(self.scores, dtype=float).reshape(-1))
        for name in ("labels", "scores"):
            values = getattr(self, name)
            if values is not None and len(values) != len(boxes):
                raise ValueError(f"{len(boxes)} boxes were given {len(values)} {name}")

    @classmethod
    def of(cls, instances: Any) -> Boxes:
        """The boxes of MMDetection's ``InstanceData``."""
        boxes = getattr(instances.bboxes, "tensor", instances.bboxes)  # of a HorizontalBoxes
        scores = instances.scores.cpu().numpy() if "scores" in instances else None
        return cls(boxes.cpu().numpy(), instances.labels.cpu().numpy(), scores)

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score_thr: float) -> Boxes:
        """The detections with at least this score, best first."""
        if self.scores is None:
            return self
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.scores[order] >= score_thr]
        return self.take(order)

    def best_names(self) -> Boxes:
        """The detections, without those at the place of a better one of any class. So each place
        has one name.
        """
        if self.scores is None:
            return self
        kept = nms(torch.from_numpy(self.boxes), torch.from_numpy(self.scores), SAME_PLACE)
        return self.take(kept.numpy())

    def shown(self, score_thr: float, top_k: int | None = None) -> Boxes:
        """The boxes to draw: the best name for each place with at least ``score_thr``, at most
        ``top_k``.
        """
        return self.above(score_thr).best_names().take(slice(top_k))

    def take(self, index: np.ndarray | slice) -> Boxes:
        """The boxes at ``index``: indices, a mask or a slice."""
        scores = None if self.scores is None else self.scores[index]
        return Boxes(self.boxes[index], self.labels[index], scores)


@dataclass(frozen=True)
class BoxMatches:
    """The result of :func:`match_boxes`.

    Attributes:
        correct: (n,) bool, whether each detection is correct.
        missed: (m,) bool, whether each true box has no detection at its place. A true box that was
            detected with a wrong name does not count as missed.
    """

    correct: np.ndarray
    missed: np.ndarray


def match_boxes(shown: Boxes, truth: Boxes) -> BoxMatches:
    """Match detections with the ground truth, as COCO's AP does at one threshold.

    In order of score, a detection is correct if an unmatched true box of its class overlaps it with
    an IoU of at least 0.5; it is matched to the one with the largest overlap.
    """
    if shown.scores is None:
        raise ValueError("detections need scores to be matched")
    overlap = box_iou(torch.from_numpy(shown.boxes), torch.from_numpy(truth.boxes)).numpy()
    correct = np.zeros(len(shown), dtype=bool)
    free = np.ones(len(truth), dtype=bool)
    for i in np.argsort(-shown.scores, kind="stable"):
        fitting = np.where(free & (truth.labels == shown.labels[i]), overlap[i], 0.0)
        if len(truth) and fitting.max() >= SAME_PLACE:
            correct[i] = True
            free[fitting.argmax()] = False
    missed = ~(overlap >= SAME_PLACE).any(axis=0)
    return BoxMatches(correct, missed)
