"""Optimizer construction for trainable parameters; mixed precision on the CPU."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmsdpt.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmsdpt.utils.errors import InputError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, restricted to parameters that require a gradient.

    MMEngine's passes all of them, so the optimizer state for ten tokens would list every frozen
    tensor. ``paramwise_cfg`` works as usual.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        inner = model.module if is_model_wrapper(model) else model
        trained = [p for p in inner.parameters() if p.requires_grad]
        if not trained:
            raise ValueError("nothing would train: no parameter of the model requires a gradient")
        # Without paramwise_cfg, MMEngine only calls parameters() and makes one group.
        plain = SimpleNamespace(parameters=lambda: trained)
        wrapper = super().__call__(inner if self.paramwise_cfg else plain)
        closure = inspect.signature(wrapper.optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise InputError(
                f"{type(wrapper.optimizer).__name__} computes the loss several times in a step,"
                " which a run does not: set another optim_wrapper.optimizer.type, for example AdamW"
            )
        if wrapper.optimizer.defaults.get("fused"):
            wrapper.optimizer.register_step_post_hook(_count_as_changed)
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module=None
    ) -> None:
        # MMEngine also skips frozen parameters, but with a warning for each of a thousand.
        if any(p.requires_grad for p in module.parameters()):
            super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
            # OpenMMLab's version also lists frozen parameters of a module with trainable ones.
            params[:] = [group for group in params if group["params"][0].requires_grad]


def _count_as_changed(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Increment the version of parameters, because PyTorch's fused steps do not. Otherwise values
    cached from them (:class:`~mmsdpt.utils.memo.Memo`) would be out of date after the step.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            torch.autograd.graph.increment_version(parameter)


def use_mixed_precision(settings: MutableMapping[str, Any], device: str) -> None:
    """Change an optimizer's config to automatic mixed precision: bfloat16 on the CPU, float16 with
    loss scaling elsewhere, unless the config says otherwise.
    """
    if device == "cpu":
        settings["type"] = "CPUAmpOptimWrapper"
        settings.pop("loss_scale", None)  # bfloat16 needs none
    else:
        settings["type"] = "AmpOptimWrapper"
        settings.setdefault("loss_scale", "dynamic")


def bfloat16_slowdown() -> float:
    """Time of a matrix product in bfloat16 relative to float32 on this CPU: below 1 with hardware
    support, 10 or more if it is emulated.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(256, 256, dtype=dtype)
        times = []
        for _ in range(6):  # the first one includes the library's start
            start = time.perf_counter()
            torch.matmul(matrix, matrix)
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] / seconds[torch.float32]


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Autocast to bfloat16 on the CPU, which MMEngine's ``AmpOptimWrapper`` does not support.

    bfloat16 has the range of float32, so the loss needs no scaling. A warning is logged if the
    processor computes it more slowly than float32.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        slowdown = bfloat16_slowdown()
        if slowdown > 2:
            print_log(
                f"on this processor bfloat16 is about {slowdown:.0f} times slower than float32:"
                " training without --amp is faster",
                logger="current",
                level=logging.WARNING,
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
