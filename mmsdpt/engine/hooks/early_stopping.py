"""Early stopping when the validation score no longer improves."""

from __future__ import annotations

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsdpt.engine.state import is_score
from mmsdpt.registry import HOOKS


# The second name is that of version 0.1.
@HOOKS.register_module(name=["EarlyStoppingHook", "StopOnPlateauHook"])
class EarlyStoppingHook(Hook):
    """Stop training after ``patience`` evaluations without a new best score.

    MMEngine's hook of this name keeps its count in memory, so a resumed run loses it, and it counts
    a score equal to the best as an improvement, so constant rounded scores would never stop a run.
    This hook uses the score history in the checkpoints.

    Args:
        monitor: Name of the score, e.g. ``coco/bbox_mAP``. Evaluations without it, or with an
            invalid value, do not count.
        patience: Number of evaluations without a new best score after which training stops.
        rule: ``greater`` or ``less``: which scores are better.
    """

    priority = "LOWEST"

    def __init__(self, monitor: str, patience: int, rule: str = "greater") -> None:
        if rule not in ("greater", "less"):
            raise ValueError(f"rule must be greater or less, got {rule!r}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.monitor, self.patience, self.rule = monitor, patience, rule

    def before_train(self, runner: Runner) -> None:
        """Stop a resumed run that had already been stopped."""
        if f"val/{self.monitor}" in runner.message_hub.log_scalars:
            self._stop_if_due(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.monitor not in (metrics or {}):
            runner.logger.warning(
                f"EarlyStoppingHook did not find {self.monitor} in this evaluation; its scores are:"
                f" {', '.join(metrics or {}) or 'none'}"
            )
            return
        # MMEngine's RuntimeInfoHook has added the current score to the history.
        if is_score(metrics[self.monitor]):
            self._stop_if_due(runner)

    def _stop_if_due(self, runner: Runner) -> None:
        if runner.train_loop.stop_training:  # a resumed run has just validated
            return
        history = runner.message_hub.get_scalar(f"val/{self.monitor}").data[0]
        scores = np.asarray([score for score in history if is_score(score)])
        if not len(scores):
            return
        best = int(np.argmax(scores if self.rule == "greater" else -scores))
        if len(scores) - 1 - best >= self.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f"{self.monitor} has not improved on {scores[best]:.4g} in the last"
                f" {len(scores) - 1 - best} evaluations: training ends"
            )
