"""The base class of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import nn

from mmsdpt.hosts.seams import Seam


class Tuner(BaseModule):
    """A parameter-efficient method: owns what it trains and acts at a host's seams.

    A subclass names the kinds of seams that it :attr:`needs`, makes its parameters in the
    constructor from the seams' widths and connects its handlers there. It is built by the host
    under ``tuners.<slot>``: ``model=dict(type='mmsdpt.GLIP', tuner=dict(type='mmsdpt.SDPT',
    num_tokens=10))``.

    Args:
        seams: The host's seams by kind.
        frozen: Attach without training, to stack another tuner on a finished one.
        init_cfg: As in MMEngine.

    Raises:
        ValueError: if the host lacks a kind of seam that the method needs.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Kinds of seams without which the method cannot work."""
    mergeable: ClassVar[bool] = False
    """Whether :meth:`merge` can write the tuner into the host's weights."""

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.frozen = frozen
        self.enabled = True
        for kind in self.needs:
            if kind not in seams:
                raise ValueError(
                    f"{type(self).__name__} needs '{kind}' seams, and"
                    f" {getattr(seams, 'host', 'this host')} has"
                    f" {', '.join(sorted(seams)) or 'none'}"
                    + (
                        "; GLIP has fusion layers only with early_fuse=True"
                        if kind == "fusion"
                        else ""
                    )
                )

    def config(self) -> dict[str, Any]:
        """What must agree for a tuner file to fit: the settings that give the parameters their
        meaning (JSON types).
        """
        raise NotImplementedError

    def num_trainable(self) -> int:
        """Closed formula of the trainable parameters, checked against the real count by the
        tests.
        """
        raise NotImplementedError

    def merge(self, host: nn.Module) -> None:
        """Write the tuner into the host's weights.

        Raises:
            ValueError: if the method has no equivalent weights.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be merged: it does not act as a change of the host's"
            " weights"
        )
