"""The tuning methods: one file for each paper, with a class for each kind of host."""

from .adapter import Adapter
from .adaptformer import AdaptFormer
from .apollo import Apollo
from .base import Tuner
from .bitfit import BitFit, BitFitXMHA
from .clip_adapter import CLIPAdapter
from .clip_lora import CLIPLoRA
from .cocoop import CoCoOp
from .coop import CLIPCoOp, CoOp
from .dora import DoRA, DoRAXMHA
from .dpt import DPT
from .full_fine_tuning import FullFineTuning
from .glip_prompt import GLIPPrompt
from .host_parameters import HostParameters
from .independent_vl import IndependentVL
from .kgcoop import KgCoOp
from .layers.injection import InjectionLinear, InjectionTransformer
from .linear_probing import CLIPLinearProbe, LinearProbing
from .lora import LoRA, LoRAXMHA
from .maple import CLIPMaPLe, MaPLe
from .mma import MMA
from .mmrl import MMRL
from .mona import Mona
from .mudpt import MuDPT
from .pmf import PMF
from .promptsrc import PromptSRC
from .sdpt import SDPT, InverseProjection, PrototypeTokens
from .ssf import SSF
from .tcp import TCP
from .tip_adapter import TipAdapter
from .upt import UPT
from .vpt import CLIPVPT, VPT

__all__ = [
    "CLIPVPT",
    "DPT",
    "MMA",
    "MMRL",
    "PMF",
    "SDPT",
    "SSF",
    "TCP",
    "UPT",
    "VPT",
    "AdaptFormer",
    "Adapter",
    "Apollo",
    "BitFit",
    "BitFitXMHA",
    "CLIPAdapter",
    "CLIPCoOp",
    "CLIPLinearProbe",
    "CLIPLoRA",
    "CLIPMaPLe",
    "CoCoOp",
    "CoOp",
    "DoRA",
    "DoRAXMHA",
    "FullFineTuning",
    "GLIPPrompt",
    "HostParameters",
    "IndependentVL",
    "InjectionLinear",
    "InjectionTransformer",
    "InverseProjection",
    "LinearProbing",
    "KgCoOp",
    "LoRA",
    "LoRAXMHA",
    "MaPLe",
    "Mona",
    "MuDPT",
    "PromptSRC",
    "PrototypeTokens",
    "TipAdapter",
    "Tuner",
]
