"""Methods: one file for each paper, with its classes for every kind of host."""

from .adapter import Adapter
from .adaptformer import AdaptFormer
from .apollo import Apollo
from .base import Tuner
from .bitfit import BitFit, BitFitXMHA
from .cocoop import CoCoOp
from .coop import CLIPCoOp, CoOp
from .dpt import DPT
from .full_fine_tuning import FullFineTuning
from .glip_prompt import GLIPPrompt
from .host_parameters import HostParameters
from .independent_vl import IndependentVL
from .layers.injection import InjectionLinear, InjectionTransformer
from .linear_probing import CLIPLinearProbe, LinearProbing
from .lora import LoRA, LoRAXMHA
from .maple import CLIPMaPLe, MaPLe
from .mudpt import MuDPT
from .pmf import PMF
from .sdpt import SDPT, InverseProjection, PrototypeTokens
from .upt import UPT
from .vpt import CLIPVPT, VPT

__all__ = [
    "CLIPVPT",
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
    "CLIPCoOp",
    "CLIPLinearProbe",
    "CLIPMaPLe",
    "CoCoOp",
    "CoOp",
    "FullFineTuning",
    "GLIPPrompt",
    "HostParameters",
    "IndependentVL",
    "InjectionLinear",
    "InjectionTransformer",
    "InverseProjection",
    "LinearProbing",
    "LoRA",
    "LoRAXMHA",
    "MaPLe",
    "MuDPT",
    "PrototypeTokens",
    "Tuner",
]
