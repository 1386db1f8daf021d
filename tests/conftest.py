"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer

import mmsdpt  # noqa: F401  makes mmdet importable without compiled mmcv

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _quiet_and_reproducible():
    """Few threads: tests run side by side, and busy torch processes on few cores slow each other
    down.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    init_default_scope("mmdet")
    # MMEngine keeps visualizers by name, and hooks take the latest one, of whatever run it was.
    Visualizer._instance_dict.clear()


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small public datasets; set MMSDPT_TEST_DATA to yours."""
    folder = Path(os.environ.get("MMSDPT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets in {folder}; set MMSDPT_TEST_DATA")
    return folder
