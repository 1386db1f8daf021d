"""Checks of what a tuner is configured with."""

from __future__ import annotations


def positive_integer(name: str, value: int, minimum: int = 1) -> int:
    """``value``, if it is an integer of at least ``minimum``: a number of tokens, a width.

    Args:
        name: Of the argument, for the message.
        value: As the config gives it, so possibly no integer.
        minimum: The smallest that makes sense; 0 where the part may be left out.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        wanted = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return value
