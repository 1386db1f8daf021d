"""LVIS's AP from its definition (Gupta et al., CVPR 2019, section 2), slow and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
RECALLS = [0.01 * i for i in range(101)]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes x, y, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def category_ap(truth: Mapping, found: Sequence[Mapping], category: int, threshold: float):
    """AP of one category at one threshold; None if nothing of it is annotated."""
    outcomes: list[tuple[float, bool]] = []  # score, whether it is right
    annotated = 0
    for image in truth["images"]:
        boxes = [
            each["bbox"]
            for each in truth["annotations"]
            if (each["image_id"], each["category_id"]) == (image["id"], category)
        ]
        annotated += len(boxes)
        if not boxes and category not in image["neg_category_ids"]:
            continue  # nobody knows whether it is there
        mine = [
            each
            for each in found
            if (each["image_id"], each["category_id"]) == (image["id"], category)
        ]
        free = list(range(len(boxes)))
        for each in sorted(mine, key=lambda item: -item["score"]):
            best, best_iou = None, threshold
            for i in free:
                if iou(each["bbox"], boxes[i]) >= best_iou:
                    best, best_iou = i, iou(each["bbox"], boxes[i])
            if best is not None:
                free.remove(best)
                outcomes.append((each["score"], True))
            elif category not in image["not_exhaustive_category_ids"]:
                outcomes.append((each["score"], False))
    if not annotated:
        return None
    outcomes.sort(key=lambda item: -item[0])
    right = np.cumsum([hit for _, hit in outcomes])
    recall = right / annotated
    precision = right / np.arange(1, len(outcomes) + 1)
    reached = [precision[recall >= level - 1e-12] for level in RECALLS]
    return float(np.mean([part.max() if len(part) else 0.0 for part in reached]))


def average_precision(truth: Mapping, found: Sequence[Mapping], frequency: str = "rcf") -> float:
    """Mean over thresholds and annotated categories of these frequencies; -1 if there are none."""
    values = [
        category_ap(truth, found, category["id"], threshold)
        for category in truth["categories"]
        if category["frequency"] in frequency
        for threshold in THRESHOLDS
    ]
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else -1.0


def best_of_each_image(found: Sequence[Mapping], count: int) -> list[Mapping]:
    """What counts for LVIS's AP."""
    return _best(found, count, "image_id")


def best_of_each_category(found: Sequence[Mapping], count: int) -> list[Mapping]:
    """What counts for fixed AP (Dave et al. 2021)."""
    return _best(found, count, "category_id")


def _best(found: Sequence[Mapping], count: int, key: str) -> list[Mapping]:
    kept: list[Mapping] = []
    for value in {each[key] for each in found}:
        mine = [each for each in found if each[key] == value]
        kept += sorted(mine, key=lambda item: -item["score"])[:count]
    return kept
