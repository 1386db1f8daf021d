"""Hosts that tests share between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmsdpt.hosts.seams import Seam


def disconnect_all(seams: Mapping[str, Sequence[Seam]]) -> None:
    """Take all handlers off; also those of a tuner that was refused, or is switched off."""
    for kind in seams.values():
        for seam in kind:
            seam._handlers.clear()
