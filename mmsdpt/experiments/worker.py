"""Compute jobs in one process, sharing data in memory.

A cell's folder holds::

    <host>/<method>/<data>[_base]/<K>_shots_seed_<s>/
        config.py              config for tools/train.py
        tuner.safetensors      the trained tuner (tuner_<slot>.safetensors if there are several)
        training.json          time, memory and versions of the training
        on_<data>[...].json    one for each test
        log/                   of the runner
        error.txt              traceback of a failure

Files are written atomically. A file with the job's digest is not computed again.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from filelock import FileLock, Timeout
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.logging import MMLogger, print_log
from mmengine.utils import import_modules_from_strings
from torch import nn

from mmsdpt.engine.state import model_facts, tuner_files
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.data_files import all_classes, innermost_datasets
from mmsdpt.utils.errors import InputError

from .images import DatasetCache
from .jobs import Job, Test, fitting_slot, in_one_line, scope, versions
from .memory import peak_memory, reset_peak_memory
from .testing import evaluate
from .training import build_host, fit, train

Result = dict[str, Any]
"""Result of a test: ``metrics`` and measures, or ``error``."""


class Worker:
    """Computes jobs one after the other, with a number of PyTorch threads (None: unchanged)."""

    def __init__(
        self,
        work_dir: str | os.PathLike,
        threads: int | None = None,
        cache: DatasetCache | None = None,
    ) -> None:
        self.root = Path(work_dir)
        if threads:
            torch.set_num_threads(threads)
        self.cache = cache or DatasetCache(keep_images=on_cpu())
        show_warnings()

    def compute(self, job: Job, redo: bool = False) -> list[Result]:
        """Train and test the unfinished parts, or everything with ``redo``; one result per test."""
        found = {} if redo else known_results(job, self.root)
        pending = [test for test in job.tests if test.digest not in found]
        if pending:
            import_modules_from_strings(**job.config["custom_imports"])
            with scope(job.config), _alone_in(self.root / job.training.folder):
                if not redo:  # another study may have computed it meanwhile
                    found.update(known_results(job, self.root))
                pending = [test for test in pending if test.digest not in found]
                found.update(self._compute(job, pending, redo))
        return [found[test.digest] for test in job.tests]

    def _compute(self, job: Job, pending: list[Test], redo: bool) -> Iterator[tuple[str, Result]]:
        folder = self.root / job.training.folder
        (folder / "error.txt").unlink(missing_ok=True)  # of an earlier run
        try:
            reset_peak_memory()
            host = self._host(job, folder, redo)
        except Exception as error:  # on any error, continue with the other jobs
            for test in pending:
                yield test.digest, _failed(folder, error)
            return
        for test in pending:
            try:
                started = time.perf_counter()
                metrics = self._test(host, test)
                result = dict(
                    metrics=metrics,
                    digest=test.digest,
                    test_seconds=time.perf_counter() - started,
                    **_conditions(),
                )
                if job.training.data is None:
                    result["peak_memory_bytes"] = peak_memory()
                write_json(self.root / test.file, result)
                yield test.digest, {**_training_facts(job, self.root), **result}
            except Exception as error:
                yield test.digest, _failed(folder, error)

    def _host(self, job: Job, folder: Path, redo: bool) -> nn.Module:
        """The trained model, or the untuned one."""
        cfg = loading_config(job.config)
        if job.training.data is None:
            return build_host(cfg, self.cache)
        if not redo and _training_facts(job, self.root):
            host = build_host(cfg, self.cache)
            for slot, path in tuner_files(host, folder).items():
                load_tuner(host, path, slot)
            return host
        for old in (*folder.glob("on_*.json"), folder / "training.json"):  # from another training
            old.unlink(missing_ok=True)
        write_atomically(folder / "config.py", _as_python(job.config).encode())
        base = job.training.on
        if base is not None and not Path(cfg.tuner_files["old"]).is_file():
            told = (self.root / base.folder / "error.txt").read_text(encoding="utf-8").splitlines()
            raise InputError(f"the training it builds on failed: {told[-1]}")
        return self._train(job, cfg, folder)

    def _train(self, job: Job, cfg: ConfigDict, folder: Path) -> nn.Module:
        """Train and save the tuner."""
        cpu, slot = time.process_time(), fitting_slot(cfg)
        host, facts = fit(cfg, slot, self.cache) if slot else train(cfg, folder, self.cache)
        facts["train_cpu_seconds"] = time.process_time() - cpu
        dataset = self.cache.dataset(cfg.train_dataloader.dataset)
        extra = dict(
            shots=job.training.shots,
            seed=job.training.seed,
            classes=list(all_classes(dataset)),
        )
        model = model_facts(cfg, host, next(innermost_datasets(dataset)))
        files = tuner_files(host, folder)
        for slot, path in files.items():
            save_tuner(host, path, slot, extra, model)
        facts.update(
            digest=job.digest,
            peak_memory_bytes=peak_memory(),
            tuner_file=str(next(iter(files.values())).relative_to(self.root)),
            tuner_bytes=sum(path.stat().st_size for path in files.values()),
            **_conditions(),
        )
        write_json(folder / "training.json", facts)
        return host

    def _test(self, host: nn.Module, test: Test) -> dict[str, float]:
        """Numbers by name; see :class:`mmsdpt.experiments.records.Record`."""
        cfg = loading_config(test.config)
        images = self.cache.test_images(cfg.test_dataloader)
        off = [slot for slot in host.tuners if slot not in test.slots]
        if not off:
            return evaluate(host, cfg, images)
        with host.tuners_off(*off):
            return evaluate(host, cfg, images)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock a cell's folder for this process: studies that share a work folder may have the same
    cell, possibly with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        message = f"Waiting for another study that is running in {folder}"
        print_log(message, "experiments", logging.WARNING)
        held = lock.acquire()
    with held:
        yield


def show_warnings() -> None:
    """Show warnings logged outside of a run on the terminal. Call it before :func:`quiet`, as a
    logger created in there has no output.
    """
    for handler in MMLogger.get_instance("experiments").handlers:
        handler.setLevel(logging.WARNING)


def on_cpu() -> bool:
    """Whether models run on the CPU."""
    return torch.device(get_device()).type == "cpu"


def loading_config(config: Mapping[str, Any]) -> ConfigDict:
    """A copy; on a CPU without data loader processes, which would compete with the model."""
    cfg = ConfigDict(copy.deepcopy(dict(config)))
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if name in cfg and on_cpu():
            cfg[name].update(num_workers=0, persistent_workers=False)
    return cfg


def known_results(job: Job, root: Path) -> dict[str, Result]:
    """The results in a job's folder, by digest."""
    training = _training_facts(job, root)
    if job.training.data is not None and not training:
        return {}
    found = {test.digest: _finished(root / test.file, test.digest) for test in job.tests}
    return {digest: {**training, **result} for digest, result in found.items() if result}


def _training_facts(job: Job, root: Path) -> Result:
    """Measures of the job's training; empty if it is not finished, or there is none."""
    found = _finished(root / job.training.folder / "training.json", job.digest)
    return found if found and (root / found["tuner_file"]).is_file() else {}


def _finished(path: Path, digest: str) -> Result:
    """The content of a file; empty if it has another digest or is invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if content["digest"] == digest else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _as_python(config: Mapping[str, Any]) -> str:
    """A config as Python code, as JSON has no tuples, which transforms need."""
    values = ((name, pformat(value, width=100, sort_dicts=False)) for name, value in config.items())
    return "".join(f"{name} = {value}\n" for name, value in values)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result file atomically."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def _failed(folder: Path, error: Exception) -> Result:
    """The error of a cell as a result, with the traceback in a file."""
    report = "".join(traceback.format_exception(error))
    write_atomically(folder / "error.txt", report.encode())
    return dict(error=in_one_line(error), **_conditions())


def _conditions() -> dict[str, Any]:
    return dict(
        device=torch.device(get_device()).type, threads=torch.get_num_threads(), versions=versions()
    )
