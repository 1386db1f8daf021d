"""Check the data of a run before anything is built: files, classes, annotations, images."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.evaluation import MultiDatasetsEvaluator
from mmengine.evaluator import Evaluator
from mmengine.fileio import list_from_file
from mmengine.logging import print_log

from mmsdpt.datasets.coco_checks import (
    MAX_INSPECTED,
    NO_SCORE,
    NOTHING_TO_TRAIN_ON,
    CocoReport,
    check_coco,
    put_in_order,
)
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.data_files import (
    check_dataset_files,
    dataset_configs,
    joined,
    kind_of,
    metric_configs,
    refuse_text,
)
from mmsdpt.utils.errors import InputError, listed


@dataclass
class _Split:
    """One COCO file of a run and how it is used."""

    role: str
    place: int  # index among the role's datasets
    dataset: Any
    report: CocoReport


def prepare_data(
    loaders: Mapping[str, Any],
    evaluators: Mapping[str, Any],
    folder: str | Path,
    optional: Sequence[str] = (),
    max_inspected: int = MAX_INSPECTED,
) -> None:
    """Check the COCO files of all splits in one report, and let the run read corrected copies.

    If :func:`mmsdpt.datasets.coco_checks.check_coco` fills in or leaves out anything, or the order
    of the categories differs from the classes, a corrected copy is written to ``folder``, and
    dataset and metric read it instead of the file. Other kinds of datasets are not changed.

    Args:
        loaders: Config of each role's data loader; changed in place.
        evaluators: Config of each role's metrics; changed in place.
        folder: Folder for the corrected copies.
        optional: Roles that this run does not need: their problems are warnings.
        max_inspected: Maximum number of images to decode per file.

    Raises:
        InputError: with all problems to fix, by file and entry.
    """
    splits, problems = [], []
    seen: dict[tuple, CocoReport] = {}
    for role, loader in loaders.items():
        own = dataset_configs(loader.get("dataset") if isinstance(loader, Mapping) else None)
        for place, dataset in enumerate(own):
            where = None
            try:
                where = _coco_paths(dataset)
                check_dataset_files(dataset, classes=where is None)
            except InputError as error:
                problems.append((role, str(error)))
            if where is not None and Path(where[0]).is_file():
                if where not in seen:
                    seen[where] = check_coco(*where, max_inspected)
                splits.append(_Split(role, place, dataset, seen[where]))
    _name_annotations(splits, evaluators)
    problems += _metrics_of_other_images(splits, evaluators)
    _put_all_in_order(splits)
    for split in splits:
        if split.role == "train" and not split.report.errors and not _used_boxes(split):
            split.report.errors[_nothing_to_train_on(split)] = []
        problems += [
            (split.role, f"{split.report.path}: {sentence}")
            for sentence in split.report.sentences("errors")
        ]
    fatal = list(dict.fromkeys(text for role, text in problems if role not in optional))
    if len(fatal) == 1:
        raise InputError(fatal[0])
    if fatal:
        listed = "".join(f"\n  {text}" for text in fatal)
        raise InputError(f"the data has problems; fix them first:{listed}")
    _warn(splits, dict.fromkeys(text for _, text in problems))
    _write_copies(splits, evaluators, Path(folder))


def _coco_paths(dataset: Mapping) -> tuple[str, str] | None:
    """Annotation file and image folder of a ``CocoDataset`` on local storage.

    Raises:
        InputError: if its config has no image folder.
    """
    annotations, root = dataset.get("ann_file"), dataset.get("data_root") or ""
    if kind_of(dataset) != "CocoDataset" or not annotations or dataset.get("backend_args"):
        return None
    folders = dataset.get("data_prefix")
    if not isinstance(folders, Mapping) or not isinstance(folders.get("img"), str):
        raise InputError(
            f"the dataset of {joined(root, annotations)} has data_prefix={folders!r}, expected"
            " dict(img='FOLDER/'), the image folder below data_root"
        )
    paths = (joined(root, annotations), joined(root, folders["img"]))
    return None if any("://" in path for path in paths) else paths


def _class_list(dataset: Mapping) -> list[str] | None:
    """The classes of a dataset's config as strings; the strings are also written to the config."""
    metainfo = dataset.get("metainfo")
    classes = metainfo.get("classes") if isinstance(metainfo, Mapping) else None
    if isinstance(classes, str):
        refuse_text(classes)
        return list_from_file(classes)
    if classes is not None and not all(isinstance(name, str) for name in classes):
        metainfo["classes"] = classes = tuple(map(str, classes))  # type: ignore[index]
    return None if classes is None else list(classes)


