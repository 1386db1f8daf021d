"""CLIP with seams, with the parameter names of MMPreTrain."""

from .classifier import CLIP
from .tokenizer import CLIPTokenizer

__all__ = ["CLIP", "CLIPTokenizer"]
