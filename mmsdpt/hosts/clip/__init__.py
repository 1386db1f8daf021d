"""CLIP with seams, with the parameter names of MMPreTrain."""

from .classifier import CLIP
from .pretraining import CLIPPretraining
from .tokenizer import CLIPTokenizer

__all__ = ["CLIP", "CLIPPretraining", "CLIPTokenizer"]
