"""Configs as the tools load them."""

from __future__ import annotations

import argparse
import copy
import functools
from pathlib import Path

from mmengine.config import Config

from mmsdpt.utils.cli import load_config

FOLDER = Path(__file__).resolve().parents[1] / "configs"


def loaded(name: str, **options) -> Config:
    """A config as the tools load it, with ``--cfg-options``."""
    return load_config(argparse.Namespace(config=str(FOLDER / name), cfg_options=options))


@functools.cache
def read_once(name: str) -> Config:
    """Not to be changed."""
    return loaded(name)


def config(name: str) -> Config:
    """A copy, so that a test may change it; each file is read once."""
    return copy.deepcopy(read_once(name))


def innermost(dataset: dict) -> dict:
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset
