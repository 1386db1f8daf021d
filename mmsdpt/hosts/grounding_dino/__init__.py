"""Grounding DINO and MM-Grounding-DINO as a host, with MMDetection's parameter names."""

from .detector import GroundingDINO
from .head import GroundingDINOHead

__all__ = ["GroundingDINO", "GroundingDINOHead"]
