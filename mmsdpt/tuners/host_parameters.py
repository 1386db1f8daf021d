"""The base classes of methods that train some of the host's own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import ParameterSeam

from .base import Seams, Tuner
from .layers.common import key_of


class Merging(Tuner):
    """A tuner that changes only parameters of the host, so it can be merged.

    Attributes:
        chosen: Seams of the parameters that it changes.
    """

    mergeable: ClassVar[bool] = True
    chosen: list[ParameterSeam]
    _unmerged: list[Tensor] | None = None

    @torch.no_grad()
    def merge(self) -> None:
        """Write the changes into the host's weights, and switch the tuner off.

        The host's own weights are kept for :meth:`unmerge`. If several tuners act on one parameter,
        merge them in the order in which they act on it, and unmerge them in reverse order.

        Raises:
            ValueError: if it is merged already, or another tuner must be merged or unmerged first.
        """
        if self.merged:
            raise ValueError(f"{type(self).__name__} is already merged")
        seams = self._written()
        for seam in seams:
            for other in seam.neighbours(self)[0]:
                if other.enabled:
                    name = type(other).__name__
                    raise ValueError(
                        f"{name} acts on {seam.describe()} before {type(self).__name__}: merge"
                        f" {name} first"
                    )
        self._refuse_before_later_ones()
        self.prepare()
        training = self.training
        self.eval()  # in training, the handler of a method with dropout may do nothing
        values = [seam.with_only(self) for seam in seams]
        self.train(training)
        self._unmerged = [seam.value().clone() for seam in seams]
        for seam, value in zip(seams, values, strict=True):
            seam.value().copy_(value)
        self.enabled = False

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the host's own weights, bit for bit, and switch the tuner on.

        Raises:
            ValueError: if it is not merged, or another tuner must be unmerged first.
        """
        if self._unmerged is None:
            super().unmerge()
            return
        self._refuse_before_later_ones()
        for seam, value in zip(self._written(), self._unmerged, strict=True):
            seam.value().copy_(value)
        self._unmerged = None
        self.enabled = True

    @property
    def merged(self) -> bool:
        return self._unmerged is not None

    def check_can_act(self) -> None:
        if self.merged:
            raise ValueError(
                f"{type(self).__name__} is merged, so its effect is in the host's weights: it would"
                " act twice; unmerge it first"
            )
        self._refuse_before_later_ones()

    def _refuse_before_later_ones(self) -> None:
        for seam in self._written():
            for other in seam.neighbours(self)[1]:
                if isinstance(other, Merging) and other.merged:
                    name = type(other).__name__
                    raise ValueError(
                        f"{name} is merged, and acts on {seam.describe()} after"
                        f" {type(self).__name__}: unmerge {name} first"
                    )

    def _written(self) -> list[ParameterSeam]:
        """The parameters that the tuner changes, and those that trained together with it."""
        return list(dict.fromkeys([*self.host_seams, *self.chosen]))


class HostParameters(Merging):
    """Trains copies of chosen parameters of the host, which replace the originals.

    The originals do not change, so the method has its own file, and switching it off restores the
    host. A copy starts from the loaded weights at the first forward pass. Weight decay pulls the
    values to zero, as in plain fine-tuning, and not to their starting values.

    A subclass chooses the parameters in :meth:`selects`.

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
                f"{type(self).__name__} found none of its parameters in this host, which has"
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

    def start_from_host(self) -> None:
        for seam in self.chosen:
            self.values[key_of(seam.name)].copy_(seam.value())
