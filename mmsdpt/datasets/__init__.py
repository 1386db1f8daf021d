"""Datasets, samplers and transforms."""

from .few_shot import ODINW_SCHEDULE, FewShotDataset
from .scenes import SceneGroundingDataset, SceneTaskDataset
from .transforms import SampleCaptionClasses

__all__ = [
    "ODINW_SCHEDULE",
    "FewShotDataset",
    "SampleCaptionClasses",
    "SceneGroundingDataset",
    "SceneTaskDataset",
]
