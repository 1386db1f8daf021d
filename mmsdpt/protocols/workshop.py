"""Trains and tests the cells of protocols in one process, one after the other."""

from __future__ import annotations

import copy
import dataclasses
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import nn

from mmsdpt.analysis.cells import digest, file_digest
from mmsdpt.analysis.report import versions
from mmsdpt.registry import MODELS
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.base_weights import resolve_checkpoint
from mmsdpt.utils.errors import InputError

from .compose import Setup, compose
from .evaluate import evaluate_host
from .images import DataShelf
from .plan import Cell, Training
from .results import (
    CONFIG_FILE,
    ERROR_FILE,
    TRAINING_FILE,
    cell_file,
    finished,
    training_folder,
    write_result,
)
from .trainings import (
    build_host,
    fit,
    load_tuners,
    quiet_log,
    save_tuners,
    train,
    tuner_paths,
)

_TRAINING_PARTS = (
    "train_dataloader",
    "val_dataloader",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
    "randomness",
)
_OF_LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor")


class Workshop:
    """Computes cells, and keeps what they have in common in memory.

    What is trained and tested is known by its settings, its base weights and its tuner files; what
    is finished is not computed again.

    Args:
        setup: What all cells share.
        root: Folder of the results of this model.
        redo: Compute what is finished, too.
    """

    def __init__(self, setup: Setup, root: Path, redo: bool = False) -> None:
        self.setup, self.root, self.redo = setup, root, redo
        on_cpu = torch.device(get_device()).type == "cpu"
        if setup.workers is None and on_cpu:
            # Processes that load images would take the cores that the model computes with.
            self.setup = dataclasses.replace(setup, workers=0)
        self.shelf = DataShelf(keep_images=self.setup.workers == 0)
        quiet_log()

    def compute(
        self, training: Training, cells: Sequence[Cell]
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """The results of cells that share a training; ``error`` says why there is none."""
        try:
            configs = {
                cell: compose(self.setup, training, cell.target, cell.classes) for cell in cells
            }
            keys = {cell: self._test_key(cfg) for cell, cfg in configs.items()}
        except Exception as error:  # whatever it is, the other cells go on
            yield from self._failed(training, cells, error)
            return
        pending = []
        for cell in cells:
            path = cell_file(self.root, cell)
            known = {} if self.redo else finished(path, keys[cell])
            if known:
                yield cell, {**self._training_facts(training), **known}
            else:
                pending.append(cell)
        if not pending:
            return
        with DefaultScope.overwrite_default_scope(configs[pending[0]].default_scope):
            error_file = training_folder(self.root, training) / ERROR_FILE
            try:
                host = self._host(training, configs[pending[0]])
            except Exception as error:
                yield from self._failed(training, pending, error)
                return
            for cell in pending:
                try:
                    cfg = configs[cell]
                    images = self.shelf.test_images(cfg.test_dataloader)
                    result = dict(key=keys[cell], **evaluate_host(host, cfg, images))
                    write_result(cell_file(self.root, cell), result)
                    error_file.unlink(missing_ok=True)
                    yield cell, {**self._training_facts(training), **result}
                except Exception as error:
                    yield from self._failed(training, [cell], error)

    def _failed(
        self, training: Training, cells: Sequence[Cell], error: Exception
    ) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """Record why cells have no result: in one line, and the traceback in a file beside it."""
        folder = training_folder(self.root, training)
        report = "".join(traceback.format_exception(error))
        write_atomically(folder / ERROR_FILE, report.encode())
        sentence = in_one_line(error)
        for cell in cells:
            write_result(cell_file(self.root, cell), dict(error=sentence))
            yield cell, dict(error=sentence)

    def _host(self, training: Training, cfg: ConfigDict) -> nn.Module:
        """The trained model, or the plain one."""
        if training.source is None:
            return build_host(cfg)
        folder, key = training_folder(self.root, training), self._training_key(cfg)
        cfg = copy.deepcopy(cfg)
        self._fill_num_classes(cfg)
        known = {} if self.redo else finished(folder / TRAINING_FILE, key)
        if known:
            host = build_host(cfg)
            if all(path.is_file() for path in tuner_paths(host, folder).values()):
                load_tuners(host, folder, cfg.tuner_files)
                return host
        # Tests of what was there before are no longer true.
        for old in folder.glob("on_*.json"):
            old.unlink()
        config = json.dumps(cfg.to_dict(), indent=1)
        write_atomically(folder / CONFIG_FILE, config.encode())
        slot = self._fitting_slot(cfg)
        if slot is None:
            host, facts = train(cfg, folder, self.shelf)
        else:
            host, facts = fit(cfg, slot, self.shelf)
        save_tuners(host, folder, dict(shots=training.shots, seed=training.seed))
        trainable = sum(p.numel() for p in host.parameters() if p.requires_grad)
        write_result(
            folder / TRAINING_FILE,
            dict(
                key=key,
                trainable=trainable,
                **facts,
                device=torch.device(get_device()).type,
                threads=torch.get_num_threads(),
                versions=versions(),
            ),
        )
        return host

    def _training_facts(self, training: Training) -> dict[str, Any]:
        if training.source is None:
            return {}
        known = _read_facts(training_folder(self.root, training) / TRAINING_FILE)
        return {name: value for name, value in known.items() if name not in ("key", "seed")}

    def _fill_num_classes(self, cfg: ConfigDict) -> None:
        """Tell tuners that have something for each class how many there are."""
        for tuner in cfg.model.tuners.values():
            if tuner.get("num_classes"):
                dataset = self.shelf.dataset(cfg.train_dataloader.dataset)
                tuner.num_classes = len(dataset.metainfo["classes"])

    def _fitting_slot(self, cfg: ConfigDict) -> str | None:
        """The slot of a tuner that is fitted to features instead of trained by gradient."""
        for slot, tuner in cfg.model.tuners.items():
            if hasattr(MODELS.get(tuner.type), "fit"):
                return slot
        return None

    def _training_key(self, cfg: ConfigDict) -> str:
        content = cfg.to_dict()
        parts = {name: content.get(name) for name in _TRAINING_PARTS}
        for loader in ("train_dataloader", "val_dataloader"):
            parts[loader] = _what_is_loaded(parts[loader])
        files = {slot: file_digest(path) for slot, path in content.get("tuner_files", {}).items()}
        return digest(
            dict(parts, model=content["model"], base=_base_digest(cfg.load_from), tuners=files)
        )

    def _test_key(self, cfg: ConfigDict) -> str:
        content = cfg.to_dict()
        return digest(
            dict(
                training=self._training_key(cfg),
                test=_what_is_loaded(content["test_dataloader"]),
                evaluator=content["test_evaluator"],
            )
        )


def in_one_line(error: Exception) -> str:
    """What went wrong."""
    lines = str(error).strip().splitlines() or ["without a word"]
    return lines[0] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0]}"


def _what_is_loaded(loader: Mapping[str, Any] | None) -> dict[str, Any]:
    """A loader's config without what changes no image."""
    return {name: value for name, value in (loader or {}).items() if name not in _OF_LOADING}


def _read_facts(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@lru_cache(maxsize=8)
def _base_digest(load_from: str) -> str:
    """Fingerprint of the base weights; an address stands for itself."""
    path = resolve_checkpoint(load_from)
    return file_digest(path) if Path(path).is_file() else path
