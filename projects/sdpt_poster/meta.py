"""Run a model on the meta device, where tensors have shapes and no values.

Two things stand in the way, and :class:`MetaRun` clears them. A model asks for values: the length
of the longest caption, the rates of a linspace. And the meta device is slow: PyTorch computes many
shapes in Python, a millisecond each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from mmsdpt.registry import MODELS

_aten = torch.ops.aten
# Integers and booleans are lengths, masks and indices; larger ones are not asked for.
_LARGEST_KNOWN = 1 << 18
_LARGEST_KNOWN_FLOAT = 1 << 10
# Factories of floats make parameters; of these two, settings are made.
_KNOWN_FLOAT_FACTORIES = (_aten.linspace.default, _aten.arange.start_step)


class MetaRun(TorchDispatchMode):
    """Knows what can be known on the meta device, and computes each shape once.

    Values that come from the CPU or from factories are followed through the operations as long as
    nothing unknown enters: integers and booleans, and a few floats. A question about them is
    answered; a question about anything else is an error. An operation that was seen before, with
    inputs of the same shapes, gives its result without asking PyTorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values = WeakTensorKeyDictionary()
        self._seen: dict[Hashable, Any] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        if func is _aten._local_scalar_dense.default and inputs[0].is_meta:
            return self._value(inputs[0])
        if func is _aten.equal.default and any(t.is_meta for t in inputs):
            # Two tensors are not known to be equal where one of them has no values.
            return self._all_known(inputs) and bool(func(*map(self._on_cpu, inputs)))
        makes_meta = any(t.is_meta for t in inputs) or _device(kwargs) == "meta"
        if not makes_meta:
            return func(*args, **kwargs)
        pure = _is_pure(func)
        if self._follows(func, inputs):
            real = func(*tree_map(self._on_cpu, args), **tree_map(self._on_cpu, kwargs))
            out = tree_map(_without_values, real) if pure else func(*args, **kwargs)
            for made, value in zip(tree_iter(out), tree_iter(real), strict=True):
                if isinstance(made, Tensor) and _is_kept(func, value, inputs):
                    self._values[made] = value
            return out
        if pure:
            return self._shape_only(func, args, kwargs)
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._values.pop(value, None)
            if torch.Tag.pointwise in func.tags and func._schema.name.endswith("_"):
                return args[0]  # in place: nothing changes but values
        return func(*args, **kwargs)

    def _value(self, tensor: Tensor) -> Any:
        if tensor not in self._values:
            raise RuntimeError(
                f"the model asks for the value of a {tensor.dtype} that depends on weights or"
                " images, which have none on the meta device: it cannot be counted there"
            )
        return self._values[tensor].item()

    def _all_known(self, tensors: Iterable[Tensor]) -> bool:
        return all(not t.is_meta or t in self._values for t in tensors)

    def _follows(self, func: Any, inputs: list[Tensor]) -> bool:
        if torch.Tag.nondeterministic_seeded in func.tags or "empty" in func._schema.name:
            return False
        return self._all_known(inputs)

    def _on_cpu(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self._values[leaf] if leaf.is_meta else leaf
        return torch.device("cpu") if isinstance(leaf, torch.device) else leaf

    def _shape_only(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        key = (func, _frozen(args), _frozen(kwargs))
        if key not in self._seen:
            out = func(*args, **kwargs)
            self._seen[key] = tree_map(_layout, out)
            return out
        return tree_map(_from_layout, self._seen[key])


class _Layout:
    """Shape, strides and type of a meta tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.size, self.stride, self.dtype = tuple(tensor.shape), tensor.stride(), tensor.dtype

    def make(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _layout(leaf: Any) -> Any:
    return _Layout(leaf) if isinstance(leaf, Tensor) else leaf


def _from_layout(leaf: Any) -> Any:
    return leaf.make() if isinstance(leaf, _Layout) else leaf


def _without_values(leaf: Any) -> Any:
    return _Layout(leaf).make() if isinstance(leaf, Tensor) else leaf


def _device(kwargs: Mapping[str, Any]) -> str | None:
    device = kwargs.get("device")
    return None if device is None else torch.device(device).type


def _is_pure(func: Any) -> bool:
    """Whether the outputs are new tensors and the inputs stay as they are."""
    schema = func._schema
    return not schema.is_mutable and all(r.alias_info is None for r in schema.returns)


def _is_kept(func: Any, value: Tensor, inputs: list[Tensor]) -> bool:
    if not value.is_floating_point():
        return value.numel() <= _LARGEST_KNOWN
    if not inputs and func not in _KNOWN_FLOAT_FACTORIES:
        return False
    return value.numel() <= _LARGEST_KNOWN_FLOAT


def _frozen(value: Any) -> Hashable:
    """``value`` as a key: tensors by shape, strides, type and device."""
    if isinstance(value, Tensor):
        return Tensor, tuple(value.shape), value.stride(), value.dtype, value.device.type
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in sorted(value.items()))
    return type(value), value  # 1, 1.0 and True are equal, and not the same


def build_on_meta(config: Mapping[str, Any], scope: str = "mmdet") -> nn.Module:
    """Build a model without allocating its weights; inside a :class:`MetaRun`.

    Args:
        config: Of the model.
        scope: Default scope of its types.

    Returns:
        The model in eval mode.
    """
    init_default_scope(scope)
    with torch.device("meta"):
        model = MODELS.build(config)
    model.eval()
    return model
