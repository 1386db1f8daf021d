"""What GLIP and Grounding DINO share: captions, encoders, X-MHA."""

from .detector import ENCODER_HINTS, GroundingMixin, Levels, Text
from .swin import SwinTransformer
from .text import BertModel

__all__ = ["ENCODER_HINTS", "BertModel", "GroundingMixin", "Levels", "SwinTransformer", "Text"]
