"""Datasets, samplers and transforms."""

from .classification import ClassificationData
from .few_shot import ODINW_SCHEDULE, FewShotDataset
from .transforms import SampleCaptionClasses

__all__ = [
    "ODINW_SCHEDULE",
    "ClassificationData",
    "FewShotDataset",
    "SampleCaptionClasses",
]
