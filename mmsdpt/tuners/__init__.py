"""Methods. One file each, written against seams."""

from .adapter import Adapter
from .adaptformer import AdaptFormer
from .apollo import Apollo
from .base import Tuner
from .bitfit import BitFit, BitFitXMHA
from .clip import (
    CLIPVPT,
    CLIPCoOp,
    CLIPLinearProbe,
    CLIPMaPLe,
    CoCoOp,
    IndependentVL,
    MuDPT,
)
from .coop import CoOp
from .dpt import DPT
from .full_fine_tuning import FullFineTuning
from .glip_prompt import GLIPPrompt
from .host_parameters import HostParameters
from .layers import InverseProjection, PrototypeTokens
from .linear_probing import LinearProbing
from .lora import LoRA, LoRAXMHA
from .maple import MaPLe
from .pmf import PMF
from .sdpt import SDPT
from .upt import UPT
from .vpt import VPT

__all__ = [
    "CLIPCoOp",
    "CLIPLinearProbe",
    "CLIPMaPLe",
    "CLIPVPT",
    "CoCoOp",
    "IndependentVL",
    "MuDPT",
    "DPT",
    "PMF",
    "SDPT",
    "UPT",
    "VPT",
    "AdaptFormer",
    "Adapter",
    "Apollo",
    "BitFit",
    "BitFitXMHA",
    "CoOp",
    "FullFineTuning",
    "GLIPPrompt",
    "HostParameters",
    "InverseProjection",
    "LinearProbing",
    "LoRA",
    "LoRAXMHA",
    "MaPLe",
    "PrototypeTokens",
    "Tuner",
]
