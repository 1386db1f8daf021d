"""GLIP as a host, with MMDetection's parameter names."""

from .detector import GLIP
from .head import ATSSVLFusionHead
from .swin import SwinTransformer
from .text import BertModel

__all__ = ["GLIP", "ATSSVLFusionHead", "BertModel", "SwinTransformer"]
