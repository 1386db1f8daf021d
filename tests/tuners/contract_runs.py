"""What the contract suite does with a method on a host: train it, run it, write its file."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmsdpt.engine import TunerRunner
from mmsdpt.tuners import Tuner
from tests.tuners.contract_hosts import (
    Batch,
    Host,
    Outputs,
    losses_of,
    tensors_of,
    total,
    trainable,
)

STEPS = 3  # within which every tensor must train


def rewritten(
    path: Path, tensors: Mapping[str, Tensor] | None = None, cut: int = 0, **changes: Any
) -> Path:
    """A tuner file with other tensors, other entries of the header, or without its end."""
    with safe_open(str(path), framework="pt") as file:
        own = {name: file.get_tensor(name) for name in file.keys()}
        header = json.loads(file.metadata()["mmsdpt"])
    target = path.with_name("changed.safetensors")
    save_file(dict(tensors or own), target, metadata={"mmsdpt": json.dumps({**header, **changes})})
    if cut:
        target.write_bytes(target.read_bytes()[:-cut])
    return target


class Watch:
    """What happens to the tensors of a model, from now on until :meth:`stop`."""

    def __init__(self, model: nn.Module) -> None:
        for tuner in model.tuners.values():
            tuner.prepare()  # what the first forward pass sets is no training
        self.model = model
        self.before = tensors_of(model)
        self.trains = set(trainable(model))
        # What a method that trains keeps beside its parameters is its own.
        self.kept = {
            f"tuners.{slot}.{name}"
            for slot, tuner in model.tuners.items()
            if not tuner.frozen
            for name, _ in tuner.named_buffers()
        }
        self.moved: set[str] = set()
        self._handles = [
            p.register_post_accumulate_grad_hook(partial(self._look, name))
            for name, p in trainable(model).items()
        ]

    def _look(self, name: str, parameter: Tensor) -> None:
        if parameter.grad.any() and parameter.grad.isfinite().all():
            self.moved.add(name)

    def stop(self) -> None:
        """Note no more gradients."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def frozen_tensors_that_changed(self) -> list[str]:
        after = self.model.state_dict()
        assert after.keys() == self.before.keys()
        return [
            name
            for name, value in self.before.items()
            if name not in self.trains | self.kept and not torch.equal(value, after[name])
        ]

    def tensors_without_gradient(self) -> list[str]:
        return sorted(self.trains - self.moved)


def train_steps(model: nn.Module, batch: Batch) -> Watch:
    """Three steps of AdamW with rate 1e-3 on one batch."""
    watch = Watch(model)
    model.train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        total(losses_of(model, batch)).backward()
        optimizer.step()
    watch.stop()
    optimizer.zero_grad()
    model.eval()
    return watch


class _WatchHook(Hook):
    """Watches over the first steps, and keeps the losses of all."""

    def __init__(self) -> None:
        self.losses: dict[int, dict[str, float]] = {}

    def before_train(self, runner) -> None:
        self.watch = Watch(runner.host)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses[runner.iter] = {name: value.item() for name, value in outputs.items()}
        if runner.iter + 1 == STEPS:
            self.watch.stop()


