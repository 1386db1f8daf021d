"""Count the multiply-adds that a model executes.

Counted is what is a sum of products: matrix products, attention and convolutions, by the formulas
of ``torch.utils.flop_counter`` (two operations are one multiply-add). Norms, activations, softmax
and the bilinear samples of deformable convolution are not; the product of a deformable convolution
is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
REST = "rest"


def _two_per_weight(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """mv(A, x) and dot(x, y): two operations per element of the first factor."""
    return 2 * args[0].numel()


def _two_per_weight_added(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """addmv(y, A, x)."""
    return 2 * args[1].numel()


_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _aten.mv: _two_per_weight,
    _aten.dot: _two_per_weight,
    _aten.addmv: _two_per_weight_added,
}


class MacCounter(TorchDispatchMode):
    """Counts multiply-adds while it is on, by part of the model.

    Args:
        parts: Label by module; what runs outside of them is ``rest``. A part inside another one
            counts by its own label.

    Attributes:
        by_part: Multiply-adds by label.
    """

    def __init__(self, parts: Mapping[nn.Module, str] | None = None) -> None:
        super().__init__()
        self.by_part: Counter[str] = Counter()
        self._parts = dict(parts or {})
        self._labels = [REST]
        self._hooks: list[Any] = []

    @property
    def total(self) -> int:
        """Multiply-adds of all parts."""
        return sum(self.by_part.values())

    def __enter__(self):
        for module in self._parts:
            self._hooks += [
                module.register_forward_pre_hook(self._enter_part),
                module.register_forward_hook(self._leave_part, always_call=True),
            ]
        return super().__enter__()

    def __exit__(self, *error: Any):
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        return super().__exit__(*error)

    def _enter_part(self, module: nn.Module, args: Any) -> None:
        self._labels.append(self._parts[module])

    def _leave_part(self, module: nn.Module, args: Any, out: Any) -> None:
        self._labels.pop()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            operations = formula(*args, **(kwargs or {}), out_val=out)
            self.by_part[self._labels[-1]] += operations // 2
        elif "attention" in func._schema.name:
            raise NotImplementedError(
                f"{func._schema.name} has no formula here, so its multiply-adds would be missing:"
                " count on the meta device, or add the formula to projects/sdpt_poster/macs.py"
            )
        return out
