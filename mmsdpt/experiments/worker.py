"""Computes jobs in one process, and keeps in memory what they have in common.

A cell's folder holds::

    <host>/<method>/<data>[_base]/<K>_shots_seed_<s>/
        config.json            what tools/train.py takes
        tuner.safetensors      what was learned (tuner_<slot>.safetensors for each of several)
        training.json          time, memory, versions of the numbers above
        on_<data>[...].json    one for each test
        log/                   of the runner
        error.txt              traceback, where something failed

Every file appears complete, or not at all. A file whose digest is that of the job is not made
again.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmengine.utils import import_modules_from_strings
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from mmsdpt.engine.hooks.class_names import innermost_datasets
from mmsdpt.engine.runner import TunerRunner
from mmsdpt.engine.state import model_facts
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.base_weights import load_base_weights, read_checkpoint, resolve_checkpoint
from mmsdpt.utils.data_files import check_evaluator_files

from .compose import TUNER_FILE
from .images import DatasetCache, TestImages, quiet
from .jobs import Job, Test, fitting_slot, in_one_line, scope, versions

_OF_IMAGES = (
    *("image_embeddings", "image_blocks", "image_projections", "image_block_branches"),
    *("pooled_image", "parameters"),
)
_STEPS, _SECONDS = 30, 15.0  # measured ones


class Worker:
    """Computes jobs one after the other.

    Args:
        work_dir: Folder of the results.
        threads: Of PyTorch; None: as it is.
        cache: Data sets.
    """

    def __init__(
        self,
        work_dir: str | os.PathLike,
        threads: int | None = None,
        cache: DatasetCache | None = None,
    ) -> None:
        self.root = Path(work_dir)
        if threads:
            torch.set_num_threads(threads)
        self.on_cpu = torch.device(get_device()).type == "cpu"
        self.cache = cache or DatasetCache(keep_images=self.on_cpu)
        # What is logged outside of a run reaches the screen from warnings on.
        for handler in MMLogger.get_instance("experiments").handlers:
            handler.setLevel(logging.WARNING)

    def compute(self, job: Job, redo: bool = False) -> list[dict[str, Any]]:
        """Train and test.

        Args:
            job: What.
            redo: Also what is finished.

        Returns:
            For each test of the job ``metrics`` and measures, or ``error``.
        """
        folder = self.root / job.training.folder
        found: dict[str, dict[str, Any]] = {}
        for test in job.tests:
            known = {} if redo else finished(self._file(test), test.digest)
            if known:
                found[test.digest] = {**self._training_facts(folder), **known}
        pending = [test for test in job.tests if test.digest not in found]
        if pending:
            import_modules_from_strings(**job.config["custom_imports"])
            with scope(job.config):
                found.update(self._compute(job, pending, folder, redo))
        return [found[test.digest] for test in job.tests]

    def _compute(
        self, job: Job, pending: list[Test], folder: Path, redo: bool
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            _reset_peak()
            host = self._host(job, folder, redo)
        except Exception as error:  # whatever it is, the other jobs go on
            for test in pending:
                yield test.digest, self._failed(folder, error)
            return
        for test in pending:
            try:
                started = time.perf_counter()
                metrics = self._test(host, test)
                result: dict[str, Any] = dict(
                    metrics=metrics,
                    digest=test.digest,
                    test_seconds=time.perf_counter() - started,
                    **_conditions(),
                )
                if job.training.data is None:
                    result["peak_memory_bytes"] = _peak()
                write_json(self._file(test), result)
                (folder / "error.txt").unlink(missing_ok=True)
                yield test.digest, {**self._training_facts(folder), **result}
            except Exception as error:
                yield test.digest, self._failed(folder, error)

    def _file(self, test: Test) -> Path:
        return self.root / f"{test.cell.name}.json"

    def _failed(self, folder: Path, error: Exception) -> dict[str, Any]:
        """Why a cell has no result: in one line, and with the traceback in a file."""
        report = "".join(traceback.format_exception(error))
        write_atomically(folder / "error.txt", report.encode())
        return dict(error=in_one_line(error), **_conditions())

    def _training_facts(self, folder: Path) -> dict[str, Any]:
        known = read_json(folder / "training.json")
        return {name: value for name, value in known.items() if name != "digest"}

    # ------------------------------------------------------------------ training

    def _host(self, job: Job, folder: Path, redo: bool) -> nn.Module:
        """The trained model, or the plain one."""
        cfg = self._loading(job.config)
        if job.training.data is None:
            return build_host(cfg)
        if not redo and finished(folder / "training.json", job.digest):
            host = build_host(cfg)
            files = tuner_files(host, folder)
            if all(path.is_file() for path in files.values()):
                for slot, path in {**cfg.tuner_files, **files}.items():
                    load_tuner(host, path, slot)
                return host
        for old in folder.glob("on_*.json"):  # tests of another training
            old.unlink()
        (folder / "training.json").unlink(missing_ok=True)
        write_json(folder / "config.json", job.config)
        base = job.training.on
        if base is not None and not Path(cfg.tuner_files["old"]).is_file():
            told = (self.root / base.folder / "error.txt").read_text(encoding="utf-8").splitlines()
            raise CellError(f"the training it builds on failed: {told[-1]}")
        cpu, slot = time.process_time(), fitting_slot(cfg)
        if slot is not None:
            host, facts = fit(cfg, slot, self.cache)
        else:
            host, facts = train(cfg, folder, self.cache)
        facts["train_cpu_seconds"] = time.process_time() - cpu
        dataset = self.cache.dataset(cfg.train_dataloader.dataset)
        extra = dict(
            shots=job.training.shots,
            seed=job.training.seed,
            classes=list(dataset.metainfo.get("classes", ())),
        )
        model = model_facts(cfg, host, next(innermost_datasets(dataset)))
        files = tuner_files(host, folder)
        for slot, path in files.items():
            save_tuner(host, path, slot, extra, model)
        first = next(iter(files.values()))
        write_json(
            folder / "training.json",
            dict(
                facts,
                digest=job.digest,
                peak_memory_bytes=_peak(),
                tuner_file=str(first.relative_to(self.root)),
                tuner_bytes=sum(path.stat().st_size for path in files.values()),
                **_conditions(),
            ),
        )
        return host

    def _loading(self, config: Mapping[str, Any]) -> ConfigDict:
        """The config without processes that load images, on a CPU: they would take the cores that
        the model computes with.
        """
        cfg = ConfigDict(copy.deepcopy(dict(config)))
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if self.on_cpu and name in cfg:
                cfg[name].update(num_workers=0, persistent_workers=False)
        return cfg

    # ------------------------------------------------------------------ testing

    def _test(self, host: nn.Module, test: Test) -> dict[str, float]:
        """Numbers by name; see :class:`mmsdpt.experiments.records.Record`."""
        cfg = self._loading(test.config)
        images = self.cache.test_images(cfg.test_dataloader)
        off = [slot for slot in host.tuners if slot not in test.slots]
        if not off:
            return evaluate(host, cfg, images)
        with host.tuners_off(*off):
            return evaluate(host, cfg, images)

    # ------------------------------------------------------------------ measuring

    def measure(self, job: Job) -> dict[str, float]:
        """What jobs of this kind cost, from a few steps and a few images of each test.

        Returns:
            Seconds: ``build`` (model and base weights), ``load`` (a training image when it is read
            for the first time, over later times), ``step``, ``fit`` (of a whole training without
            steps), ``features`` (an image, once for all methods that leave images alone), ``test``
            (an image); ``memory``, the peak in bytes.
        """
        import_modules_from_strings(**job.config["custom_imports"])
        with scope(job.config), tempfile.TemporaryDirectory(dir=self.root) as folder:
            return self._measure(job, Path(folder))

    def _measure(self, job: Job, folder: Path) -> dict[str, float]:
        cfg = self._loading(job.config)
        found = dict.fromkeys(("build", "load", "step", "fit", "features", "test"), 0.0)
        _reset_peak()
        started = time.perf_counter()
        cfg.tuner_files = {}  # they may not be there yet
        trains = job.training.data is not None
        if not trains or fitting_slot(cfg):
            host = build_host(cfg)
            found["build"] = time.perf_counter() - started
        else:
            dataset = self.cache.dataset(cfg.train_dataloader.dataset)
            order = range(min(len(dataset), 8 * cfg.train_dataloader.batch_size))
            first, again = (_seconds(lambda: [dataset[i] for i in order]) for _ in range(2))
            found["load"] = max(0.0, first - again) / len(order)
            clock = _Stopwatch()
            started = time.perf_counter()
            with suppress(_Measured):
                train(cfg, folder, self.cache, [clock])
            host = clock.host.eval()
            found.update(build=clock.began - started, step=clock.seconds_per_step())
        images = self.cache.test_images(cfg.test_dataloader)
        _name_classes(host, cfg, images)
        some = min(2 * images.loader["batch_size"], len(images))
        features = None
        if leaves_images_alone(host):
            started = time.perf_counter()
            features = pooled_features(host, images, some)
            found["features"] = (time.perf_counter() - started) / len(features)
            if trains and not found["step"]:
                # Fitted to features: a training is little more than making them.
                found["fit"] = found["features"] * job.images
        predict = lambda: list(_predictions(host, images, features, some))  # noqa: E731
        found["test"] = _seconds(predict) / some
        found["memory"] = float(_peak())
        return found


class CellError(RuntimeError):
    """A cell cannot be computed; the message is one sentence that says why."""


class _Measured(Exception):
    """Enough steps were measured."""


class _Stopwatch(Hook):
    """Takes the time of steps, and ends the training after some."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.times: list[float] = []

    def before_train(self, runner: Runner) -> None:
        self.host = runner.host
        self.began = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        if len(self.times) > _STEPS or self.times[-1] - self.began > _SECONDS:
            raise _Measured

    def after_train(self, runner: Runner) -> None:
        raise _Measured

    def seconds_per_step(self) -> float:
        """Mean of all steps but the first, which makes what later ones keep."""
        if len(self.times) < 2:
            return self.times[0] - self.began
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


