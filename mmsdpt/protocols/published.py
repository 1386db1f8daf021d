"""Averages that papers report, to be printed beside one's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Average accuracies over 11 datasets, ViT-B/16, 16 shots, in percent (Khattak et al., CVPR
    2023, table 3; the others' numbers are quoted there).

    Attributes:
        label: Of the method.
        base: On the base classes.
        new: On the new classes.
        harmonic: H of both, as printed.
    """

    label: str
    base: float
    new: float
    harmonic: float


BASE_TO_NEW = {
    "zero_shot": Published("CLIP", 69.34, 74.22, 71.70),
    "coop": Published("CoOp", 82.69, 63.22, 71.66),
    "cocoop": Published("CoCoOp", 80.47, 71.69, 75.83),
    "independent_vl": Published("independent V-L", 82.15, 74.07, 77.90),
    "maple": Published("MaPLe", 82.28, 75.14, 78.55),
}
"""By the names of :func:`mmsdpt.protocols.methods.presets`."""

CONDITIONS = "ViT-B/16, 11 datasets, 16 shots"
FEW_SHOT = (
    "MuDPT's paper reports accuracies 8.2 above CoOp and 6.31 above CoCoOp, on average over 11"
    " datasets (ViT-B/16)."
)
