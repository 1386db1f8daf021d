"""Gaussian-weighted average of the trainable parameters over the epochs of a run."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from mmsdpt.registry import HOOKS
from mmsdpt.utils.errors import InputError

from .early_stopping import EarlyStoppingHook

_ENDS_A_RUN = (EarlyStoppingHook, MMEngineEarlyStoppingHook)
_ENTRY = "gaussian_average"  # in a run's checkpoint


@HOOKS.register_module()
class GaussianAverageHook(Hook):
    """After the last epoch, replace the trainable parameters by their weighted average over the
    epochs (PromptSRC, Khattak et al., ICCV 2023, section 3.2).

    With P_e the tensors after epoch e = 1 ... E:

        P = sum_e w_e P_e,    w_e = exp(-(e - mean)^2 / (2 std^2)) / (the sum of these over e)

    Training itself is not changed. The last validation, the last checkpoint and the tuner file use
    the average. Checkpoints hold the running sum, in at least float32, so that a resumed run ends
    with the same average.

    Args:
        mean: In epochs, counted from 1.
        std: In epochs.
        epochs: Number of epochs that ``mean`` and ``std`` refer to; both scale with the length of
            the run. None: no scaling.

    Raises:
        InputError: if a number is not positive, the run does not train by epochs or may stop early,
            or a resumed run has no sum or another length.
    """

    def __init__(self, mean: float, std: float, epochs: int | None = None) -> None:
        numbers = dict(mean=mean, std=std, epochs=1 if epochs is None else epochs)
        for name, value in numbers.items():
            if value <= 0:
                raise InputError(f"GaussianAverageHook: {name} must be above 0, got {value!r}")
        self.mean, self.std, self.epochs = mean, std, epochs
        self._sums: dict[str, Tensor] = {}
        self._max_epochs = 0  # of the running sum

    def weights(self, max_epochs: int) -> list[float]:
        """w_e for e = 1 ... ``max_epochs``."""
        scale = max_epochs / self.epochs if self.epochs else 1.0
        mean, std = scale * self.mean, scale * self.std
        exponents = [-((e - mean) ** 2) / (2 * std**2) for e in range(1, max_epochs + 1)]
        highest = max(exponents)
        found = [math.exp(x - highest) for x in exponents]
        return [w / sum(found) for w in found]

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise InputError(
                "GaussianAverageHook averages over epochs, but this run counts iterations: use"
                " train_cfg=dict(by_epoch=True, max_epochs=...)"
            )
        if any(isinstance(hook, _ENDS_A_RUN) for hook in runner.hooks):
            raise InputError(
                "GaussianAverageHook weights the epochs by the length of the run, and early"
                " stopping may end it before: leave out one of the two (in a study:"
                " selection.patience=None)"
            )
        found = {name: tuple(x.shape) for name, x in self._sums.items()}
        if runner.epoch == 0:  # a loaded start checkpoint is not part of this run
            self._sums, self._max_epochs = {}, runner.max_epochs
        elif self._max_epochs != runner.max_epochs:
            raise InputError(
                f"the run's average is for {self._max_epochs} epochs, but the config now has"
                f" {runner.max_epochs}: keep train_cfg.max_epochs when resuming"
            )
        elif found != {name: tuple(p.shape) for name, p in _trained(runner).items()}:
            raise InputError(
                "the checkpoint has no running average: resume one that was written with"
                " GaussianAverageHook, or remove the hook"
            )

    @torch.no_grad()
    def after_train_epoch(self, runner: Runner) -> None:
        trained, epoch = _trained(runner), runner.epoch
        weight = self.weights(runner.max_epochs)[epoch]
        for name, p in trained.items():
            part = weight * p.detach().to(torch.promote_types(p.dtype, torch.float32))
            self._sums[name] = self._sums[name].to(p.device) + part if epoch else part
        if epoch + 1 == runner.max_epochs:
            for name, p in trained.items():
                p.copy_(self._sums[name])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        sums = {name: value.cpu() for name, value in self._sums.items()}
        checkpoint[_ENTRY] = dict(max_epochs=self._max_epochs, sums=sums)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        found = checkpoint.get(_ENTRY) or {}
        self._max_epochs = found.get("max_epochs", runner.max_epochs)
        self._sums = dict(found.get("sums", {}))


def _trained(runner: Runner) -> dict[str, Tensor]:
    return {name: p for name, p in runner.host.named_parameters() if p.requires_grad}
