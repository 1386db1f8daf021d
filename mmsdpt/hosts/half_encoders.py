"""Frozen encoders in half precision: half the memory of their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.utils.errors import InputError
from mmsdpt.utils.fingerprint import sampled_values
from mmsdpt.utils.memo import autocast_dtype

from .stages import DTYPES, Stage, acting_in, trained_in


class HalfEncodersMixin:
    """Encoders of a host whose weights can be stored in half precision."""

    _half_stages: Mapping[str, torch.dtype] = MappingProxyType({})
    """By stage in half precision, the dtype of its matrix products."""
    full_precision_values: Mapping[str, Tensor] = MappingProxyType({})
    """By rounded parameter, what its fingerprint was made of
    (:mod:`mmsdpt.utils.fingerprint`)."""

    def halve_encoders(self, dtype: str, testing: bool = False) -> None:
        """Store the weights of linear layers and convolutions of the frozen encoders in half
        precision, and run these encoders under autocast from now on, also where the rest of the
        model computes in float32.

        Autocast rounds these weights in every pass, so with mixed precision of the same dtype no
        output changes. Encoders in which something trains, or a tuner acts, stay as they are. Base
        weights must be loaded before.

        Args:
            dtype: ``bfloat16`` or ``float16``.
            testing: Whether the model is only tested: then a host without tuners does not train.

        Raises:
            InputError: for another dtype.
        """
        if dtype not in DTYPES:
            raise InputError(f"encoder_dtype must be {' or '.join(DTYPES)}, or None, got {dtype!r}")
        self._half_stages = dict(self._half_stages)
        self.full_precision_values = dict(self.full_precision_values)
        for stage in self.stages():  # type: ignore[attr-defined]
            if stage.name in self._half_stages:
                continue
            if reason := self._why_full(stage, testing):
                print_log(f"The {stage.name} encoder stays in full precision: {reason}", "current")
                continue
            saved = 0
            for name, parameter in self._half_parameters(stage):
                self.full_precision_values[name] = sampled_values(parameter)
                half = parameter.data.to(DTYPES[dtype])
                saved += parameter.nbytes - half.nbytes
                parameter.data = half
            self._half_stages[stage.name] = DTYPES[dtype]
            print_log(
                f"The {stage.name} encoder runs in {dtype}: its weights take {saved / 1e6:,.1f} MB"
                " less",
                "current",
            )

    def _why_full(self, stage: Stage, testing: bool) -> str:
        """Why an encoder cannot be in half precision; empty if it can."""
        for tuner in acting_in(self, stage):  # type: ignore[arg-type]
            return f"{type(tuner).__name__} acts there"
        if testing and not self.tuners and self._trainable_patterns is None:  # type: ignore[attr-defined]
            return ""
        name = trained_in(self, stage)  # type: ignore[arg-type]
        return f"{name} trains" if name else ""

    def _half_parameters(self, stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights that only matrix products and convolutions use: autocast rounds them."""
        for name, module in self.named_modules():  # type: ignore[attr-defined]
            if stage.has(name) and isinstance(module, (nn.Linear, nn.Conv2d)):
                for kind, parameter in module.named_parameters(recurse=False):
                    yield f"{name}.{kind}", parameter

    def encoder_precision(self, stage: str) -> AbstractContextManager:
        """Context in which the encoder of a stage runs: autocast for one in half precision."""
        if (dtype := self._half_stages.get(stage)) is None:
            return nullcontext()
        device = next(self.parameters()).device  # type: ignore[attr-defined]
        if autocast_dtype(device) is not None:
            return nullcontext()
        return torch.autocast(device.type, dtype=dtype)


def as_outside(output: Tensor) -> Tensor:
    """Output of an encoder, in float32 if the rest of the model does not run under autocast."""
    is_half = output.dtype in DTYPES.values()
    return output.float() if is_half and autocast_dtype(output.device) is None else output
