"""Recompute activations in the backward pass, with the parameters that the forward pass used."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *args: Any) -> Any:
    """``module(*args)`` without keeping its activations; they are computed again for the gradient.

    Non-reentrant: the reentrant form, which MMDetection uses, cuts the gradient where all inputs
    are frozen, which is the rule here. A tuner may put its own values in place of the host's
    parameters for the time of the forward pass (:class:`mmsdpt.hosts.seams.ParameterSeam`); the
    second run comes after that and must see the same values, so they are remembered here.
    """
    values = dict(module.named_parameters())

    def run(*inputs: Any) -> Any:
        return functional_call(module, values, inputs)

    return checkpoint(run, *args, use_reentrant=False)
