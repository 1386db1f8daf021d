"""The seams of both encoders of GLIP-L and of what is behind them, without GLIP-L."""

from __future__ import annotations

import torch

from mmsdpt.hosts.seams import BlockSeam, PairedSeam, SeamMap
from mmsdpt.registry import MODELS
from tests.tuners.seams_of_glip_l import LAST, TEXT, seams


def encoder_seams() -> SeamMap:
    block = dict(width=TEXT, heads=12, stage=0, depth=12)
    return SeamMap(
        "GLIP-L",
        {
            **seams(),
            "text_blocks": [
                BlockSeam(i, dict(block, position=i), kind="text_blocks") for i in range(12)
            ],
            "encoder_outputs": [PairedSeam(0, dict(image=LAST, text=TEXT), kind="encoder_outputs")],
        },
    )


def encoder_counts(**tuner) -> tuple[int, int]:
    """Trainable parameters, real and by formula."""
    with torch.device("meta"):
        built = MODELS.build(tuner, default_args=dict(seams=encoder_seams()))
    return sum(p.numel() for p in built.parameters()), built.num_trainable()
