"""Datasets and samplers."""

from .scenes import SceneGroundingDataset

__all__ = ["SceneGroundingDataset"]
