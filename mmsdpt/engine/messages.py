"""MMEngine's message hub in a checkpoint: in plain types, and not longer than needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

# MMEngine keeps a million values of every scalar: after some epochs of COCO they would outweigh
# the tokens a hundred times. What a resumed run reads is the window that its log averages over.
KEPT_VALUES = 500


def pack_messages(state: dict, window: int = 0) -> dict:
    """The hub's state in types that ``weights_only`` loading takes.

    Args:
        state: ``MessageHub.state_dict()``.
        window: Longest window that the log averages over.

    Returns:
        The last :data:`KEPT_VALUES` values of every scalar, or ``window`` if that is more, and the
        plain part of the runtime information.
    """
    kept = max(KEPT_VALUES, window)
    scalars = {}
    for name, buffer in state["log_scalars"].items():
        values, counts = (np.asarray(part)[-kept:] for part in buffer.data)
        scalars[name] = dict(
            values=torch.tensor(values, dtype=torch.float64),
            counts=torch.tensor(counts, dtype=torch.int64),
            max_length=buffer.max_length,
        )
    information = {name: plain(value) for name, value in state["runtime_info"].items()}
    return dict(
        log_scalars=scalars,
        runtime_info={
            name: value
            for name, value in information.items()
            if isinstance(value, (str, int, float, bool, list, type(None)))
        },
        resumed_keys=dict(state["resumed_keys"]),
    )


def unpack_messages(packed: dict | None) -> dict:
    """What :func:`pack_messages` packed, as ``MessageHub.load_state_dict`` takes it."""
    packed = packed or dict(log_scalars={}, runtime_info={}, resumed_keys={})
    scalars = {
        name: HistoryBuffer(item["values"].tolist(), item["counts"].tolist(), item["max_length"])
        for name, item in packed["log_scalars"].items()
    }
    known = {**scalars, **packed["runtime_info"]}
    return dict(
        log_scalars=scalars,
        runtime_info=packed["runtime_info"],
        resumed_keys={name: flag for name, flag in packed["resumed_keys"].items() if name in known},
    )


def plain(value: Any) -> Any:
    """``value``, or the Python number if it is a number of NumPy or torch, as scores may be."""
    if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1):
        return value.item()
    return value
