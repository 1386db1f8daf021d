"""The configs that a study names: where they are, and what is in them."""

from __future__ import annotations

import os
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmsdpt.utils.cli import read_config_file
from mmsdpt.utils.detection_benchmarks import complete_detection_data
from mmsdpt.utils.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]


def find_config(path: str | os.PathLike) -> Path:
    """Find a config by its path, relative to the current folder or to the repository.

    Raises:
        InputError: if there is none.
    """
    for folder in (Path(), REPOSITORY):
        found = folder / path
        if found.is_file():
            return found
    looked = " and ".join(dict.fromkeys((str(Path.cwd()), str(REPOSITORY))))
    raise InputError(f"config not found: {path} (looked in {looked})")


def read_config(path: Path) -> dict[str, Any]:
    """A copy of a config's content; the file is read once for all cells.

    Raises:
        InputError: if the file, or one that it inherits, does not exist.
    """
    if not path.is_file():
        raise InputError(f"config not found: {path}")
    return pickle.loads(_parse(path.resolve(), path.stat().st_mtime_ns))


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int) -> bytes:
    cfg = read_config_file(path)
    complete_detection_data(cfg)
    return pickle.dumps(cfg.to_dict())  # faster than copying the objects