# -------------------------------------------------------------------------- training


class QuietRunner(TunerRunner):
    """A runner whose log goes into a file alone: many of them share one screen."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As MMEngine's, without what it prints."""
        logger = super().build_logger(*args, **kwargs)
        for handler in list(logger.handlers):
            if not isinstance(handler, logging.FileHandler):
                logger.removeHandler(handler)
        return logger

    def dump_config(self) -> None:
        """Nothing: the folder has a config.json."""

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Nothing: the record has the versions, and asking compilers and git takes seconds."""


@contextmanager
def clean_up_after(name: str) -> Iterator[None]:
    """Remove what MMEngine keeps of the run called ``name``: it would keep every run of a process,
    with its open files.
    """
    try:
        yield
    finally:
        kinds = (MMLogger, MessageHub, DefaultScope, Visualizer, *Visualizer.__subclasses__())
        for kind in kinds:  # each class has instances of its own
            for found in [key for key in kind._instance_dict if key.startswith(name)]:
                instance = kind._instance_dict.pop(found)
                for handler in list(getattr(instance, "handlers", ())):
                    handler.close()
                    instance.removeHandler(handler)


def build_host(cfg: Mapping[str, Any]) -> nn.Module:
    """The model of a config with its base weights, on the device, in eval mode."""
    with quiet():
        host = MODELS.build(cfg["model"])
        host.init_weights()
    path = resolve_checkpoint(cfg["load_from"])
    load_base_weights(host, read_checkpoint(path)["state_dict"], path)
    return host.to(get_device()).eval()


def train(
    cfg: ConfigDict, folder: Path, cache: DatasetCache, hooks: Sequence[Hook] = ()
) -> tuple[nn.Module, dict[str, Any]]:
    """Train by the runner.

    Args:
        cfg: Complete config. It is validated where a best state is to be kept.
        folder: Where the log goes.
        cache: Data sets.
        hooks: More hooks.

    Returns:
        The trained host in eval mode, with the best state where one was chosen; seconds, and
        numbers of epochs and steps.
    """
    name = re.sub(r"\W+", "_", str(folder))
    best = cfg.default_hooks.checkpoint.get("save_best")
    checkpoint = dict(cfg.default_hooks.checkpoint, interval=-1, save_last=False)
    given = dict(
        cfg,
        work_dir=str(folder / "log"),
        experiment_name=name,
        train_dataloader=_with_dataset(cfg.train_dataloader, cache),
        default_hooks=dict(cfg.default_hooks, checkpoint=checkpoint),
        custom_hooks=[*cfg.custom_hooks, *hooks],
        param_scheduler=cfg.param_scheduler or None,
        visualizer=dict(cfg.visualizer, name=name),  # one that is named otherwise would be shared
    )
    if best:
        given["val_dataloader"] = _with_dataset(cfg.val_dataloader, cache)
    # Without cfg=: the runner would format it as Python code, which takes seconds.
    known = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    left_out = {f"test_{part}" for part in ("dataloader", "cfg", "evaluator")}
    if not best:
        left_out |= {f"val_{part}" for part in ("dataloader", "cfg", "evaluator")}
    with clean_up_after(name):
        runner = QuietRunner(**{key: given[key] for key in known & set(given) - left_out})
        runner.cfg.tuner_files = cfg.tuner_files
        started = time.perf_counter()
        runner.train()
        seconds = time.perf_counter() - started
        facts = dict(train_seconds=seconds, epochs=runner.epoch, steps=runner.iter)
        runner.visualizer.close()
        if best:
            for slot, path in tuner_files(runner.host, folder / "log", "best_").items():
                facts["best_epoch"] = load_tuner(runner.host, path, slot)["extra"]["epoch"]
    return runner.host.eval(), facts


def _with_dataset(loader: ConfigDict, cache: DatasetCache) -> dict[str, Any]:
    return dict(loader, dataset=cache.dataset(loader.dataset))


def fit(cfg: ConfigDict, slot: str, cache: DatasetCache) -> tuple[nn.Module, dict[str, Any]]:
    """Let a tuner that can do so fit itself to features, which are computed once.

    Args:
        cfg: Complete config.
        slot: Of the tuner, which has ``fit`` as :class:`mmsdpt.tuners.clip.CLIPLinearProbe`.
        cache: Data sets.

    Returns:
        The host in eval mode, and the seconds of it all.
    """
    started = time.perf_counter()
    set_random_seed(cfg.randomness.seed)
    host = build_host(cfg)
    pipeline = cfg.test_dataloader.dataset.pipeline  # no augmentation
    sets: list[Tensor] = []
    names: Sequence[str] = ()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        data = dict(loader.dataset, pipeline=pipeline, test_mode=True)
        images = cache.test_images(dict(cfg.test_dataloader, dataset=data))
        names = names or images.dataset.metainfo["classes"]
        labels = torch.as_tensor(images.dataset.get_gt_labels())
        sets += [pooled_features(host, images), labels]
    host.tuners[slot].fit(*sets, class_names=names)
    return host, dict(train_seconds=time.perf_counter() - started)


def tuner_files(host: nn.Module, folder: Path, prefix: str = "") -> dict[str, Path]:
    """Files of what was learned, by slot."""
    slots = [slot for slot, tuner in host.tuners.items() if not tuner.frozen]
    if len(slots) == 1:
        return {slots[0]: folder / f"{prefix}{TUNER_FILE}"}
    return {slot: folder / f"{prefix}tuner_{slot}.safetensors" for slot in slots}


# -------------------------------------------------------------------------- testing


@torch.no_grad()
def evaluate(host: nn.Module, cfg: ConfigDict, images: TestImages) -> dict[str, float]:
    """The numbers of a test.

    Args:
        host: The model, in eval mode, with the slots switched on that are to act.
        cfg: Config with ``test_evaluator`` and the data's ``template``, if it is another than the
            usual one.
        images: The test set.

    Returns:
        What the metrics give. The accuracy is in percent at full precision, beside ``correct``,
        ``total`` and ``num_classes``.
    """
    _name_classes(host, cfg, images)
    metainfo = images.dataset.metainfo
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    if len(metainfo["classes"]) < 2:
        metrics = [each for each in metrics if each["type"] != "mmsdpt.AlignmentMetric"]
    check_evaluator_files(metrics)
    features = None
    if leaves_images_alone(host):
        if images.features is None:
            images.features = pooled_features(host, images)
        features = images.features
    with quiet():
        evaluator = Evaluator([dict(each) for each in metrics])
        evaluator.dataset_meta = metainfo
        for batch, predictions in _predictions(host, images, features):
            evaluator.process(data_samples=predictions, data_batch=batch)
        scores = evaluator.evaluate(len(images))
    found: dict[str, float] = {}
    for name, value in scores.items():
        if name == "accuracy/top1":  # the metric divides in float32
            correct = round(float(value) / 100 * len(images))
            found.update(accuracy=100 * correct / len(images), correct=correct, total=len(images))
            found["num_classes"] = len(metainfo["classes"])
        else:
            found[name.removeprefix("alignment/")] = float(value)
    undefined = [name for name, value in found.items() if not math.isfinite(value)]
    if undefined and "accuracy" in found:
        raise CellError(f"the test gives no numbers for {', '.join(undefined)}: try a lower rate")
    # Of detection: what has no boxes has no score.
    return {name: value for name, value in found.items() if name not in undefined}


def _name_classes(host: nn.Module, cfg: ConfigDict, images: TestImages) -> None:
    """Tell a classifier of named classes their names; a detector finds them beside the images."""
    if hasattr(host, "set_classes"):
        metainfo = images.dataset.metainfo
        template = cfg.test_dataloader.dataset.get("template") or metainfo["template"]
        host.set_classes(metainfo["classes"], template)


def leaves_images_alone(host: nn.Module) -> bool:
    """Whether no tuner acts on the images of a host that can predict from their features."""
    return hasattr(host, "predict_from_features") and not any(
        seam.active() for kind in _OF_IMAGES for seam in host.seams().get(kind, ())
    )


@torch.no_grad()
def _predictions(
    host: nn.Module, images: TestImages, features: Tensor | None, limit: int | None = None
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Batches and the predictions for them.

    Args:
        host: The model.
        images: The test set.
        features: (N, e) of the plain model, where no tuner acts on the images: they are computed
            once for all such methods.
        limit: End after so many images.
    """
    start = 0
    for batch in images.batches(pixels=features is None):
        samples = batch["data_samples"]
        stop = start + len(samples)
        if features is None:
            yield batch, host.test_step(batch)
        else:
            yield batch, host.predict_from_features(features[start:stop], samples)
        start = stop
        if limit is not None and start >= limit:
            return


@torch.no_grad()
def pooled_features(host: nn.Module, images: TestImages, limit: int | None = None) -> Tensor:
    """Image features (N, e) of all images, or of the first, not normalised."""
    features: list[Tensor] = []
    for batch in images.batches():
        pixels = host.data_preprocessor(batch, False)["images"]
        state = ForwardState(images=pixels)
        host.encode_image(pixels, state)
        features.append(state.pooled_image)
        if limit is not None and sum(map(len, features)) >= limit:
            break
    return torch.cat(features)


# -------------------------------------------------------------------------- files and measures


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of results, atomically."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds; empty where there is none, or no JSON object: it is made again then."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def finished(path: Path, digest: str) -> dict[str, Any]:
    """The result in a file, where it has this digest, else empty."""
    content = read_json(path)
    return content if content.get("digest") == digest else {}


def _conditions() -> dict[str, Any]:
    return dict(
        device=torch.device(get_device()).type, threads=torch.get_num_threads(), versions=versions()
    )


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _reset_peak() -> None:
    """Let the peak of memory begin here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # Linux alone can do it
            Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Highest memory in bytes: on a GPU what PyTorch had there, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return 1024 * int(found[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
