"""Recompute activations in the backward pass, with the parameters that the forward pass used."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *args: Any) -> Any:
    """``module(*args)`` without keeping its activations; the backward pass computes them again.

    Non-reentrant: the reentrant form, which MMDetection uses, cuts the gradient if no input needs
    one, which is the usual case here. During the forward pass, a tuner may replace the host's
    parameters by its own values (:class:`mmsdpt.hosts.seams.ParameterSeam`). The second run comes
    later and must see the same values, so they are stored here.
    """
    values = dict(module.named_parameters())

    def run(*inputs: Any) -> Any:
        return functional_call(module, values, inputs)

    return checkpoint(run, *args, use_reentrant=False)
