"""Parts that several tuners share."""

from .inverse_projection import InverseProjection
from .prototype_tokens import PrototypeTokens

__all__ = ["InverseProjection", "PrototypeTokens"]
