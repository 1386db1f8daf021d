"""Schedules that depend on the number of epochs of the run, or on validation scores."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler

from mmsdpt.utils.errors import InputError

from .state import is_score

_WORDS = ("type", "_scope_", "param_name", "anneal_strategy", "monitor", "rule", "threshold_rule")
_SHARE = re.compile(r"(?:(\d+)/([1-9]\d*) )?max_epochs")


def follow_max_epochs(scheduler: Mapping[str, Any], max_epochs: int) -> dict[str, Any]:
    """Replace ``"max_epochs"`` in the settings of a scheduler by the run's number of epochs.

    A config is read before ``--cfg-options train_cfg.max_epochs=30`` changes it, so a number
    computed in the config would be wrong afterwards. The word is replaced later.

    Args:
        scheduler: Settings of one scheduler. A value, or an entry of a list, may be
            ``"max_epochs"`` or a fraction of it, ``"2/3 max_epochs"``.
        max_epochs: Number of epochs of the run.

    Returns:
        The settings with numbers; fractions are rounded, and at least 1.

    Raises:
        InputError: if the word is misspelt, or used in a scheduler that counts iterations, or a
            number is replaced by another string.
    """

    def number(value: Any, key: str) -> Any:
        if isinstance(value, (list, tuple)):
            return [number(item, key) for item in value]
        if not isinstance(value, str) or key in _WORDS:
            return value
        if "max_epochs" not in value:
            raise InputError(
                f"{key} of {scheduler.get('type')} must not be a string, got {value!r}"
            )
        share = _SHARE.fullmatch(value)
        if not share:
            raise InputError(
                f'{value!r} in a schedule must be "max_epochs" or a fraction, as "2/3 max_epochs"'
            )
        if not scheduler.get("by_epoch", True):
            raise InputError(
                f"{value!r} is set in a {scheduler.get('type')} that counts iterations: set"
                " by_epoch=True"
            )
        return max(1, round(Fraction(int(share[1] or 1), int(share[2] or 1)) * max_epochs))

    return {key: number(value, key) for key, value in scheduler.items()}


def follow_scores_alone(scheduler: ReduceOnPlateauParamScheduler) -> None:
    """Let a schedule pass over validations without a score: MMEngine's ends the run, for example
    if a detector has found nothing yet, and takes a score that is not a number for a bad one.
    """
    kind = type(scheduler)

    class Scored(kind):  # type: ignore[misc, valid-type]
        """The schedule, stepped by scores alone."""

        def step(self, metrics: Mapping[str, Any] | None = None) -> None:
            if metrics is None or is_score(metrics.get(self.monitor)):
                super().step(metrics)
            elif metrics and self.monitor not in metrics:
                raise InputError(
                    f"monitor={self.monitor!r} of {kind.__name__} is not a score of this"
                    f" validation; its scores are: {', '.join(metrics)}"
                )
            else:
                print_log(
                    f"{kind.__name__} passes over this validation, which has no {self.monitor}",
                    "current",
                    logging.WARNING,
                )

    Scored.__name__, Scored.__qualname__ = kind.__name__, kind.__qualname__
    scheduler.__class__ = Scored