class Run:
    """A run of the runner over one image, an epoch of two steps after the other.

    Args:
        host: Whose batch it is, and the base weights.
        model: What to train.
        optimizer: Config.
        folder: For checkpoints: one before the last epoch, one at the end.
        epochs: Number of epochs.
        resume_from: Checkpoint to go on from.

    Attributes:
        losses: Of every step.
        watch: Over the first three steps.
        frozen_tensors_that_changed: In the whole run.
        state: Tensors at the end.
        after: Losses at the end, as in testing.
    """

    def __init__(
        self,
        host: Host,
        model: nn.Module,
        optimizer: dict,
        folder: Path,
        epochs: int,
        resume_from: Path | None = None,
    ) -> None:
        data = Copies(host.item(), 2, host.metainfo)
        hook = _WatchHook()
        runner = TunerRunner(
            model=model,
            work_dir=str(folder),
            train_dataloader=DataLoader(data, batch_size=1, collate_fn=host.collate),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs),
            optim_wrapper=dict(
                type="OptimWrapper",
                constructor="mmsdpt.TrainableOptimWrapperConstructor",
                optimizer=dict(optimizer),
                clip_grad=dict(max_norm=1.0),
            ),
            default_hooks=dict(
                checkpoint=dict(type="mmsdpt.TunerCheckpointHook", interval=epochs - 1),
                logger=None,
            ),
            custom_hooks=[hook, *copy.deepcopy(host.hooks)],
            load_from=host.weights,
            resume=resume_from is not None,
            log_level="ERROR",
            default_scope=host.scope,
            randomness=dict(seed=0),
            experiment_name=folder.name,  # gives it a message hub of its own
            cfg=dict(resume_from=resume_from and str(resume_from)),
        )
        runner.train()
        model.eval()
        self.losses, self.watch, self.state = hook.losses, hook.watch, tensors_of(model)
        self.frozen_tensors_that_changed = hook.watch.frozen_tensors_that_changed()
        with torch.no_grad():
            self.after = losses_of(model, host.batch(1))


class Copies(Sequence):
    """The same item again and again, with its own copy of the annotations each time."""

    def __init__(self, item: dict, count: int, metainfo: dict) -> None:
        self.item, self.count, self.metainfo = item, count, metainfo

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict:
        if not 0 <= i < self.count:
            raise IndexError(i)
        return copy.deepcopy(self.item)


# ---------------------------------------------------------------------- a method on a host


class Case:
    """A method with its own defaults on a host. What is costly is done once.

    Args:
        method: Class of the method.
        host: Where it is attached.
        folder: For files.
    """

    epochs = 3

    def __init__(self, method: type[Tuner], host: Host, folder: Path) -> None:
        self.method, self.host, self.folder = method, host, folder
        self.name = method.__name__

    def attached(self, seed: int = 0, **settings: Any) -> AbstractContextManager[nn.Module]:
        """The host with the method for a while."""
        return self.host.attached(seed, default=self.host.config_of(self.method, **settings))

    def raw(self, model: nn.Module, batch: Batch | None = None, training: bool = False) -> Outputs:
        """Raw outputs of a model, by default for three images."""
        batch = self.host.batch(3) if batch is None else batch
        return self.host.raw_outputs(model, batch, training)

    @cached_property
    def untrained(self) -> dict[int, Outputs]:
        """All outputs for one image and raw ones for three, before training."""
        with self.attached() as model:
            return {
                1: self.host.all_outputs(model, self.host.batch(1)),
                3: self.raw(model),
            }

    @cached_property
    def training(self) -> Watch:
        """Three steps on a batch of three."""
        model = self.host.copy(default=self.host.config_of(self.method))
        return train_steps(model, self.host.batch(3))

    @property
    def trained(self) -> nn.Module:
        return self.training.model

    @cached_property
    def outputs(self) -> Outputs:
        """Raw, of the trained model, for three images."""
        return self.raw(self.trained)

    @cached_property
    def run(self) -> Run:
        """A run over one image."""
        return self._run("straight")

    @cached_property
    def resumed(self) -> Run:
        """The last epoch of the same run, in another one."""
        self.run  # noqa: B018  writes the checkpoint
        checkpoint = self._run_folder("straight") / f"epoch_{self.epochs - 1}.pth"
        return self._run("resumed", checkpoint)

    def _run_folder(self, name: str) -> Path:
        return self.folder / f"{self.name}_{name}"

    def _run(self, name: str, resume_from: Path | None = None) -> Run:
        with self.attached(seed=1 if resume_from else 0) as model:
            return Run(
                self.host,
                model,
                self.host.optimizer_of(self.method),
                self._run_folder(name),
                self.epochs,
                resume_from,
            )
