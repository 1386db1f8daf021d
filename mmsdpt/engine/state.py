"""What a run keeps to continue bit for bit: trained tensors and random state, readable without
unpickling code.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of a run holds of the model.

    With tuners: everything under ``tuners.`` (frozen slots too, they are small and not in the base
    checkpoint) and the host's trainable parameters. Without tuners, as in pre-training: the whole
    state dict.
    """
    tuners = getattr(model, "tuners", {})
    for tuner in tuners.values():
        tuner.prepare()  # what starts from the host's weights has no value before the first pass
    state = model.state_dict()
    if not len(tuners):
        return dict(state)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: value
        for name, value in state.items()
        if name.startswith("tuners.") or name in trainable
    }


def random_state() -> dict:
    """State of the random generators of Python, NumPy and torch, in types that ``weights_only``
    loading accepts.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return dict(
        python=[version, list(internal), gauss],
        numpy=[
            name,
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    )


def set_random_state(state: dict) -> None:
    """Restore what :func:`random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
