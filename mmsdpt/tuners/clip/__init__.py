"""Methods for hosts that compare images with texts, such as CLIP. One file each, written against
seams.
"""

from .cocoop import CoCoOp
from .coop import CLIPCoOp
from .independent_vl import IndependentVL
from .linear_probe import CLIPLinearProbe
from .maple import CLIPMaPLe
from .mudpt import MuDPT
from .vpt import CLIPVPT

__all__ = [
    "CLIPVPT",
    "CLIPCoOp",
    "CLIPLinearProbe",
    "CLIPMaPLe",
    "CoCoOp",
    "IndependentVL",
    "MuDPT",
]
