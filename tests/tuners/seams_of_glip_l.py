"""The seams of GLIP-L's encoders, and of what comes after them, without GLIP-L."""

from __future__ import annotations

import torch

from mmsdpt.hosts.grounding.seams import PairedSeam, PairSeam, WordSeam
from mmsdpt.hosts.seams import BlockSeam, LossSeam, SeamMap

DEPTHS = (2, 2, 18, 2)
TEXT, LAST = 768, 1536


def seams() -> SeamMap:
    blocks = []
    for stage, depth in enumerate(DEPTHS):
        for position in range(depth):
            widths = dict(
                width=192 * 2**stage,
                heads=6 * 2**stage,
                stage=stage,
                depth=depth,
                position=position,
            )
            blocks.append(BlockSeam(len(blocks), widths, kind="image_blocks"))
    pair = dict(image=LAST, text=TEXT, image_heads=48, text_heads=12)
    return SeamMap(
        "GLIP-L",
        dict(
            image_blocks=blocks,
            text_embeddings=[WordSeam(0, dict(width=TEXT), _no_words, kind="text_embeddings")],
            text_blocks=[
                BlockSeam(
                    i,
                    dict(width=TEXT, heads=12, stage=0, depth=12, position=i),
                    kind="text_blocks",
                )
                for i in range(12)
            ],
            encoder_outputs=[PairedSeam(0, dict(image=LAST, text=TEXT), kind="encoder_outputs")],
            encoder_pairs=[PairSeam(i, pair, kind="encoder_pairs") for i in range(2)],
            losses=[LossSeam(0, {})],
        ),
    )


def _no_words(text: str) -> torch.Tensor:
    raise AssertionError(f"no tuner asks for the vectors of {text!r} here")
