"""Schedules that depend on the number of epochs of the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mmsdpt.utils.errors import InputError

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
