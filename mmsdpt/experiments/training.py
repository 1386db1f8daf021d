"""Train a cell's tuner with the runner, or fit it to features."""

from __future__ import annotations

import inspect
import logging
import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmengine.visualization import Visualizer
from torch import nn

from mmsdpt.engine.feature_cache import FeatureCache
from mmsdpt.engine.runner import TunerRunner
from mmsdpt.engine.state import tuner_files
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import load_tuner
from mmsdpt.utils.base_weights import load_base_file, resolve_checkpoint
from mmsdpt.utils.errors import InputError

from .images import DatasetCache, quiet
from .jobs import STEPS
from .testing import pooled_features


class StepClock(Hook):
    """Measures the time of each step, including loading: processor time on a CPU, which does not
    depend on other processes, else wall-clock time.
    """

    def __init__(self) -> None:
        on_cpu = torch.device(get_device()).type == "cpu"
        self._now = time.process_time if on_cpu else time.perf_counter
        self._last = 0.0
        self.seconds: list[float] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """Restart the clock, as the time between two epochs belongs to no step."""
        self._last = self._now()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """A step ends, and the next one begins."""
        now = self._now()
        self.seconds.append(now - self._last)
        self._last = now


class QuietRunner(TunerRunner):
    """A runner that logs only to a file, as many of them share one terminal."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As MMEngine's, without output to the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in list(logger.handlers):
            if not isinstance(handler, logging.FileHandler):
                logger.removeHandler(handler)
        return logger

    def dump_config(self) -> None:
        """Do nothing: the folder has a config.py."""

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Do nothing: the record has the versions, and querying compilers and git takes seconds."""


@contextmanager
def clean_up_after(name: str) -> Iterator[None]:
    """Remove MMEngine's instances of the run ``name``, which would otherwise be kept for the life
    of the process, with their open files.
    """
    try:
        yield
    finally:
        kinds = (MMLogger, MessageHub, DefaultScope, Visualizer, *Visualizer.__subclasses__())
        for kind in kinds:  # each class has its own instances
            for found in [key for key in kind._instance_dict if key.startswith(name)]:
                instance = kind._instance_dict.pop(found)
                for handler in list(getattr(instance, "handlers", ())):
                    handler.close()
                    instance.removeHandler(handler)


def build_host(cfg: Mapping[str, Any], cache: DatasetCache) -> nn.Module:
    """Build the model of a config with its base weights and tuner files, on the device, in eval
    mode, and with a feature cache if the config has one.
    """
    with quiet():
        host = MODELS.build(cfg["model"])
        host.init_weights()
    path = resolve_checkpoint(cfg["load_from"])
    load_base_file(host, path)
    host = host.to(get_device()).eval()
    for slot, file in (cfg.get("tuner_files") or {}).items():
        load_tuner(host, file, slot)
    if cfg.get("encoder_dtype") is not None:
        host.halve_encoders(cfg["encoder_dtype"], testing=True)
    settings = cfg.get("feature_cache")
    if settings is not None:
        FeatureCache(settings, host, cache.feature_store(settings))
    return host


def train(
    cfg: ConfigDict, folder: Path, cache: DatasetCache, hooks: Sequence[Hook] = ()
) -> tuple[nn.Module, dict[str, Any]]:
    """Train with the runner, which logs into ``folder`` and validates if a best state is kept.

    Returns:
        The trained host in eval mode, with the best state if one was selected; seconds, and numbers
        of epochs and steps.

    Raises:
        InputError: if a best state is required, but no validation gives a score, or several scores
            are named.
    """
    name = re.sub(r"\W+", "_", str(folder))
    best = cfg.default_hooks.checkpoint.get("save_best")
    if isinstance(best, list) and len(best) > 1:
        raise InputError(
            "a study tests one best state, but default_hooks.checkpoint.save_best has the scores"
            f" {', '.join(best)}: set one of them"
        )
    checkpoint = dict(cfg.default_hooks.checkpoint, interval=-1, save_last=False)
    roles = ("train", "val") if best else ("train",)
    given = dict(
        cfg,
        work_dir=str(folder / "log"),
        experiment_name=name,
        default_hooks=dict(cfg.default_hooks, checkpoint=checkpoint),
        custom_hooks=[*cfg.custom_hooks, *hooks],
        param_scheduler=cfg.param_scheduler or None,
        visualizer=dict(cfg.visualizer, name=name),  # with another name it would be shared
    )
    for role in ("train", "val", "test"):
        loader = given.pop(f"{role}_dataloader", None)
        if role in roles:
            given[f"{role}_dataloader"] = dict(loader, dataset=cache.dataset(loader["dataset"]))
        else:
            given.pop(f"{role}_cfg", None)
            given.pop(f"{role}_evaluator", None)
    # Without cfg=: the runner would format it as Python code, which takes seconds.
    known = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    with clean_up_after(name):
        clock = StepClock()
        runner = QuietRunner(**{key: given[key] for key in known & set(given)})
        runner.register_hook(clock)
        for key in ("tuner_files", "encoder_dtype", "feature_cache", *STEPS):
            runner.cfg[key] = cfg.get(key)
        if not best:  # for a hook that reads them even though the run does not validate
            runner.cfg.val_dataloader = cfg.get("val_dataloader")
        if cfg.get("feature_cache") is not None:
            runner.feature_store = cache.feature_store(cfg.feature_cache)
        started = time.perf_counter()
        # Hide the prints of COCO's tools at each validation; the log has the scores.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            runner.train()
        seconds = time.perf_counter() - started
        facts: dict[str, Any] = dict(train_seconds=seconds, epochs=runner.epoch, steps=runner.iter)
        if clock.seconds:
            facts["step_seconds"] = statistics.median(clock.seconds)
        runner.visualizer.close()
        if best:
            # A file of an earlier training may exist.
            if not any(key.startswith("best_score") for key in runner.message_hub.runtime_info):
                raise InputError(
                    f"no validation gave the score {best} to select a state: the detector found no"
                    " objects, or the validation images have no boxes; set study.selection=None to"
                    " keep the last state"
                )
            for slot, path in tuner_files(runner.host, folder / "log", "best_").items():
                facts["best_epoch"] = load_tuner(runner.host, path, slot)["extra"]["epoch"]
    return runner.host.eval(), facts


def fit(cfg: ConfigDict, slot: str, cache: DatasetCache) -> tuple[nn.Module, dict[str, Any]]:
    """Fit the tuner in a slot to features, as
    :meth:`mmsdpt.tuners.linear_probing.CLIPLinearProbe.fit` does.

    Returns:
        The host in eval mode, and the total seconds.
    """
    started = time.perf_counter()
    set_random_seed(cfg.randomness.seed)
    host = build_host(cfg, cache)
    pipeline = cfg.test_dataloader.dataset.pipeline  # no augmentation
    sets: list[torch.Tensor] = []
    names: Sequence[str] = ()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        data = dict(loader.dataset, pipeline=pipeline, test_mode=True)
        images = cache.test_images(dict(cfg.test_dataloader, dataset=data))
        names = names or images.dataset.metainfo["classes"]
        labels = torch.as_tensor(images.dataset.get_gt_labels())
        sets += [pooled_features(host, images), labels]
    host.tuners[slot].fit(*sets, class_names=names)
    return host, dict(train_seconds=time.perf_counter() - started)
