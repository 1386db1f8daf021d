"""Checks of what a tuner is configured with."""

from __future__ import annotations


def whole_number(name: str, value: int, minimum: int = 1) -> int:
    """``value``, if it is a whole number of at least ``minimum``: a number of tokens, a width.

    Args:
        name: Of the argument, for the message.
        value: As the config gives it, so possibly no integer.
        minimum: The smallest that makes sense; 0 where the part may be left out.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return value
