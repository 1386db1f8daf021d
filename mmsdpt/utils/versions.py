"""Tell whether tensors may have changed: the key of every cache of derived values."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor


def tensor_versions(tensors: Iterable[Tensor]) -> tuple[Hashable, ...]:
    """Fingerprint of the tensors' present content, without reading the content.

    An in-place update (an optimizer step, ``copy_`` in ``load_state_dict``) bumps ``_version``;
    replacing the memory (``.to()``, ``.double()``, ``load_state_dict(assign=True)``) changes
    ``data_ptr``, dtype or device. Neither alone is enough. Two things escape both: a write through
    ``tensor.data``, which has a version counter of its own; and memory that was freed and handed
    out again at the same address, so whoever caches over ``.to()`` must drop the cache there.

    Args:
        tensors: For example a module's parameters and buffers. The order counts.

    Returns:
        One (data_ptr, version, dtype, device) per tensor. Tensors made under
        ``torch.inference_mode`` keep no version, so their fingerprints never compare equal: a cache
        then misses, but never lies.
    """
    return tuple(
        (t.data_ptr(), object() if t.is_inference() else t._version, t.dtype, t.device)
        for t in tensors
    )


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The dtype that matrix products of float32 give on ``device`` now: whether autocast is on, and
    to what.

    Asked by computing one, because the functions that query autocast differ between versions of
    torch.
    """
    one = torch.ones((1, 1), device=device)
    return torch.mm(one, one).dtype
