"""Check that the files that a dataset's or metric's config names exist."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .downloads import how_to_get_data
from .errors import InputError
from .texts import read_json


def missing_files(cfg: Any) -> list[tuple[str, str]]:
    """Missing annotation files and image folders of a dataset's config, wrapped or not: kind and
    path of each.

    Empty for datasets on remote storage, and for anything that is not a dataset's config.
    """
    missing = []
    for dataset in dataset_configs(cfg):
        if dataset.get("backend_args"):
            continue
        root = dataset.get("data_root") or ""
        annotations, folders = dataset.get("ann_file"), dataset.get("data_prefix") or {}
        path = joined(root, annotations or "")
        if annotations and (not _exists(path) or Path(path).is_dir()):
            missing.append(("annotation file", path))
        for folder in folders.values() if isinstance(folders, Mapping) else ():
            if not _exists(path := joined(root, folder or "")):
                missing.append(("image folder", path))
    return missing


def check_dataset_files(cfg: Any, classes: bool = True) -> None:
    """Check the annotation files and image folders of a dataset's config, wrapped or not.

    MMDetection would fail with a traceback in its annotation reader. Classes that a config names
    are checked, too: see :func:`check_classes`.

    Args:
        cfg: Config of a dataset; anything else passes.
        classes: Whether to check classes.

    Raises:
        InputError: naming the missing file or folder, or the classes that do not fit.
    """
    for what, path in missing_files(cfg):
        raise InputError(f"{what} not found: {path}; {how_to_get_data(path)}")
    for dataset in dataset_configs(cfg):
        if dataset.get("backend_args"):
            continue
        root = dataset.get("data_root") or ""
        folders = dataset.get("data_prefix") or {}
        for folder in folders.values() if isinstance(folders, Mapping) else ():
            if Path(path := joined(root, folder or "")).is_file():
                raise InputError(
                    f"{path} is a file, expected a folder of images; {how_to_get_data(path)}"
                )
        if classes and (annotations := dataset.get("ann_file")):
            check_classes(dataset.get("metainfo"), joined(root, annotations))


def check_classes(metainfo: Any, path: str) -> None:
    """Check that the classes of a config are categories of a COCO file, in the same order.

    MMDetection numbers the categories in the file's order, regardless of the order of the names,
    and skips names that it does not find. This is harmless for a closed-set detector, but one that
    reads the names would learn them for the wrong boxes.

    Args:
        metainfo: Of the dataset's config. Without ``classes``, nothing is checked.
        path: Annotation file. Files that are not in COCO's format are not checked.

    Raises:
        InputError: with the classes to write instead.
    """
    classes = metainfo.get("classes") if isinstance(metainfo, Mapping) else None
    if classes is None or "://" in path or not path.endswith(".json"):
        return
    if isinstance(classes, str):
        refuse_text(classes)
        return
    content = read_json(path)
    categories = content.get("categories") if isinstance(content, Mapping) else None
    if not categories:
        return
    names = [str(category.get("name")) for category in categories]
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f"{path} has no category {', '.join(absent)}: metainfo.classes must be some of its"
            f" categories, in this order: {', '.join(names)}"
        )
    ordered = tuple(name for name in names if name in classes)
    if ordered != tuple(classes):
        raise InputError(
            f"metainfo.classes and the categories of {path} are in different orders, so labels"
            f" would get wrong names: write classes={ordered}"
        )


def refuse_text(classes: str) -> None:
    """Refuse classes that are a single string and not a file of names, which MMEngine reads.

    Raises:
        InputError: with what to write instead.
    """
    if not Path(classes).is_file():
        raise InputError(
            f"metainfo.classes is the string {classes!r}, expected a tuple of names: write"
            f" classes=({classes!r},)"
        )


def check_evaluator_files(cfg: Any) -> None:
    """Check the annotation files of one or several metric configs.

    Raises:
        InputError: naming the file that is missing.
    """
    for metric in metric_configs(cfg):
        path = metric.get("ann_file")
        if path and not _exists(path):
            raise InputError(
                f"annotation file of {metric.get('type')} not found: {path};"
                f" {how_to_get_data(path)}"
            )


def metric_configs(cfg: Any) -> list[Any]:
    """The configs of metrics on local storage."""
    metrics = cfg if isinstance(cfg, Sequence) and not isinstance(cfg, str) else [cfg]
    metrics = [each for each in metrics if isinstance(each, Mapping)]
    inner = [part for each in metrics for part in metric_configs(each.get("metrics") or [])]
    return inner + [each for each in metrics if not each.get("backend_args")]


def dataset_configs(cfg: Any) -> Iterator[Mapping]:
    """The configs of the plain datasets inside wrappers and concatenations."""
    if not isinstance(cfg, Mapping):
        return
    inner = cfg.get("dataset", cfg.get("datasets"))
    if inner is None:
        yield cfg
        return
    for part in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from dataset_configs(part)


def innermost_datasets(dataset: Any) -> Iterator[Any]:
    """The plain datasets inside wrappers (``dataset``) and concatenations (``datasets``)."""
    if hasattr(dataset, "dataset"):
        yield from innermost_datasets(dataset.dataset)
    elif hasattr(dataset, "datasets"):
        for part in dataset.datasets:
            yield from innermost_datasets(part)
    else:
        yield dataset


def class_lists(dataset: Any) -> list[tuple[str, ...]]:
    """The class lists of a dataset; several if it concatenates data with different classes."""
    found = (
        tuple(getattr(inner, "metainfo", {}).get("classes") or ())
        for inner in innermost_datasets(dataset)
    )
    return list(dict.fromkeys(names for names in found if names))


def all_classes(dataset: Any) -> tuple[str, ...]:
    """The classes of all lists of a dataset, without repeats."""
    return tuple(dict.fromkeys(name for names in class_lists(dataset) for name in names))


def joined(root: str, path: str) -> str:
    """``path`` under ``root``; a URL is left as it is."""
    return path if "://" in path else os.path.join(root, path)


def _exists(path: str) -> bool:
    # "" is an empty prefix; URLs are checked by their reader.
    return not path or "://" in path or Path(path).exists()


def kind_of(cfg: Any) -> str:
    """Name of the class that a config builds, without its scope; empty if it has no type."""
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name.rpartition(".")[2]


def loads_image(step: Any) -> bool:
    """Whether a step of a pipeline is one of the transforms that load an image."""
    return kind_of(step) in ("LoadImageFromFile", "LoadPillowImage")
