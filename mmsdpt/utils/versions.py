"""Tell whether tensors may have changed: the key of every cache of derived values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class _Version:
    """A tensor and its state. Holding the tensor keeps its memory from being handed out again."""

    __slots__ = ("tensor", "state")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.state = (
            tensor.data_ptr(),
            # Made under inference_mode it keeps no version, so it never compares equal: a cache
            # then misses, but never lies.
            object() if tensor.is_inference() else tensor._version,
            tensor.dtype,
            tensor.device,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Version)
            and self.tensor is other.tensor
            and self.state == other.state
        )

    def __hash__(self) -> int:
        return id(self.tensor)


def tensor_versions(tensors: Iterable[Tensor]) -> tuple[_Version, ...]:
    """Fingerprint of the tensors' present content, without reading the content.

    An in-place update (an optimizer step, ``copy_`` in ``load_state_dict``) bumps ``_version``;
    replacing the memory (``.to()``, ``.double()``) changes ``data_ptr``, dtype or device; another
    tensor is another object. A write through ``tensor.data`` escapes: it has a version counter of
    its own.

    Args:
        tensors: For example a module's parameters and buffers. The order counts.

    Returns:
        One entry per tensor, which keeps the tensor alive.
    """
    return tuple(_Version(tensor) for tensor in tensors)


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The dtype that matrix products of float32 give on ``device`` now: whether autocast is on, and
    to what.

    Asked by computing one, because the functions that query autocast differ between versions of
    torch.
    """
    one = torch.ones((1, 1), device=device)
    return torch.mm(one, one).dtype
