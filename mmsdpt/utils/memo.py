"""Cache values computed from tensors until one of the tensors changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """Values by key, computed once and kept until their inputs change.

    Values carry no gradient. A copy, by ``copy`` or ``pickle``, starts empty.

    Args:
        size: Number of values to keep; the least recently used one is evicted.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._state: tuple = ()

    def depend_on(self, tensors: Iterable[Tensor], *others: Hashable) -> Memo[Value]:
        """Clear the memo unless these are unchanged since the last call. Returns the memo.

        Args:
            tensors: What the values are computed from. A training step, a loaded checkpoint,
                another dtype or device changes them; so does autocast.
            others: Anything else.
        """
        versions = tensor_versions(tensors)
        devices = {version.tensor.device for version in versions}
        state = (versions, others, {device: autocast_dtype(device) for device in devices})
        if state != self._state:
            self.clear()
            self._state = state
        return self

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of ``key``; ``compute()`` where it is not known."""
        if key not in self._values:
            # Values computed in inference mode could not be used in a training step.
            with torch.inference_mode(False), torch.no_grad():
                self._values[key] = compute()
        self._values.move_to_end(key)
        value = self._values[key]
        while len(self._values) > self.size:
            self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._state = ()

    def __reduce__(self) -> tuple:
        return Memo, (self.size,)


class _Version:
    """A tensor and its state. Holding the tensor and its memory prevents their addresses from being
    reused.
    """

    __slots__ = ("memory", "state", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.memory = tensor, tensor.detach()
        self.state = (
            tensor.data_ptr(),
            # A tensor created in inference mode has no version, so it never compares equal: the
            # cache misses, but is never stale.
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


def tensor_versions(tensors: Iterable[Tensor]) -> tuple[_Version, ...]:
    """Fingerprint of the tensors' current content, without reading the content.

    An in-place update (an optimizer step, ``copy_`` in ``load_state_dict``) bumps ``_version``;
    replacing the memory (``.to()``, ``.double()``) changes ``data_ptr``, dtype or device; another
    tensor is another object. A write through ``tensor.data`` is not detected, as it has its own
    version counter.

    Args:
        tensors: For example a module's parameters and buffers. The order matters.

    Returns:
        One entry per tensor, which keeps the tensor alive.
    """
    return tuple(_Version(tensor) for tensor in tensors)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype of matrix products under autocast on ``device``; None if autocast is off."""
    kind = device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None
