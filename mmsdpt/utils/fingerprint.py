"""A fingerprint of base weights, to check that a tuner belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import torch
from torch import Tensor, nn

_SAMPLES = 256


@torch.no_grad()
def sampled_values(parameter: Tensor) -> Tensor:
    """The values of a tensor that :func:`base_fingerprint` hashes, as float32 on the CPU."""
    flat = parameter.detach().reshape(-1)
    step = max(1, flat.numel() // _SAMPLES)
    return flat[::step][:_SAMPLES].to("cpu", torch.float32).clone()


@torch.no_grad()
def base_fingerprint(
    host: nn.Module, frozen_only: bool = False, without: Collection[str] = ()
) -> str:
    """SHA-256 over the host's parameters, without the tuners'.

    For each tensor it hashes name, shape and 256 evenly spaced values as float32. Any training
    changes those; reading all of a 1.7 GB model at every save would take seconds. The result does
    not depend on the device.

    Args:
        frozen_only: Leave out trainable parameters: the fingerprint then stays constant in a run.
    """
    digest = hashlib.sha256()
    before = getattr(host, "full_precision_values", {})  # of encoders in half precision
    for name, parameter in sorted(host.named_parameters()):
        if name.startswith("tuners.") or name in without:
            continue
        if frozen_only and parameter.requires_grad:
            continue
        values = before[name] if name in before else sampled_values(parameter)
        digest.update(f"{name}:{tuple(parameter.shape)}:".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
