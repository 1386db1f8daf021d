"""Files of results. A cell whose file is there, and says that it belongs to the same settings, is
never computed again.

    <work_dir>/<model>/<method>/<dataset>[_base]/<K>_shots_seed_<s>/
        config.json            what tools/train.py takes
        tuner.safetensors      what was learned
        training.json          time, parameters, versions
        on_<dataset>[_<classes>].json    one for each test
        log/                   of the runner
        error.txt              traceback, where something failed

What needs no training has its tests in ``<work_dir>/<model>/<method>/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmsdpt.utils.atomic import write_atomically

from .plan import Cell, Training

CONFIG_FILE = "config.json"
TRAINING_FILE = "training.json"
ERROR_FILE = "error.txt"


def training_folder(root: Path, training: Training) -> Path:
    """Where a training and its tests are kept."""
    folder = root / training.method
    if training.source is None:
        return folder
    suffix = "" if training.classes == "all" else f"_{training.classes}"
    shots = "all" if training.shots is None else training.shots
    return folder / f"{training.source}{suffix}" / f"{shots}_shots_seed_{training.seed}"


def cell_file(root: Path, cell: Cell) -> Path:
    """The file of one result."""
    suffix = "" if cell.classes == "all" else f"_{cell.classes}"
    return training_folder(root, cell.training) / f"on_{cell.target}{suffix}.json"


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result, atomically."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read_result(path: Path) -> dict[str, Any]:
    """What a file holds; empty where there is none, or no JSON object: it is then made anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def finished(path: Path, key: str) -> dict[str, Any]:
    """The result in a file, where it is a result of the settings with this key, else empty."""
    content = read_result(path)
    return content if content.get("key") == key and "error" not in content else {}
