"""Seams: the places of a host where tuners may act.

A host makes one seam object per place and calls it in its forward pass; a tuner connects handlers
to the seams it needs and never sees the host's classes. Seams are plain objects, no modules: they
own no parameters, so they leave the state dict alone. With no active handler a seam adds no
operation, which is why a host whose tuners are switched off computes the untouched model's output
bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmsdpt.tuners.base import Tuner


class Seam:
    """One place of a host.

    Args:
        index: Position among the seams of the same kind, from the input of the host to its output.
        widths: Widths that a tuner needs to size its parameters, by name.
    """

    kind: ClassVar[str]

    def __init__(self, index: int, widths: Mapping[str, int]) -> None:
        self.index = index
        self.widths = dict(widths)
        self._handlers: list[tuple[Tuner, Callable[..., Any]]] = []

    def connect(self, tuner: Tuner, handler: Callable[..., Any]) -> None:
        """Let ``handler`` act here whenever ``tuner`` is enabled. Handlers act in the order of
        their connection.
        """
        self._handlers.append((tuner, handler))

    def disconnect(self, tuner: Tuner) -> None:
        """Remove every handler of ``tuner``."""
        self._handlers = [(t, h) for t, h in self._handlers if t is not tuner]

    def active(self) -> list[Callable[..., Any]]:
        """Handlers of the tuners that are switched on."""
        return [handler for tuner, handler in self._handlers if tuner.enabled]


@dataclass(frozen=True)
class FusionTokens:
    """Extra keys and values for one X-MHA layer; their own outputs are dropped.

    Attributes:
        image: (k, D_image) rows appended to the layer-normed image features: extra keys for the
            text queries.
        text: (k, D_text) rows appended to the layer-normed text features: extra keys for the image
            queries.
    """

    image: Tensor | None = None
    text: Tensor | None = None


class FusionSeam(Seam):
    """A cross-modality attention (X-MHA) layer.

    Widths: ``image``, ``text``, ``joint`` and ``heads``. ``projections`` maps ``image`` and
    ``text`` to the linear layers that carry each modality into the joint space, W (joint x width)
    and b; tuners may read them, never change them.
    """

    kind = "fusion"

    def __init__(
        self, index: int, widths: Mapping[str, int], projections: Mapping[str, nn.Linear]
    ) -> None:
        super().__init__(index, widths)
        self.projections = dict(projections)

    def tokens(self) -> FusionTokens:
        """Tokens of all active tuners, concatenated in the order of the slots."""
        offers: list[FusionTokens] = [handler(self) for handler in self.active()]
        return FusionTokens(
            image=_concatenate(offer.image for offer in offers),
            text=_concatenate(offer.text for offer in offers),
        )


def _concatenate(parts: Iterable[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    return torch.cat(present, dim=0)


class SeamMap(Mapping[str, Sequence[Seam]]):
    """The seams of a host by kind.

    Indexing with a kind that the host does not have raises a KeyError that says so.
    """

    def __init__(self, host: str, seams: Mapping[str, Sequence[Seam]]) -> None:
        self.host = host
        self._seams = {kind: tuple(points) for kind, points in seams.items() if points}

    def __getitem__(self, kind: str) -> Sequence[Seam]:
        if kind not in self._seams:
            have = ", ".join(sorted(self._seams)) or "none"
            raise KeyError(f"{self.host} has no '{kind}' seams (it has: {have})")
        return self._seams[kind]

    def __iter__(self):
        return iter(self._seams)

    def __len__(self) -> int:
        return len(self._seams)
