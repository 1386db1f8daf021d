"""A study's cells as jobs: a training with its tests, identified by a digest of their inputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings
from torch.utils.data import Dataset

from mmsdpt import compat
from mmsdpt.engine.config_errors import settings_explained
from mmsdpt.registry import HOOKS, MODELS
from mmsdpt.utils.base_weights import resolve_checkpoint
from mmsdpt.utils.cli import replace_prefix
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.preflight import find_missing
from mmsdpt.version import __version__

from .compose import DATA_ROOT, compose
from .configs import read_config
from .images import DatasetCache, quiet
from .records import FAILED, FINISHED, Record
from .study import Cell, Study, Training

_TRAINING_PARTS = (
    "model",
    "train_dataloader",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
    "randomness",
)
# How MMEngine's runner computes a step; it reads them from its config.
STEPS = ("compile", "activation_checkpointing", "efficient_conv_bn_eval")
# Default hooks that do not change the result of training, or whose settings are counted elsewhere:
# templates are part of the datasets, and a checkpoint hook matters only if it keeps the best state.
_NO_PART = (
    *("timer", "logger", "visualization", "trainable_table", "class_names"),
    *("classes", "checkpoint"),
)
_OPTIONS = {
    " load_from=": " cell.load_from=",
    " lang_model_name=": " cell.lang_model_name=",
    "--data-root": "--cfg-options study.data_root=FOLDER",
}
_OF_LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor")


@dataclass
class Test:
    """A test of a job: one cell's result."""

    __test__ = False  # pytest takes it for tests

    cell: Cell
    config: dict[str, Any]  # complete
    slots: list[str]  # slots that are on
    digest: str  # of everything that the result depends on
    images: int
    recipe: str  # the digest without versions

    @property
    def file(self) -> str:
        """Path of its result, relative to the work folder."""
        return f"{self.cell.name}.json"


