"""Datasets, samplers and transforms."""

from .classification import ClassificationData
from .few_shot import ODINW_SCHEDULE, FewShotDataset
from .scenes import SceneCaptionDataset, SceneGroundingDataset, SceneTaskDataset
from .transforms import SampleCaptionClasses

__all__ = [
    "ODINW_SCHEDULE",
    "ClassificationData",
    "FewShotDataset",
    "SampleCaptionClasses",
    "SceneCaptionDataset",
    "SceneGroundingDataset",
    "SceneTaskDataset",
]
