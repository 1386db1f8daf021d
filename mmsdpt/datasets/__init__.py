"""Datasets, samplers and transforms."""

from .classification import ClassificationData
from .few_shot import ODINW_SCHEDULE, FewShotDataset
from .lvis import LVISDataset
from .transforms import LoadImageFromFile, SampleCaptionClasses

__all__ = [
    "ODINW_SCHEDULE",
    "ClassificationData",
    "FewShotDataset",
    "LVISDataset",
    "LoadImageFromFile",
    "SampleCaptionClasses",
]
