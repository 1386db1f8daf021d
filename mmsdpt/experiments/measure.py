"""Measure the cost of a job with a few steps of its training and a few images of its test.

A training with a feature cache has shorter steps once it has seen every image. Its few steps repeat
the same three batches, so that both kinds are measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch import nn
from torch.utils.data import SubsetRandomSampler

from mmsdpt.engine.feature_cache import DRAWN

from .images import DatasetCache, TestImages, quiet
from .jobs import Job, Test, fitting_slot, scope
from .memory import peak_memory, reset_peak_memory
from .testing import (
    batch_features,
    build_evaluator,
    leaves_images_alone,
    name_classes,
    predict,
)
from .training import StepClock, build_host, train
from .worker import loading_config

_STEPS, _SECONDS = 20, 10.0  # at most, of a training
_WARM_UP = 2  # steps before
_ROUND = _WARM_UP + 1  # batches that a training takes again and again, where it keeps features
_BATCHES = 3  # of a test, the first of which is not counted


def measure(job: Job, work_dir: Path, cache: DatasetCache) -> dict[str, float]:
    """Measure jobs of this kind.

    Returns:
        Seconds: ``build`` (model and base weights), ``load`` (extra time to read a training image
        for the first time), ``step`` (0 for a training without steps), ``keep`` (extra time to
        compute the features of a training image), ``features`` (per image, once for all methods
        without image tuners), ``test`` (per image, and under :func:`test_key` for other data);
        ``memory``, the peak in bytes.
    """
    import_modules_from_strings(**job.config["custom_imports"])
    with scope(job.config), tempfile.TemporaryDirectory(dir=work_dir) as folder:
        return _measure(job, Path(folder), cache)


def _measure(job: Job, folder: Path, cache: DatasetCache) -> dict[str, float]:
    cfg = loading_config(job.config)
    found = dict.fromkeys(("build", "load", "step", "keep", "features", "test"), 0.0)
    reset_peak_memory()
    started = time.perf_counter()
    cfg.tuner_files = {}  # they may not exist yet
    if job.training.data is None or fitting_slot(cfg):
        host = build_host(cfg, cache)
        found["build"] = time.perf_counter() - started
    else:
        dataset = cache.dataset(cfg.train_dataloader.dataset)
        batch = cfg.train_dataloader.batch_size
        order = range(min(len(dataset), 8 * batch))
        first, again = (_timed(dataset[i] for i in order)[1] for _ in range(2))
        found["load"] = max(0.0, first - again)
        settings = cfg.get("feature_cache")
        clock = _Stopwatch(keeps=settings is not None)
        if settings is not None:
            few = range(min(len(dataset), _ROUND * batch))
            cfg.train_dataloader.sampler = SubsetRandomSampler(few)
            cfg.train_cfg.max_epochs = max(cfg.train_cfg.max_epochs, _STEPS)
            if settings.get("views") not in (None, DRAWN):
                settings.views = 1
        started = time.perf_counter()
        with suppress(_Measured):
            train(cfg, folder, cache, [clock])
        host = clock.host.eval()
        step, first = clock.seconds_per_step()
        found.update(build=clock.began - started, step=step, keep=max(0.0, first - step) / batch)
    found["features"], found["test"] = _measure_test(host, cfg, cache)
    own = job.training.data or job.tests[0].cell.data
    others = {each.cell.data: each for each in job.tests if each.cell.data != own}
    for test in others.values():
        _, found[test_key(test)] = _measure_test(host, loading_config(test.config), cache)
    found["memory"] = float(peak_memory())
    return found


def test_key(test: Test) -> str:
    """Key of the seconds per image for a test on other data than the training's."""
    return f"test on {test.cell.data}"


def _measure_test(host: nn.Module, cfg: ConfigDict, cache: DatasetCache) -> tuple[float, float]:
    """Seconds per image: for its features, if methods without image tuners share them, and for the
    rest.
    """
    images = cache.test_images(cfg.test_dataloader)
    name_classes(host, cfg, images)
    batch = min(images.loader["batch_size"], len(images))
    features, of_features = None, 0.0
    if leaves_images_alone(host):
        parts, seconds = _timed(batch_features(host, images, _BATCHES * batch))
        features, of_features = torch.cat(parts), seconds / batch
    predictions, seconds = _timed(predict(host, images, features, _BATCHES * batch))
    return of_features, seconds / batch + _seconds_to_score(cfg, images, predictions) / len(images)


def _seconds_to_score(cfg: ConfigDict, images: TestImages, predictions: Iterable[Any]) -> float:
    """Seconds of the metrics at the end of a test. COCO's go over all images and classes, even with
    few predictions.
    """
    evaluator = build_evaluator(cfg, images.dataset.metainfo)
    with quiet():
        for batch, samples in predictions:
            evaluator.process(data_samples=samples, data_batch=batch)
        started = time.perf_counter()
        evaluator.evaluate(len(images))
    return time.perf_counter() - started


def _timed(work: Iterable[Any]) -> tuple[list[Any], float]:
    """The results of ``work``, and the mean seconds per item, without the first if possible."""
    found, times = [], [time.perf_counter()]
    for part in work:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(part)
        times.append(time.perf_counter())
    times = times[1:] if len(times) > 2 else times  # the first allocates memory and fills caches
    return found, (times[-1] - times[0]) / (len(times) - 1)


class _Measured(Exception):
    """Raised when enough steps were measured."""


class _Stopwatch(StepClock):
    """Measures the time of steps, and ends the training after some.

    Args:
        keeps: Whether the training has a feature cache, of at most ``_ROUND`` batches.
    """

    priority = "HIGHEST"  # before a validation of the untrained model, which is counted separately

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self._now = time.perf_counter
        self.first = _ROUND if keeps else _WARM_UP  # steps that differ from later ones

    def before_train(self, runner: Runner) -> None:
        self.host = runner.host
        self.began = time.perf_counter()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        super().after_train_iter(runner)
        steps = len(self.seconds) - self.first
        if steps >= _STEPS or (steps > 0 and sum(self.seconds) > _SECONDS):
            raise _Measured

    def after_train(self, runner: Runner) -> None:
        raise _Measured

    def seconds_per_step(self) -> tuple[float, float]:
        """Seconds of later steps, and of the first ones, both without warm-up."""
        warm = self.seconds[_WARM_UP:] or self.seconds
        # With random flips, both versions of an image are cached after a few rounds.
        later = self.seconds[self.first :] or warm
        if self.first == _ROUND:
            later = later[len(later) // 2 :]
        return statistics.median(later), warm[0]
