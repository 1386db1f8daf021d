"""Methods. One file each, written against seams."""

from .base import Tuner
from .layers import InverseProjection, PrototypeTokens
from .sdpt import SDPT

__all__ = ["Tuner", "SDPT", "InverseProjection", "PrototypeTokens"]
