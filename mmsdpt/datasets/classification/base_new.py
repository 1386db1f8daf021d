"""Base and new classes (CoCoOp, ``subsample_classes``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from .items import Item

Subset = Literal["all", "base", "new"]


def select_classes(
    items: Sequence[Item], names: Sequence[str], subset: Subset
) -> tuple[list[Item], tuple[str, ...]]:
    """Keep the items of one half of the classes.

    With sorted labels, base is the first ceil(C / 2) of C classes and new the rest. Labels count
    from 0 within each half, so that each is tested in its own label space.

    Args:
        items: Items with labels 0 .. C - 1.
        names: The C class names.
        subset: ``all`` changes nothing.

    Returns:
        The items with their new labels, and their class names.
    """
    middle = math.ceil(len(names) / 2)
    start, stop = {"all": (0, len(names)), "base": (0, middle), "new": (middle, len(names))}[subset]
    kept = [replace(item, label=item.label - start) for item in items if start <= item.label < stop]
    return kept, tuple(names[start:stop])
