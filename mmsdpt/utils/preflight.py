"""Check before the heavy imports that all files of a run exist, and report all missing ones at
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .data_files import dataset_configs, metric_configs, missing_files
from .downloads import PUT_IT_THERE, how_to_get_data, resolve_checkpoint
from .errors import InputError
from .language_models import language_model_folder
from .texts import is_archive, no_folder

TRAINING = ("train", "val")
TEST = ("test",)


def find_missing(cfg: Config, roles: Sequence[str]) -> list[str]:
    """The missing files of a config's run: one sentence each for BERT, base weights, tuner files
    and data, with where to get them and where to put them.

    BERT is downloaded from the Hugging Face hub if possible.

    Args:
        cfg: The whole config.
        roles: Roles whose data is read: some of ``train``, ``val`` and ``test``.
    """
    problems = []
    model = cfg.get("model") or {}
    name = (model.get("language_model") or {}).get("name")
    if isinstance(name, str):
        try:
            language_model_folder(name)
        except InputError as error:
            problems.append(str(error))
    if cfg.get("load_from"):
        try:
            resolve_checkpoint(cfg.load_from)
        except InputError as error:
            problems.append(str(error))
    files = cfg.get("tuner_files") or {}
    if not isinstance(files, Mapping):
        raise InputError(f"tuner_files must be dict(SLOT='FILE'), got {files!r}")
    for path in files.values():
        if not isinstance(path, (str, Path)) or not Path(path).is_file():
            problems.append(f"tuner file not found: {path}")
    if cfg.get("resume") and cfg.get("resume_from") and not Path(cfg.resume_from).is_file():
        problems.append(f"checkpoint not found: {cfg.resume_from}")
    return [*problems, *_missing_data(cfg, roles)]


def require_all(cfg: Config, roles: Sequence[str]) -> None:
    """See :func:`find_missing`.

    Raises:
        InputError: with everything that is missing.
    """
    problems = find_missing(cfg, roles)
    if len(problems) == 1:
        raise InputError(problems[0])
    if problems:
        listed = "".join(f"\n  {number}. {text}" for number, text in enumerate(problems, start=1))
        raise InputError(
            f"{cfg.filename} needs {len(problems)} things that are missing:{listed}\n"
            "python -m mmsdpt.doctor shows where weights are expected."
        )


def _missing_data(cfg: Config, roles: Sequence[str]) -> list[str]:
    """One sentence for all missing files and folders with the same source."""
    by_advice: dict[str, dict[str, None]] = {}
    for role in roles:
        dataset = (cfg.get(f"{role}_dataloader") or {}).get("dataset")
        paths = [path for _, path in missing_files(dataset)]
        if any(each.get("ann_file") for each in dataset_configs(dataset)):
            # Other datasets generate their images at first use.
            files = [each.get("ann_file") for each in metric_configs(cfg.get(f"{role}_evaluator"))]
            paths += [x for x in files if x and "://" not in x and not Path(x).is_file()]
        # An annotation file's name identifies the source, a folder's name does not.
        advice = max((how_to_get_data(path) for path in paths), key=len, default="")
        for each in dataset_configs(dataset):
            if each.get("type") == "mmsdpt.ClassificationData" and (
                found := _missing_benchmark(each)
            ):
                paths.append(found)
                advice = f"docs/classification_data.md says where to get it; {PUT_IT_THERE}"
        if paths:
            by_advice.setdefault(advice, {}).update(dict.fromkeys(paths))
    return [
        f"data not found: {', '.join(map(_with_reason, paths))}; {advice}"
        for advice, paths in by_advice.items()
    ]


def _with_reason(path: str) -> str:
    return f"{path} ({no_folder(path)})" if is_archive(path) else path


def _missing_benchmark(dataset: Mapping[str, Any]) -> str | None:
    """The folder of a benchmark, or of your own images, if it is missing."""
    root = Path(dataset.get("data_root") or "data/").expanduser()
    name = dataset.get("name")
    own = name in ("folder", "csv", "json") or (root.name == name and root.is_dir())
    folder = root if own else root / str(name)
    return None if folder.is_dir() else str(folder)
