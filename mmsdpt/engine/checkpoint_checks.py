"""Checks of a run's checkpoint, part by part, before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmsdpt.utils.base_weights import CheckpointError

from .state import parameters_of, random_state, set_random_state

_NEEDED_OF_A_SCHEDULE = ("last_step", "_global_step", "_last_value")


def check_contents(checkpoint: Mapping[str, Any], filename: str) -> None:
    """Check the parts that every checkpoint has: metadata, tensors, log and random states.

    Raises:
        CheckpointError: naming the part that is missing, has a wrong type or is not finite.
    """
    try:
        _check_meta(_part(checkpoint, "meta", Mapping))
        for name, value in _part(checkpoint, "state_dict", Mapping).items():
            _require(isinstance(name, str) and isinstance(value, Tensor), name, "not a tensor")
            _require(bool(torch.isfinite(value).all()), name, "not finite")
        _check_messages(_part(checkpoint, "message_hub", Mapping))
        _check_random_states(_part(checkpoint, "random_states", Sequence))
    except _Damage as damage:
        raise CheckpointError(f"{filename} is damaged: {damage}") from None


def check_resumable(
    checkpoint: Mapping[str, Any],
    filename: str,
    optim_wrapper: OptimWrapper,
    schedules: Sequence | None,
) -> None:
    """Check optimizer, gradients and schedules against those of the config.

    Raises:
        CheckpointError: naming what is missing or does not fit.
    """
    if "optimizer" not in checkpoint:
        raise CheckpointError(
            f"{filename} has no optimizer state, so it cannot be resumed: resume from the newest"
            " checkpoint (--resume without a file), or start a new run from this one with"
            f" --cfg-options tuner_files.default={filename}"
        )
    try:
        _check_optimizer(_part(checkpoint, "optimizer", Mapping), optim_wrapper)
        if schedules is not None:
            _check_schedules(_part(checkpoint, "param_schedulers", Sequence), schedules)
        if "gradients" in checkpoint:  # saved between two optimizer steps
            _check_gradients(_part(checkpoint, "gradients", Sequence), optim_wrapper)
    except _Damage as damage:
        raise CheckpointError(
            f"{filename} does not fit the optimizer and schedules of the config: {damage}"
        ) from None


class _Damage(Exception):
    """The first problem in a checkpoint."""


def _require(condition: bool, where: str, problem: str) -> None:
    if not condition:
        raise _Damage(f"{where} is {problem}")


def _part(mapping: Mapping, name: str, kind: Any) -> Any:
    _require(name in mapping, name, "missing")
    value = mapping[name]
    _require(
        isinstance(value, kind) and not isinstance(value, (str, bytes)),
        name,
        f"of the wrong type ({type(value).__name__})",
    )
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_meta(meta: Mapping) -> None:
    for name in ("epoch", "iter"):
        _require(_is_count(meta.get(name)), f"meta.{name}", "not a count")
    seed = meta.get("seed")
    _require(seed is None or (_is_count(seed) and seed < 2**32), "meta.seed", "not a seed")
    for name in ("settings", "trained_classes"):
        _require(isinstance(meta.get(name, {}), Mapping), f"meta.{name}", "not a dict")


def _check_messages(messages: Mapping) -> None:
    for name, item in _part(messages, "log_scalars", Mapping).items():
        where = f"log_scalars.{name}"
        _require(isinstance(name, str) and isinstance(item, Mapping), where, "not a log")
        values, counts = (_part(item, part, Tensor) for part in ("values", "counts"))
        _require(
            values.dim() == 1 and values.shape == counts.shape, where, "of inconsistent shapes"
        )
        _require(_is_count(item.get("max_length")), f"{where}.max_length", "not a count")
    for name, value in _part(messages, "runtime_info", Mapping).items():
        where = f"runtime_info.{name}"
        _require(isinstance(name, str), where, "not named by a string")
        if name.startswith("best_score"):
            _require(
                isinstance(value, (int, float)) and not math.isnan(value), where, "not a score"
            )
        elif name.startswith("best_ckpt") or name == "last_ckpt":
            _require(isinstance(value, (str, type(None))), where, "not a path")
        elif name == "keep_ckpt_ids":
            _require(isinstance(value, list) and all(map(_is_count, value)), where, "not counts")
    for name, flag in _part(messages, "resumed_keys", Mapping).items():
        _require(isinstance(flag, bool), f"resumed_keys.{name}", "neither true nor false")


def _check_random_states(states: Sequence) -> None:
    _require(len(states) > 0, "random_states", "empty")
    before = random_state()
    try:
        for i, state in enumerate(states):
            try:
                set_random_state(state)
            except Exception as error:  # a damaged state may raise any exception
                raise _Damage(
                    f"random_states[{i}] cannot be restored ({type(error).__name__})"
                ) from None
    finally:
        set_random_state(before)


def _check_optimizer(found: Mapping, wrapper: OptimWrapper) -> None:
    own = wrapper.state_dict()
    parameters = parameters_of(wrapper)
    groups = _part(found, "param_groups", Sequence)
    _require(len(groups) == len(own["param_groups"]), "optimizer.param_groups", "of another length")
    for i, (group, expected) in enumerate(zip(groups, own["param_groups"], strict=True)):
        here = f"optimizer.param_groups[{i}]"
        _require(isinstance(group, Mapping), here, "not a dict")
        for name in ("params", "lr"):
            _require(name in group, f"{here}.{name}", "missing")
        # Some settings exist only in some versions of torch.
        _check_alike(group, {k: v for k, v in expected.items() if k in group}, here)
    for index, state in _part(found, "state", Mapping).items():
        here = f"optimizer.state[{index}]"
        _require(_is_count(index) and index < len(parameters), here, "of an unknown parameter")
        _require(isinstance(state, Mapping), here, "not a dict")
        for name, value in state.items():
            if isinstance(value, Tensor):
                # Adafactor has the means of rows and of columns.
                fits = {*value.shape} <= {1, *parameters[index].shape}
                _require(fits, f"{here}.{name}", "of another shape")
                _require(bool(torch.isfinite(value).all()), f"{here}.{name}", "not finite")
            else:
                plain = isinstance(value, (int, float, type(None)))
                _require(plain, f"{here}.{name}", "of the wrong type")
    if "loss_scaler" in found:
        _check_alike(found["loss_scaler"], own.get("loss_scaler"), "optimizer.loss_scaler")


def _check_gradients(found: Sequence, wrapper: OptimWrapper) -> None:
    """Check gradients, which may be infinite: mixed precision then skips the step."""
    parameters = dict(enumerate(parameters_of(wrapper)))
    for i, gradients in enumerate(found):
        here = f"gradients[{i}]"
        _require(isinstance(gradients, Mapping), here, "not a dict")
        for index, value in gradients.items():
            _require(index in parameters, f"{here}[{index}]", "of an unknown parameter")
            own = parameters[index]
            fits = isinstance(value, Tensor) and value.dtype == own.dtype
            fits = fits and value.shape == own.shape
            _require(fits, f"{here}[{index}]", "of another type or size than its parameter")


def _check_schedules(found: Sequence, own: Sequence) -> None:
    if len(found) != len(own):
        raise _Damage(f"it has {len(found)} schedules, but the config has {len(own)}")
    for i, (state, schedule) in enumerate(zip(found, own, strict=True)):
        here = f"param_schedulers[{i}]"
        _require(isinstance(state, Mapping), here, "not a dict")
        for name in _NEEDED_OF_A_SCHEDULE:
            _require(name in state, f"{here}.{name}", "missing")
        expected = schedule.state_dict()
        for name, value in state.items():
            _require(name in expected, f"{here}.{name}", "unknown: it belongs to another schedule")
            if isinstance(expected[name], Mapping):  # milestones: their keys are settings
                _require(isinstance(value, Mapping), f"{here}.{name}", "of the wrong type")
            else:
                _check_alike(value, expected[name], f"{here}.{name}")


def _check_alike(found: Any, expected: Any, where: str) -> None:
    """Check that ``found`` has the types of ``expected``; lists of numbers may differ in length."""
    if expected is None or found is None:
        return
    if isinstance(expected, bool):
        alike = isinstance(found, bool)
    elif isinstance(expected, (int, float)):
        alike = isinstance(found, (int, float)) and not isinstance(found, bool)
        alike = alike and not math.isnan(found)
    elif isinstance(expected, Tensor):
        alike = isinstance(found, Tensor) and found.shape == expected.shape
        alike = alike and bool(torch.isfinite(found).all())
    elif isinstance(expected, Mapping):
        alike = isinstance(found, Mapping) and expected.keys() <= found.keys()
        for name in expected if alike else ():
            _check_alike(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, (list, tuple)):
        alike = isinstance(found, (list, tuple)) and len(found) == len(expected)
        for i in range(len(expected) if alike else 0):
            _check_alike(found[i], expected[i], f"{where}[{i}]")
    else:
        alike = isinstance(found, type(expected))
    _require(alike, where, "of another type or size than the config's")
