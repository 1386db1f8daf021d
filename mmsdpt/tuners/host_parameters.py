"""The base of methods that train some of the host's own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ParameterSeam

from .base import Seams, Tuner
from .layers.common import key_of


class Merging(Tuner):
    """A tuner that changes parameters of the host and nothing else: it can be merged.

    Attributes:
        chosen: Seams of the parameters that it changes.
    """

    mergeable: ClassVar[bool] = True
    chosen: list[ParameterSeam]
    _unmerged: list[Tensor] | None = None

    def changed(self, i: int) -> Tensor:
        """The value that the i-th parameter has with the tuner."""
        raise NotImplementedError

    @torch.no_grad()
    def merge(self) -> None:
        """Write the changes into the host's weights, and switch the tuner off.

        The host's own weights are kept for :meth:`unmerge`.
        """
        if self._unmerged is not None:
            raise ValueError(f"{type(self).__name__} is already merged")
        self.prepare()
        self._unmerged = [seam.value().clone() for seam in self.chosen]
        for i, seam in enumerate(self.chosen):
            seam.value().copy_(self.changed(i))
        self.enabled = False

    @torch.no_grad()
    def unmerge(self) -> None:
        """Give the host its own weights back, to the bit, and switch the tuner on."""
        if self._unmerged is None:
            super().unmerge()
            return
        for seam, value in zip(self.chosen, self._unmerged, strict=True):
            seam.value().copy_(value)
        self._unmerged = None
        self.enabled = True


class HostParameters(Merging):
    """Trains copies of chosen parameters of the host, which take the originals' place.

    The originals stay as they are, so the method has a small file of its own, and switching it off
    gives back the host. A copy starts from the loaded weights, at the first forward pass. Weight
    decay pulls the values to zero, as in plain fine-tuning, and not to where they started.

    A subclass says in :meth:`selects` which parameters it trains.

    Raises:
        ValueError: if no parameter is selected, or another tuner replaces one of them.
    """

    needs: ClassVar[tuple[str, ...]] = ("parameters",)
    zero_init: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, seams: Seams, **common: Any) -> None:
        super().__init__(seams=seams, **common)
        parameters = cast(Sequence[ParameterSeam], seams["parameters"])
        self.chosen = [seam for seam in parameters if self.selects(seam)]
        if not self.chosen:
            raise ValueError(
                f"{type(self).__name__} finds none of its parameters in this host, which has"
                f" {len(parameters)}, first {parameters[0].name if parameters else 'none'}"
            )
        self.values = nn.ParameterDict(
            {key_of(seam.name): torch.empty_like(seam.value()) for seam in self.chosen}
        )
        for seam in self.chosen:
            seam.connect(self, self._value, exclusive=True)

    def selects(self, seam: ParameterSeam) -> bool:
        """Whether the method trains this parameter."""
        raise NotImplementedError

    def _value(self, seam: ParameterSeam, value: Tensor) -> Tensor:
        return self.values[key_of(seam.name)]

    def changed(self, i: int) -> Tensor:
        return self.values[key_of(self.chosen[i].name)]

    def start_from_host(self) -> None:
        for seam in self.chosen:
            self.values[key_of(seam.name)].copy_(seam.value())
