r"""Alignment of images and class texts in CLIP's joint space.

Given the normalised features x_i of N images with labels y_i, and t_c of the texts of C classes:

    matched   = mean_i x_i . t_{y_i}
    unmatched = mean_i mean_{c != y_i} x_i . t_c
    margin    = matched - unmatched
    gap       = | mean_i x_i - mean_c t_c |

``gap`` is the modality gap of Liang et al. (NeurIPS 2022), the Euclidean distance between the two
centroids; each class's text counts once. If a method makes separate texts for each image (CoCoOp),
image i is compared with its own t_{i,c}, and the centroid of the texts is mean_i mean_c t_{i,c}.
For a method whose logits are not cosines (the linear probe), the features are still compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmsdpt.registry import METRICS
from mmsdpt.utils.errors import InputError


@dataclass(frozen=True)
class _Image:
    """Values of one image: its cosines, its feature (e,) and the centroid (e,) of its texts."""

    matched: float
    unmatched: float
    feature: Tensor
    text_centroid: Tensor


@METRICS.register_module()
class AlignmentMetric(BaseMetric):
    """Alignment of image and text features; see :mod:`mmsdpt.evaluation.alignment`.

    The predictions must have ``image_feature`` (e,) and ``text_features`` (C, e), normalised: set
    ``model.predict_features=True`` on :class:`mmsdpt.CLIP`. The scores are ``alignment/matched``,
    ``unmatched``, ``margin`` and ``gap``, without a unit.
    """

    default_prefix = "alignment"

    def __init__(self, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Process one batch.

        Raises:
            InputError: if predictions lack features, or there is only one class.
        """
        if not all("image_feature" in sample for sample in data_samples):
            raise InputError(
                "AlignmentMetric finds no features in the predictions: set"
                " model.predict_features=True on mmsdpt.CLIP"
            )
        shared: dict[int, tuple[Tensor, Tensor]] = {}  # texts shared by several images
        for sample in data_samples:
            texts = sample["text_features"]
            if len(texts) < 2:
                raise InputError(
                    "AlignmentMetric compares an image with its own and other classes, but there is"
                    " only one class: remove it from the evaluator"
                )
            if id(texts) not in shared:
                texts = _at_least_float32(texts)
                shared[id(sample["text_features"])] = texts, texts.mean(dim=0).cpu()
            texts, centroid = shared[id(sample["text_features"])]
            image = _at_least_float32(sample["image_feature"])
            cosines = (texts @ image).double().cpu()
            matched = cosines[int(sample["gt_label"])].item()
            unmatched = (cosines.sum().item() - matched) / (len(texts) - 1)
            self.results.append(_Image(matched, unmatched, image.cpu(), centroid))

    def compute_metrics(self, results: list[_Image]) -> dict[str, float]:
        matched = sum(each.matched for each in results) / len(results)
        unmatched = sum(each.unmatched for each in results) / len(results)
        images = _mean([each.feature for each in results])
        texts = _mean([each.text_centroid for each in results])
        gap = torch.linalg.vector_norm(images - texts).item()
        return dict(matched=matched, unmatched=unmatched, margin=matched - unmatched, gap=gap)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _mean(rows: Sequence[Tensor]) -> Tensor:
    """Mean of rows (e,) in float64, without converting all of them at once."""
    total = torch.zeros_like(rows[0], dtype=torch.float64)
    for row in rows:
        total += row
    return total / len(rows)