@dataclass
class Job:
    """A training and its tests, computed one after the other by one worker."""

    training: Training  # ``data`` is None if nothing is trained
    config: dict[str, Any]  # complete config for tools/train.py
    tests: list[Test] = field(default_factory=list)
    digest: str = ""  # of everything that the training depends on
    recipe: str = ""  # the digest without versions
    trainable: int = 0  # parameters
    base_parameters: int = 0  # all of the model without tuners
    images: int = 0  # per epoch
    validation_images: int = 0  # per validation, if a state is selected

    @property
    def kind(self) -> str:
        """Key of jobs with the same cost: everything but seeds and shots."""
        t = self.training
        first = t.on.method if t.on else None
        return json.dumps([t.host, t.method, t.settings, t.data, t.classes, first], default=str)

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        if self.training.data is None or not self.images:
            return 0
        batch = self.config["train_dataloader"]["batch_size"]
        return -(-self.images // batch) * self.config["train_cfg"]["max_epochs"]


@dataclass
class Prepared:
    """The jobs of a study and its problems, before anything is computed."""

    # Those that can be computed, in the order of the cells:
    jobs: list[Job] = field(default_factory=list)
    # Sentences with the names of the cells:
    missing: dict[str, list[str]] = field(default_factory=dict)  # weights or data
    refused: dict[str, list[str]] = field(default_factory=dict)  # invalid settings

    def only(self, study: Study, parts: Sequence[str]) -> Prepared:
        """The cells whose names contain one of ``parts``, and those that they build on; without
        parts all.

        Raises:
            InputError: if there is none.
        """
        if not parts:
            return self
        every = study.cells()
        chosen = [cell for cell in every if any(part in cell.name for part in parts)]
        if not chosen:
            raise InputError(f"no cell of {study.name} has {' or '.join(parts)} in its name")
        bases = {cell.training.on for cell in chosen}
        names = {cell.name for cell in chosen}
        names |= {cell.name for cell in every if cell.training in bases}
        found = Prepared()
        for job in self.jobs:
            if tests := [test for test in job.tests if test.cell.name in names]:
                found.jobs.append(replace(job, tests=tests))
        for mine, its in ((self.missing, found.missing), (self.refused, found.refused)):
            for sentence, cells in mine.items():
                if kept := [name for name in cells if name in names]:
                    its[sentence] = kept
        return found


def prepare(study: Study, work_dir: Path, cache: DatasetCache) -> Prepared:
    """Compose and check all cells of a study."""
    done = Prepared()
    jobs: dict[Training, Job] = {}
    lacking: dict[Training, list[str]] = {}
    for cell in study.cells():
        training = cell.training
        try:
            config = compose(study, cell, work_dir, _looking(cache))
            import_modules_from_strings(**config["custom_imports"])
            with scope(config):
                lacks = _lacking(study, config, cell, cache)
                lacks += lacking.get(training.on, []) if training.on else []
                if lacks:
                    if training not in jobs:
                        lacking[training] = lacks
                    for sentence in dict.fromkeys(lacks):
                        done.missing.setdefault(sentence, []).append(cell.name)
                    continue
                if training not in jobs:
                    on = jobs[training.on] if training.on else None
                    jobs[training] = _job(study, training, config, cache, on)
                jobs[training].tests.append(_test(study, cell, config, jobs[training], cache))
        except (InputError, ValueError, KeyError, TypeError) as error:
            done.refused.setdefault(in_one_line(error), []).append(cell.name)
    done.jobs = list(jobs.values())
    return done


def _looking(cache: DatasetCache) -> Callable[[Mapping], Dataset | None]:
    def look(cfg: Mapping) -> Dataset | None:
        try:
            with DefaultScope.overwrite_default_scope("mmpretrain"):
                return cache.dataset(cfg)
        except (InputError, OSError):
            return None  # reported by the check of all data

    return look


def _lacking(study: Study, config: dict[str, Any], cell: Cell, cache: DatasetCache) -> list[str]:
    """Missing files of a cell, in one sentence each."""
    roles = {"test": cell.data}
    if cell.training.data is not None:
        roles["train"] = cell.training.data
        if _reads_validation_images(config):
            if not config.get("val_dataloader"):
                raise InputError(
                    f"{cell.training.method} chooses on validation images, but the config of"
                    f" {cell.training.data} has none: add val_dataloader, val_evaluator, val_cfg"
                )
            roles["val"] = cell.training.data
    files = {slot: x for slot, x in config.get("tuner_files", {}).items() if slot != "old"}
    cfg = Config(dict(config, tuner_files=files))
    found = [sentence for role in roles for sentence in find_missing(cfg, [role])]
    if not found:
        for role, name in roles.items():
            try:
                cache.dataset(dataset_of(config, role))
            except (InputError, OSError) as error:
                found.append(f"data {name}: {in_one_line(error)}")
    for words, ours in _OPTIONS.items():  # of tools/train.py and of a study
        found = [sentence.replace(words, ours) for sentence in found]
    return list(dict.fromkeys(found))


def _job(
    study: Study,
    training: Training,
    config: dict[str, Any],
    cache: DatasetCache,
    on: Job | None,
) -> Job:
    """A job without tests; ``on`` is the one that it builds on."""
    base, trainable = count_parameters(json.dumps(config["model"]))
    job = Job(training, config, base_parameters=base)
    depends: dict[str, Any] = dict(
        model=config["model"], base=base_digest(config["load_from"]), versions=versions()
    )
    if config.get("encoder_dtype"):
        depends["encoder_dtype"] = config["encoder_dtype"]
    features = config.get("feature_cache")
    if features is not None:  # the location of the cache does not matter
        of = ("views", "seed", "dtype") if training.data is not None else ("dtype",)
        depends["feature_cache"] = {name: features.get(name) for name in of}
    if training.data is not None:
        job.trainable = trainable
        depends.update({name: config.get(name) for name in _TRAINING_PARTS}, on=on and on.digest)
        more = {name: config.get(name) for name in ("auto_scale_lr", *STEPS)}
        more["default_hooks"] = _changed_hooks(study, config)
        depends.update({name: value for name, value in more.items() if value})
        roles = ["train"]
        if _reads_validation_images(config):
            roles.append("val")
            depends.update(val=config["val_evaluator"], save=config["default_hooks"]["checkpoint"])
        for role in roles:
            loaded = _what_is_loaded(config[f"{role}_dataloader"])
            depends[f"{role}_data"] = [loaded, cache.digest(dataset_of(config, role))]
        files = {slot: x for slot, x in config["tuner_files"].items() if not on or slot != "old"}
        depends["tuner_files"] = {slot: file_digest(path) for slot, path in files.items()}
        job.images = len(cache.dataset(dataset_of(config, "train")))
        if study.selection:
            job.validation_images = len(cache.dataset(dataset_of(config, "val")))
    depends = _wherever_data_are(study, depends)
    job.digest = digest(depends)
    job.recipe = digest(depends | dict(versions=None, on=on and on.recipe))
    return job


def _reads_validation_images(config: Mapping[str, Any]) -> bool:
    """Whether the result of training depends on the validation images."""
    checkpoint = config["default_hooks"].get("checkpoint") or {}
    kinds = [HOOKS.get(hook["type"]) for hook in config.get("custom_hooks") or ()]
    by_hook = any(getattr(kind, "reads_validation_images", False) for kind in kinds)
    return bool(
        checkpoint.get("save_best")
        or fitting_slot(config)
        or (by_hook and config.get("val_dataloader"))
    )


def _changed_hooks(study: Study, config: Mapping[str, Any]) -> dict[str, Any]:
    """Default hooks that may change a training and differ from the runtime's."""
    own = read_config(study.runtime)["default_hooks"]
    return {
        name: hook
        for name, hook in config["default_hooks"].items()
        if name not in _NO_PART and hook != own.get(name)
    }


def _test(study: Study, cell: Cell, config: dict[str, Any], job: Job, cache: DatasetCache) -> Test:
    whole = cell.slots == cell.training.slots
    slots = list(config["model"]["tuners"] if whole else cell.slots)
    evaluators = config["test_evaluator"]
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    dataset = dataset_of(config, "test")
    depends = dict(
        training=job.digest,
        test=_what_is_loaded(config["test_dataloader"]),
        data=cache.digest(dataset),
        evaluator=evaluators,
        files=[file_digest(each["ann_file"]) for each in evaluators if each.get("ann_file")],
        slots=slots,
    )
    depends = _wherever_data_are(study, depends)
    found, recipe = digest(depends), digest(depends | dict(training=job.recipe))
    return Test(cell, config, slots, found, len(cache.dataset(dataset)), recipe)


def _wherever_data_are(study: Study, depends: dict[str, Any]) -> dict[str, Any]:
    """The inputs with the original paths of the data configs."""
    if not study.data_root:
        return depends
    root = study.data_root.rstrip("/") + "/"
    return replace_prefix(depends, root, DATA_ROOT)


def dataset_of(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The dataset of a loader; the templates of a test set are ignored."""
    dataset = config[f"{role}_dataloader"]["dataset"]
    return {k: v for k, v in dataset.items() if role != "test" or k != "template"}


def scope(config: Mapping[str, Any]) -> AbstractContextManager:
    """A context in which types are looked up in the config's scope."""
    return DefaultScope.overwrite_default_scope(config["default_scope"])


@lru_cache(maxsize=1024)
def count_parameters(model: str) -> tuple[int, int]:
    """Numbers of parameters of a model without its tuners, and of trainable ones with them.

    The model, given as JSON, is built without memory for its parameters.

    Raises:
        InputError: if host and tuners do not fit.
    """
    cfg = Config(dict(model=json.loads(model)))
    with quiet(), torch.device("meta"), settings_explained(cfg):
        host = MODELS.build(cfg.model)
    named = list(host.named_parameters())
    base = sum(p.numel() for name, p in named if not name.startswith("tuners."))
    return base, sum(p.numel() for _, p in named if p.requires_grad)


def fitting_slot(config: Mapping[str, Any]) -> str | None:
    """The slot of a tuner that is fitted to features instead of trained by gradient."""
    for slot, tuner in config["model"]["tuners"].items():
        if hasattr(MODELS.get(tuner["type"]), "fit"):
            return slot
    return None


def new_record(study: Study, job: Job, test: Test, found: Mapping[str, Any]) -> Record:
    """The record of a cell from the worker's result: ``metrics`` and measures, or ``error``."""
    training, nothing = job.training, job.training.data is None
    method = study.methods[training.method]
    record = dict.fromkeys(Record.__annotations__)
    record.update(
        study=study.name,
        protocol=study.protocol,
        cell=test.cell.name,
        host=training.host,
        method=training.method,
        label=method.label,
        trained_on=training.data,
        trained_classes=None if nothing else training.classes,
        shots=training.shots,
        seed=training.seed,
        settings=json.loads(json.dumps(dict(training.settings))),  # lists, as in the file
        on_top_of=training.on.method if training.on else None,
        tested_on=test.cell.data,
        tested_classes=test.cell.classes,
        slots_on=test.slots,
        metrics={},
        trainable=job.trainable,
        base_parameters=job.base_parameters,
        versions=versions(),
        digest=test.digest,
        recipe=test.recipe,
        status=FAILED if found.get("error") else FINISHED,
    )
    record.update({name: value for name, value in found.items() if name in record})
    return record  # type: ignore[return-value]


def digest(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of the inputs of a result; the order of keys does not matter."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, computed again only if the file changes."""
    state = os.stat(path)
    return _file_digest(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _file_digest(path: str, changed: int, size: int) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def base_digest(load_from: str) -> str:
    """Fingerprint of the base weights; for a URL the URL itself."""
    path = resolve_checkpoint(load_from)
    return file_digest(path) if "://" not in path else path


@lru_cache(maxsize=1)
def versions() -> dict[str, str | None]:
    """Versions of the packages that results depend on."""
    installed = {each.module: compat.installed_version(each) for each in compat.REQUIREMENTS}
    found = dict(mmsdpt=__version__, python=platform.python_version(), torch=torch.__version__)
    return found | {name: installed[name] for name in ("mmdet", "mmpretrain", "tokenizers")}


def _what_is_loaded(loader: Mapping[str, Any]) -> dict[str, Any]:
    """A loader's config without settings that do not affect the images."""
    return {name: value for name, value in loader.items() if name not in _OF_LOADING}


def in_one_line(error: BaseException) -> str:
    """The error in one line."""
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0]}"