def _name_annotations(splits: Sequence[_Split], evaluators: Mapping[str, Any]) -> None:
    """Let COCO's metric read the file of its dataset if it has none of its own."""
    for _, metric, scored in _scored(splits, evaluators):
        paths = {str(split.report.path) for split in scored}
        if len(paths) == 1 and kind_of(metric) == "CocoMetric" and not metric.get("ann_file"):
            metric["ann_file"] = paths.pop()


def _scored(
    splits: Sequence[_Split], evaluators: Mapping[str, Any]
) -> Iterator[tuple[str, Any, list[_Split]]]:
    """Each role's metrics with the datasets that they evaluate."""
    for role, evaluator in evaluators.items():
        own = [split for split in splits if split.role == role]
        if kind_of(evaluator) == "MultiDatasetsEvaluator":  # a metric for each dataset
            for place, each in enumerate(evaluator.get("metrics") or ()):
                scored = [split for split in own if split.place == place]
                yield from ((role, metric, scored) for metric in metric_configs(each))
        else:
            yield from ((role, metric, own) for metric in metric_configs(evaluator))


def _metrics_of_other_images(
    splits: Sequence[_Split], evaluators: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Role and sentence for each metric whose file differs from its dataset's and has other images:
    boxes of images that the dataset lacks would count as missed.
    """
    for role, metric, scored in _scored(splits, evaluators):
        own = {str(split.report.path): split for split in scored}
        reports = [split.report for split in own.values()]
        if not reports or any(report.errors for report in reports):
            continue
        path = metric.get("ann_file")
        truth = None
        if isinstance(path, str) and os.path.isfile(path):
            same = (report for report in reports if os.path.samefile(path, report.path))
            truth = next(same, None) or check_coco(path)
        if truth is not None and truth.errors:
            yield from ((role, f"{path}: {text}") for text in truth.sentences("errors"))
        elif len(reports) > 1:
            if not _scores_all(metric, truth, list(own.values())):
                yield (
                    role,
                    f"the metric of {role} reads one file, but the datasets read"
                    f" {' and '.join(own)}: set {role}_evaluator to a MultiDatasetsEvaluator with a"
                    " metric for each, or set its ann_file to a file with the images of all, each"
                    " with a unique id",
                )
        elif truth is not None and _ids(truth) != _ids(reports[0]):
            yield (
                role,
                f"the metric of {role} reads {path}, but its dataset reads {reports[0].path}, which"
                " has other images or ids: set both to the same file",
            )
        elif truth is not None and truth is not reports[0] and kind_of(metric) == "CocoMetric":
            classes = _class_list(scored[0].dataset)
            names = [each["name"] for each in truth.content["categories"]]
            if classes and [name for name in names if name in classes] != classes:
                yield (
                    role,
                    f"the metric of {role} reads {path}, which has the categories {listed(names)},"
                    f" so labels of {listed(classes)} would get wrong names: let it read"
                    f" the dataset's file, {reports[0].path}",
                )


def _scores_all(metric: Mapping, truth: CocoReport | None, splits: Sequence[_Split]) -> bool:
    """Whether the file of a metric, ``truth``, has the images and ids of several files."""
    if kind_of(metric) != "CocoMetric":
        return True
    if not metric.get("ann_file"):  # the annotations then come from the samples
        return all("'instances'" in str(split.dataset.get("pipeline")) for split in splits)
    if truth is None:
        return True
    ids = [image["id"] for split in splits for image in split.report.content["images"]]
    return sorted(ids) == sorted(image["id"] for image in truth.content["images"])


def warn_of_other_numbers(name: str, dataset: Sized, evaluator: Evaluator) -> None:
    """Warn if a dataset does not have every image of its metrics' annotations exactly once."""
    if isinstance(evaluator, MultiDatasetsEvaluator):
        return
    for metric in evaluator.metrics:
        truth = getattr(metric, "_coco_api", None) or getattr(metric, "truth", None)
        if truth is not None and len(truth.imgs) != len(dataset):
            print_log(
                f"{name} has {len(dataset)} images, but the annotations of its metric"
                f" have {len(truth.imgs)}: boxes of images that are not predicted count as missed,"
                " and repeated images count twice, so this score cannot be compared with"
                " others",
                logger="current",
                level=logging.WARNING,
            )


def _ids(report: CocoReport) -> set[tuple[int, str]]:
    return {(image["id"], image["file_name"]) for image in report.content["images"]}


def _put_all_in_order(splits: Sequence[_Split]) -> None:
    """Sort every file's categories by its dataset's classes."""
    from mmdet.datasets import CocoDataset

    names = [name for split in splits for name in split.report.names]
    done: dict[int, list[str]] = {}
    for split in splits:
        report = split.report
        if report.errors:
            continue
        classes = _class_list(split.dataset)
        if not classes:
            known = CocoDataset.METAINFO["classes"]
            if not set(known) <= {each["name"] for each in report.content["categories"]}:
                report.errors[
                    "the config names no classes, so COCO's would be used: set"
                    f" metainfo=dict(classes={tuple(dict.fromkeys(names))!r})"
                ] = []
            continue
        if done.setdefault(id(report), classes) is classes:
            put_in_order(report, classes, names)
        else:  # MMDetection's labels follow the file's order, which can match only one list
            order = [each["name"] for each in report.content["categories"]]
            if [name for name in order if name in classes] != classes:
                report.add(
                    "errors",
                    "two datasets list its classes in different orders or spellings, so labels"
                    " would get wrong names; write them the same way",
                    f"{listed(done[id(report)])} and {listed(classes)}",
                )


def _used_boxes(split: _Split) -> Counter[str]:
    """Boxes of the classes in a dataset's config."""
    boxes, classes = split.report.boxes, _class_list(split.dataset)
    return +boxes if not classes else +Counter({name: boxes[name] for name in classes})


def _nothing_to_train_on(split: _Split) -> str:
    if not (others := +split.report.boxes):
        return NOTHING_TO_TRAIN_ON
    return (
        "it has no box of the config's classes, so there is nothing to train on; it has boxes of"
        f" {listed(map(repr, others))}"
    )


def _warn(splits: Sequence[_Split], problems: Sequence[str]) -> None:
    """Log what was filled in or left out, and what may be wrong."""
    lines = list(problems)
    trained = [split.report for split in splits if split.role == "train"]
    seen: set[int] = set()
    for split in splits:
        report, path = split.report, split.report.path
        if report.errors:
            continue
        if split.role != "train" and (both := report.images_also_in(trained)):
            lines.append(
                f"{path}: {len(both)} of its images are also in train ({both[0].name}, ...), so the"
                " score says little about new images"
            )
        used = _used_boxes(split)
        others = [f"{name!r} {n}" for name, n in (report.boxes - used).items()]
        if others:
            told = (
                f"boxes of categories that the config does not name are not used: {listed(others)}"
            )
            lines.append(f"{path}: {told}")
        if id(report) in seen:
            continue
        seen.add(id(report))
        lines += [f"{path}: corrected: {text}" for text in report.sentences("filled")]
        lines += [f"{path}: left out: {text}" for text in report.sentences("left_out")]
        lines += [f"{path}: {text}" for text in report.sentences("doubtful")]
        empty = [name for name in _class_list(split.dataset) or () if not used[name]]
        if not used:
            lines.append(f"{path}: {NO_SCORE}")
        elif empty and split.role == "train":
            lines.append(f"{path}: no boxes to train on for {', '.join(map(repr, empty))}")
    for line in dict.fromkeys(lines):
        print_log(line, logger="current", level=logging.WARNING)


def _write_copies(splits: Sequence[_Split], evaluators: Mapping[str, Any], folder: Path) -> None:
    """Write corrected copies of the files, and let datasets and metrics read them."""
    copies: dict[str, str] = {}
    for split in splits:
        report = split.report
        original = os.path.abspath(report.path)
        if not report.changed or report.errors:
            continue
        if original not in copies:
            before = sum(Path(path).name.startswith(split.role) for path in copies.values())
            name = f"{split.role}{before + 1 if before else ''}.json"
            copies[original] = os.path.abspath(folder / name)
            write_atomically(copies[original], json.dumps(report.content).encode())
            print_log(f"{report.path} is read as {copies[original]}", logger="current")
        split.dataset["ann_file"] = copies[original]
    for evaluator in evaluators.values():
        for metric in metric_configs(evaluator):
            path = metric.get("ann_file")
            if not isinstance(path, str) or not os.path.isfile(path):
                continue
            same = [each for each in copies if os.path.samefile(each, path)]  # also through a link
            if same:
                own = os.path.abspath(path)
                metric["ann_file"] = copies[own if own in same else same[0]]


def use_own_image_loader(cfg: Any) -> None:
    """Replace MMCV's image loader by :class:`mmsdpt.LoadImageFromFile` in a dataset's pipeline."""
    for dataset in dataset_configs(cfg):
        for step in dataset.get("pipeline") or ():
            if isinstance(step, dict) and step.get("type") == "LoadImageFromFile":
                step["type"] = "mmsdpt.LoadImageFromFile"
