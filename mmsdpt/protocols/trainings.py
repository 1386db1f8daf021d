"""A method, trained on its few images in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from mmsdpt.engine.runner import TunerRunner
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.base_weights import load_base_weights, read_checkpoint, resolve_checkpoint

from .evaluate import pooled_features
from .images import DataShelf


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


def quiet_log() -> None:
    """Let only warnings reach the screen of what is logged outside of a run."""
    for handler in MMLogger.get_instance("protocols").handlers:
        handler.setLevel(logging.WARNING)


@contextmanager
def forgotten(name: str):
    """Remove what MMEngine keeps of a run by its name: it would keep every run of a process, with
    its open files.
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
    host = MODELS.build(cfg["model"])
    host.init_weights()
    path = resolve_checkpoint(cfg["load_from"])
    load_base_weights(host, read_checkpoint(path)["state_dict"], path)
    return host.to(get_device()).eval()


def train(cfg: ConfigDict, folder: Path, shelf: DataShelf) -> tuple[nn.Module, dict[str, Any]]:
    """Train by the runner, for the config's number of epochs, without validation.

    Args:
        cfg: Of :func:`mmsdpt.protocols.compose.compose`.
        folder: Where the log goes.
        shelf: Datasets.

    Returns:
        The trained host in eval mode; seconds of the training, and number of epochs and steps.
    """
    name = f"{folder.parent.parent.name}_{folder.parent.name}_{folder.name}"
    hooks = dict(cfg.default_hooks)
    hooks["checkpoint"] = dict(hooks["checkpoint"], interval=-1, save_last=False)
    loader = dict(cfg.train_dataloader, dataset=shelf.dataset(cfg.train_dataloader.dataset))
    with forgotten(name):
        # Without cfg=: the runner would format it as Python code, which takes seconds.
        runner = QuietRunner(
            model=cfg.model,
            work_dir=str(folder / "log"),
            train_dataloader=loader,
            train_cfg=cfg.train_cfg,
            optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.param_scheduler or None,
            default_hooks=hooks,
            custom_hooks=cfg.custom_hooks,
            load_from=cfg.load_from,
            env_cfg=cfg.env_cfg,
            log_processor=cfg.log_processor,
            log_level=cfg.log_level,
            visualizer=cfg.visualizer,
            default_scope=cfg.default_scope,
            randomness=cfg.randomness,
            experiment_name=name,
        )
        runner.cfg.tuner_files = cfg.tuner_files
        started = time.perf_counter()
        runner.train()
        seconds = time.perf_counter() - started
        steps = runner.iter
        runner.visualizer.close()
    return runner.host.eval(), dict(
        train_seconds=seconds, epochs=runner.max_epochs, steps=steps, seed=runner.seed
    )


def fit(cfg: ConfigDict, slot: str, shelf: DataShelf) -> tuple[nn.Module, dict[str, Any]]:
    """Let a tuner that can do so fit itself to features, which are computed once.

    Args:
        cfg: Of :func:`mmsdpt.protocols.compose.compose`.
        slot: Of the tuner, which has ``fit`` as :class:`mmsdpt.tuners.clip.CLIPLinearProbe`.
        shelf: Datasets.

    Returns:
        The host in eval mode, and the seconds of it all.
    """
    started = time.perf_counter()
    set_random_seed(cfg.randomness.seed)
    host = build_host(cfg)
    pipeline = cfg.test_dataloader.dataset.pipeline  # no augmentation
    sets: list[Tensor] = []
    names = ()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        data = dict(loader.dataset, pipeline=pipeline, test_mode=True)
        images = shelf.test_images(dict(cfg.test_dataloader, dataset=data))
        names = names or images.dataset.metainfo["classes"]
        sets += [pooled_features(host, images), images.labels]
    host.tuners[slot].fit(*sets, class_names=names)
    return host, dict(train_seconds=time.perf_counter() - started, seed=cfg.randomness.seed)


def tuner_paths(host: nn.Module, folder: Path) -> dict[str, Path]:
    """Files of what was learned, by slot."""
    slots = [slot for slot, tuner in host.tuners.items() if not tuner.frozen]
    if len(slots) == 1:
        return {slots[0]: folder / "tuner.safetensors"}
    return {slot: folder / f"tuner_{slot}.safetensors" for slot in slots}


def save_tuners(host: nn.Module, folder: Path, extra: Mapping[str, Any]) -> None:
    """Write what was learned."""
    for slot, path in tuner_paths(host, folder).items():
        save_tuner(host, path, slot, extra)


def load_tuners(host: nn.Module, folder: Path, given: Mapping[str, str]) -> None:
    """Read what was learned, and the files that a config names for frozen slots."""
    files: dict[str, str | Path] = {**given, **tuner_paths(host, folder)}
    for slot, path in files.items():
        load_tuner(host, path, slot)
