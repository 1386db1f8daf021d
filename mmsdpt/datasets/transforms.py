"""Pipeline transforms."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmsdpt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleCaptionClasses(BaseTransform):
    """Shorten an image's caption to its own classes and a random sample of the others.

    For datasets whose class list does not fit into one caption (LVIS: 1,203 classes). All classes
    of the image are kept, absent ones fill up to ``max_classes`` as negatives, the order is random,
    and the labels follow. GLIP trains on detection data this way (Li et al. 2022, section 4).

    Required keys: ``text`` (tuple of class names), ``gt_bboxes_labels`` and ``gt_bboxes``. Modified
    keys: ``text``, ``custom_entities`` and ``gt_bboxes_labels``. Where one image shows more than
    ``max_classes`` classes, a random choice of them is kept, and the boxes, ignore flags and masks
    of the others leave with their names: a label without its name in the caption has no meaning.

    Args:
        max_classes: Most classes in a caption. 40 LVIS names stay below 256 tokens in all but rare
            draws; a caption that is still too long is an error in training, not a silent cut.
    """

    def __init__(self, max_classes: int = 40) -> None:
        if max_classes < 1:
            raise ValueError(f"max_classes must be at least 1, got {max_classes}")
        self.max_classes = max_classes

    def transform(self, results: dict) -> dict:
        classes = tuple(results["text"])
        labels = np.asarray(results["gt_bboxes_labels"])
        present = np.random.permutation(np.unique(labels))[: self.max_classes]
        absent = np.setdiff1d(np.arange(len(classes)), np.unique(labels))
        room = min(self.max_classes - len(present), len(absent))
        negatives = np.random.choice(absent, room, replace=False) if room > 0 else absent[:0]
        chosen = np.random.permutation(np.concatenate([present, negatives]).astype(np.int64))
        position = np.full(len(classes), -1, dtype=np.int64)
        position[chosen] = np.arange(len(chosen))
        kept = position[labels] >= 0
        if not kept.all():
            for key in ("gt_bboxes", "gt_ignore_flags", "gt_masks"):
                if key in results:
                    results[key] = results[key][kept]
        results["gt_bboxes_labels"] = position[labels[kept]]
        results["text"] = tuple(classes[i] for i in chosen)
        results["custom_entities"] = True
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_classes={self.max_classes})"
