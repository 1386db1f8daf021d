"""Fixtures for all tests."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmengine.config.utils
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

import mmsdpt  # noqa: F401  makes mmdet importable without compiled mmcv

REPOSITORY = Path(__file__).resolve().parents[1]
_RUNS = itertools.count()  # in this process, over all modules


def pytest_configure(config: pytest.Config) -> None:
    """Once is enough for what MMEngine reads for every config: the bases in this repository, with
    a temporary folder for each, and the toolbox's whole index, a hundred files. Test files read
    configs while they are collected, before any fixture runs.
    """
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setattr(mmengine.config.utils, "load", functools.cache(mmengine.config.utils.load))
    read = Config._file2dict

    @functools.cache
    def read_once(*args: Any, **options: Any) -> bytes:
        return pickle.dumps(read(*args, **options))

    def file2dict(filename: str, *args: Any, **options: Any) -> Any:
        path = Path(filename).absolute()
        if not path.is_relative_to(REPOSITORY / "configs"):
            return read(filename, *args, **options)
        return pickle.loads(read_once(str(path), *args, **options))

    patch.setattr(Config, "_file2dict", staticmethod(file2dict))


@pytest.fixture(autouse=True, scope="module")
def _short_collections() -> Iterator[None]:
    """Every dataset collects garbage while it serialises: a third of a second with the toolboxes'
    own objects.
    """
    gc.freeze()
    yield
    gc.unfreeze()


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


@pytest.fixture(scope="module")
def short_beginnings() -> Iterator[None]:
    """Formatting the config takes longer than the run of a test. MMEngine also gives two runs that
    begin in the same second one logger and one message hub.
    """
    setup_env = Runner.setup_env

    def setup_env_with_a_number(self, env_cfg):
        setup_env(self, env_cfg)
        self._timestamp += f"_{next(_RUNS)}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "setup_env", setup_env_with_a_number)
        patch.setattr(Config, "pretty_text", property(lambda self: "config = 'not formatted'"))
        yield


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
