"""See before a dataset is built that its files are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmsdpt.utils.errors import InputError

_ADVICE = "put the data there, or name another folder with --data-root"


def check_dataset_files(cfg: Any) -> None:
    """Check the annotation files and image folders of a dataset's config, wrapped or not.

    MMDetection would end in a traceback from the depths of its annotation reader. Datasets on other
    storage than the local one are left alone.

    Args:
        cfg: Config of a dataset; anything else passes.

    Raises:
        InputError: naming the file or folder that is missing.
    """
    for dataset in _innermost(cfg):
        if dataset.get("backend_args"):
            continue
        root = dataset.get("data_root") or ""
        annotations = dataset.get("ann_file")
        if annotations and not _exists(path := _joined(root, annotations)):
            raise InputError(f"annotation file not found: {path}; {_ADVICE}")
        folders = dataset.get("data_prefix") or {}
        for folder in folders.values() if isinstance(folders, Mapping) else ():
            if not _exists(path := _joined(root, folder or "")):
                raise InputError(f"image folder not found: {path}; {_ADVICE}")


def check_evaluator_files(cfg: Any) -> None:
    """Check the annotation files of one metric's config or of several.

    Raises:
        InputError: naming the file that is missing.
    """
    metrics = cfg if isinstance(cfg, Sequence) and not isinstance(cfg, str) else [cfg]
    for metric in metrics:
        if not isinstance(metric, Mapping) or metric.get("backend_args"):
            continue
        path = metric.get("ann_file")
        if path and not _exists(path):
            name = metric.get("type")
            raise InputError(f"annotation file of {name} not found: {path}; {_ADVICE}")


def _innermost(cfg: Any) -> Iterator[Mapping]:
    """The configs of the plain datasets inside wrappers and concatenations."""
    if not isinstance(cfg, Mapping):
        return
    inner = cfg.get("dataset", cfg.get("datasets"))
    if inner is None:
        yield cfg
        return
    for part in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from _innermost(part)


def _joined(root: str, path: str) -> str:
    return path if "://" in path else os.path.join(root, path)


def _exists(path: str) -> bool:
    # "" is a prefix that adds nothing; a URL is for its own reader to judge.
    return not path or "://" in path or Path(path).exists()
