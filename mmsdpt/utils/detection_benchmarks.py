"""``benchmark = "odinw13/pothole"`` in a config: folders, files, classes and captions of a
detection benchmark, from ``mmsdpt/datasets/detection_benchmarks.yaml``.

Imports nothing heavy, so that a tool can report missing data before it imports PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from .data_files import dataset_configs, joined, kind_of, metric_configs
from .errors import InputError, nearest

DATA_ROOT = "data/"
SPLITS = ("train", "val", "test")
_COCO = "CocoDataset"
_CAPTION = "caption_prompt"
# Data paths in configs/ that a benchmark or your own data replace.
_REPLACED = ("data/coco/", "data/raccoon/")


@dataclass(frozen=True)
class DetectionBenchmark:
    """A row of the table.

    Args:
        name: ``suite/member``, or only a name.
        root: Its folder below the data root, with a trailing slash.
        files: Annotation file and image folder of ``train``, ``val`` and ``test``, below ``root``.
        type: Dataset class.
        classes: Names in the order of the files' categories; None: those of the dataset class.
        names_in_files: Whether the classes are those of the training file.
        overrides: Words that the model reads instead of a class name.
        captions: ``prefix``, ``name`` and ``suffix`` by class name.
        counts: Number of images in each split, if known.
        source: Where to download the data.
    """

    name: str
    root: str
    files: Mapping[str, tuple[str, str]]
    type: str
    classes: tuple[str, ...] | None
    names_in_files: bool
    overrides: Mapping[str, str]
    captions: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, int]
    source: str

    def texts(self, captions: bool = True) -> dict[str, dict[str, str]] | None:
        """The text of class names in captions, as ``caption_prompt`` of MMDetection's datasets.

        Args:
            captions: Whether to use caption prompts; overrides always apply.
        """
        texts = {name: {"name": word} for name, word in self.overrides.items()}
        for name, words in self.captions.items() if captions else ():
            texts[name] = {**texts.get(name, {}), **words}
        return texts or None


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    path = files("mmsdpt") / "datasets/detection_benchmarks.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def benchmark_names() -> list[str]:
    """All names of the table; ``suite/FOLDER`` for a collection whose folders are its members."""
    table = _table()
    names = list(table["benchmarks"])
    for suite, settings in table["suites"].items():
        if "members" in settings:
            names += [f"{suite}/{member}" for member in settings["members"]]
        elif "root" in settings:
            names.append(f"{suite}/FOLDER")
    return names


def find_benchmark(name: str) -> DetectionBenchmark:
    """The benchmark of this name, ignoring case.

    Raises:
        InputError: if it does not exist, with the nearest name.
    """
    table = _table()
    rows = {each.casefold(): each for each in table["benchmarks"]}
    suites = {each.casefold(): each for each in table["suites"]}
    suite, _, member = str(name).strip("/").partition("/")
    settings = table["suites"].get(suites.get(suite.casefold()), {})
    key = f"{settings.get('members_of', suite)}/{member}" if member else suite
    row = table["benchmarks"].get(rows.get(key.casefold()))
    members = [each.casefold() for each in settings.get("members", ())]
    if row is not None and members and member.casefold() not in members:
        row = None
    if row is None and "root" in settings and member and member == Path(member).name:
        row = dict(root=f"{settings['root']}{member}/")
    if row is None:
        known = benchmark_names()
        raise InputError(
            f"unknown detection benchmark {name!r}"
            + nearest(name, known, 0.4)
            + " (docs/detection_data.md lists them all)"
        )
    shared = table["suites"].get(rows.get(key.casefold(), "").partition("/")[0], settings)
    return _benchmark(f"{suite}/{member}" if member else suite, {**shared, **row}, table["layouts"])


def _benchmark(name: str, row: Mapping[str, Any], layouts: Mapping) -> DetectionBenchmark:
    layout = dict(layouts[row["layout"]])
    for split, path in row.get("files", {}).items():
        layout[split] = [path, layout[split][1]]
    if "test" in row:
        layout["test"] = layout[row["test"]]
    classes = row.get("classes")
    return DetectionBenchmark(
        name,
        row["root"],
        {split: (layout[split][0], layout[split][1]) for split in SPLITS},
        row.get("type", _COCO),
        None if classes is None else tuple(classes),
        classes is None and "type" not in row,
        row.get("overrides", {}),
        row.get("captions", {}),
        row.get("counts", {}),
        row["source"],
    )


def complete_detection_data(cfg: Any, data_root: str | None = None) -> None:
    """Fill in the data of a config with ``benchmark``, and keep caption prompts in the samples of
    any config.

    Data sets and metrics get folders, files, classes and caption prompts. ``benchmark`` is a name,
    or a dict of ``name``, ``captions`` (False: plain class names in captions) and ``data_root``.
    Applying it twice is the same as once.

    Args:
        cfg: The whole config; changed in place.
        data_root: The benchmark's own folder; None: its place below ``data/``.

    Raises:
        InputError: if there is no such benchmark, or the config has other data, is not for a
            detector, or has another number of classes.
    """
    wanted = cfg.get("benchmark")
    if wanted is not None:
        _read_benchmark(cfg, wanted, data_root)
    for split in SPLITS:
        for dataset in dataset_configs((cfg.get(f"{split}_dataloader") or {}).get("dataset")):
            if dataset.get(_CAPTION):
                _keep_in_samples(dataset.get("pipeline") or ())


def _read_benchmark(cfg: Any, wanted: Any, data_root: str | None) -> None:
    settings = dict(wanted) if isinstance(wanted, Mapping) else dict(name=wanted)
    if unknown := sorted(settings.keys() - {"name", "captions", "data_root"}):
        raise InputError(
            f"benchmark has the setting {unknown[0]!r}; expected a name, or"
            " dict(name=..., captions=False, data_root=...)"
        )
    benchmark = find_benchmark(settings.get("name", ""))
    place = data_root or settings.get("data_root") or DATA_ROOT + benchmark.root
    root = place.rstrip("/") + "/"
    texts = benchmark.texts(settings.get("captions", True))
    classes = _classes(benchmark, root)
    own = (*_REPLACED, settings.get("data_root"), DATA_ROOT + benchmark.root)
    cfg["data_root"] = settings["data_root"] = root
    cfg["benchmark"] = settings
    _set_classes(cfg, classes)
    for split in SPLITS:
        annotations, images = benchmark.files[split]
        loader = cfg.get(f"{split}_dataloader") or {}
        for dataset in dataset_configs(loader.get("dataset")):
            _check_kind(benchmark, dataset, own)
            dataset.update(data_root=root, ann_file=annotations, data_prefix=dict(img=images))
            _set_classes(dataset, classes)
            if texts or dataset.get(_CAPTION):
                dataset[_CAPTION] = texts
        for metric in metric_configs(cfg.get(f"{split}_evaluator")):
            if "ann_file" in metric:
                metric["ann_file"] = root + annotations


def _set_classes(part: Any, classes: tuple[str, ...] | None) -> None:
    part.pop("metainfo", None)
    if classes is not None:
        part["metainfo"] = dict(classes=classes)


def _check_kind(benchmark: DetectionBenchmark, dataset: Mapping, own: Iterable[str | None]) -> None:
    """Refuse a dataset of another class, or one that reads other data."""
    kind, root = dataset.get("type"), dataset.get("data_root")
    if kind == benchmark.type and root not in own:
        raise InputError(
            f"the config has benchmark {benchmark.name} but also its own data in {root}: remove one"
            " of them, with benchmark = None or without data_root"
        )
    if kind == benchmark.type:
        return
    if benchmark.type != _COCO:
        raise InputError(
            f"benchmark {benchmark.name} needs {benchmark.type}, with captions of sampled classes"
            f" and another metric, but the config has {kind}: inherit"
            " configs/sdpt/glip_l_lvis_k10.py"
        )
    raise InputError(
        f"benchmark {benchmark.name} needs a config with {_COCO}, but this one has {kind}: inherit"
        " configs/sdpt/glip_l_own_data_k10.py"
    )


def _classes(benchmark: DetectionBenchmark, root: str) -> tuple[str, ...] | None:
    """The class names from the table or, for a folder of a collection, from the training file."""
    if not benchmark.names_in_files:
        return benchmark.classes
    path = Path(joined(root, benchmark.files["train"][0]))
    if not path.is_file():
        return ()  # the check of the files reports it
    return _names_in_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)  # called by a tool and again by its runner
def _names_in_file(path: Path, changed: int) -> tuple[str, ...]:
    try:
        content = json.loads(path.read_bytes())
        used = {annotation["category_id"] for annotation in content.get("annotations", ())}
        names = {each["name"] for each in content["categories"] if each["id"] in used}
        return tuple(map(str, category_names(content["categories"], names)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not an annotation file of COCO: {error!r}") from error


def category_names(categories: Iterable[Mapping[str, Any]], used: Container[str]) -> list[Any]:
    """Names of categories, without one that has no boxes and only groups the others, as in exports
    of Roboflow.

    Args:
        categories: Of a COCO file.
        used: Names that have boxes.
    """
    categories = list(categories)
    groups = {category.get("supercategory") for category in categories}
    names = [category["name"] for category in categories]
    return [name for name in names if name in used or name not in groups]


def _keep_in_samples(pipeline: Iterable[Any]) -> None:
    """Pass the caption prompts to the model: PackDetInputs drops keys that are not listed."""
    for step in pipeline:
        if kind_of(step) == "PackDetInputs" and "meta_keys" in step:
            kept = tuple(step["meta_keys"])
            step["meta_keys"] = kept + (_CAPTION,) * (_CAPTION not in kept)
