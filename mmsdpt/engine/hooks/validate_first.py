"""A validation before the first step: the untrained model is epoch 0."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsdpt.registry import HOOKS


@HOOKS.register_module()
class ValidateFirstHook(Hook):
    """Validate the untrained model, so that it may be saved as the best state and early stopping
    counts from it: no method ends below the model that it started from.
    """

    priority = "LOWEST"  # after the checkpoint hook knows its folder

    def before_train(self, runner: Runner) -> None:
        if runner.iter == 0 and runner.val_loop is not None:
            runner.val_loop.run()
