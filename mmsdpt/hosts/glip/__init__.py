"""GLIP as a host, with MMDetection's parameter names."""

from mmsdpt.hosts.grounding import BertModel, SwinTransformer

from .detector import GLIP
from .head import ATSSVLFusionHead

__all__ = ["GLIP", "ATSSVLFusionHead", "BertModel", "SwinTransformer"]
