"""Reading configs that many cells share."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmsdpt.utils.errors import InputError


def read_config(path: Path) -> ConfigDict:
    """A config's content, the caller's own to change.

    Raises:
        InputError: if the file does not exist.
    """
    if not path.is_file():
        raise InputError(f"config not found: {path}")
    return copy.deepcopy(_parse(path.resolve(), path.stat().st_mtime_ns))


@lru_cache(maxsize=128)
def _parse(path: Path, changed: int) -> ConfigDict:
    return Config.fromfile(path)._cfg_dict
