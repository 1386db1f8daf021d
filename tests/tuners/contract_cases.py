"""What the contract suite is made of: the registered methods, a host with one of them, a run."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmsdpt.engine
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.engine import TunerRunner
from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners import Tuner
from tests.hosts.disconnect import disconnect_all

REPOSITORY = Path(__file__).resolve().parents[2]
Batch = tuple[Tensor, list]
Outputs = dict[str, Tensor]
STEPS = 3  # within which every tensor must train


# ---------------------------------------------------------------------- methods


def registered_methods() -> dict[str, type[Tuner]]:
    """Every registered method by name; abstract bases are not registered."""
    return {
        name: cls
        for name, cls in sorted(MODELS.module_dict.items())
        if inspect.isclass(cls) and issubclass(cls, Tuner)
    }


@contextmanager
def registered(*methods: type[Tuner]) -> Iterator[None]:
    """For a while, these are registered, too."""
    try:
        for method in methods:
            MODELS.register_module(module=method)
        yield
    finally:
        for method in methods:
            MODELS.module_dict.pop(method.__name__, None)


# ---------------------------------------------------------------------- hosts


class Host:
    """A small model with its weights, without a tuner; a subclass for each kind of host.

    Args:
        model: The model, frozen and in eval mode.
        weights: File of its weights.
    """

    name: ClassVar[str]
    """Name of the class."""
    scope: ClassVar[str]
    """MMEngine's default scope."""
    paper: ClassVar[str]
    """Name of the model of the paper."""
    base_losses: ClassVar[set[str]]
    """Names of the losses that it has without a tuner."""
    autocasts: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16,)
    bfloat16_error: ClassVar[float] = 1e-3
    """Of the loss under autocast, relative."""
    plain_hint: ClassVar[str]
    """What :meth:`plain` answers to a method that it has no seams for."""
    configs: ClassVar[str | None] = None
    """Where the methods' configs for a mini task are, if their optimizers suit this model."""
    collate: Callable[[Sequence], Any]
    metainfo: ClassVar[dict[str, Any]] = {}
    """Of the dataset of a run."""
    hooks: ClassVar[tuple[dict, ...]] = ()
    """That a run needs."""
    facts: ClassVar[dict[str, Any]] = {}
    """What a method must be told if it asks: arguments without a default."""

    def __init__(self, model: nn.Module, weights: str) -> None:
        self.model, self.weights = model, weights
        self._state = tensors_of(model)

    @classmethod
    def build(cls, folder: Path, small: bool = False) -> Host:
        """The host.

        Args:
            folder: For files.
            small: For tests with many passes.
        """
        raise NotImplementedError

    @classmethod
    def kinds(cls) -> frozenset[str]:
        """Kinds of seams that the host has."""
        raise NotImplementedError

    @staticmethod
    def large(folder: Path, name: str) -> nn.Module:
        """The model of the paper, on the meta device.

        Args:
            folder: For files.
            name: Of the model.
        """
        raise NotImplementedError

    @staticmethod
    def plain() -> nn.Module:
        """A host with the toolbox's own image encoder, which lacks seams."""
        raise NotImplementedError

    def batch(
        self, count: int, first: int = 0, dtype: torch.dtype = torch.float32, small: bool = False
    ) -> Batch:
        """``count`` images, normalised, and samples with ground truth; the i-th is always the same.

        Args:
            count: How many.
            first: Index of the first.
            dtype: Of the images.
            small: Of half the size, where the host takes any.
        """
        raise NotImplementedError

    def item(self) -> dict[str, Any]:
        """The first image as a dataset gives it, before the data preprocessor."""
        raise NotImplementedError

    def raw_outputs(self, model: nn.Module, batch: Batch, training: bool = False) -> Outputs:
        """What the model computes from images, by name, computed as in testing or in training."""
        raise NotImplementedError

    def predictions(self, model: nn.Module, batch: Batch) -> Outputs:
        raise NotImplementedError

    def image_features(self, model: nn.Module, names: Sequence[str]) -> Outputs:
        """Of the first image, with these class names."""
        raise NotImplementedError

    def of_image(self, together: Outputs, i: int, alone: Outputs) -> Outputs:
        """The part of raw outputs that belongs to one image, in the shapes of ``alone``."""
        return {name: together[name][i : i + 1] for name in alone}

    @torch.no_grad()
    def all_outputs(self, model: nn.Module, batch: Batch) -> Outputs:
        """Everything that a host computes: raw outputs, losses, predictions."""
        return {
            **self.raw_outputs(model, batch),
            **losses_of(model, batch),
            **self.predictions(model, batch),
        }

    @classmethod
    def config_of(cls, method: type[Tuner], **settings: Any) -> dict:
        """Config of a method with its defaults."""
        asked = inspect.signature(method.__init__).parameters
        facts = {
            name: value
            for name, value in cls.facts.items()
            if name in asked and asked[name].default is inspect.Parameter.empty
        }
        return dict(type=f"mmsdpt.{method.__name__}", **facts, **settings)

    @classmethod
    def optimizer_of(cls, method: type[Tuner]) -> dict:
        """As in the method's config for a mini task, else one that suits most."""
        for path in sorted(REPOSITORY.glob(cls.configs)) if cls.configs else ():
            if f'"mmsdpt.{method.__name__}"' in path.read_text():
                return Config.fromfile(str(path)).optim_wrapper.optimizer.to_dict()
        return dict(type="AdamW", lr=1e-3, weight_decay=0.0)

    @cached_property
    def outputs(self) -> dict[int, Outputs]:
        """Without a tuner, by batch size."""
        return {count: self.all_outputs(self.model, self.batch(count)) for count in (1, 3)}

    @contextmanager
    def attached(self, seed: int = 0, **slots: Mapping[str, Any]) -> Iterator[nn.Module]:
        """The host with tuners for a while, in eval mode."""
        assert not len(self.model.tuners), "one after the other: the host still has tuners"
        try:
            yield attach(self.model, slots, seed)
        finally:
            disconnect_all(self.model.seams())
            self.model.tuners = nn.ModuleDict()
            self.model.load_state_dict(self._state)  # one bad method must not spoil the others
            self.model.requires_grad_(False).eval()

    def copy(self, **slots: Mapping[str, Any]) -> nn.Module:
        """A copy of the host with tuners, in eval mode."""
        assert not len(self.model.tuners), "one after the other: the host still has tuners"
        return attach(copy.deepcopy(self.model), slots, seed=0)

    @contextmanager
    def on_seams(self, method: type[Tuner], seams: Mapping[str, Sequence[Seam]]) -> Iterator[Tuner]:
        """A method with its defaults, connected for a while."""
        try:
            yield MODELS.build(self.config_of(method), default_args=dict(seams=seams))
        finally:
            disconnect_all(seams)


def methods_of(host: type[Host]) -> dict[str, type[Tuner]]:
    """The registered methods that belong to a host: it has every kind of seam that they need."""
    return {
        name: method
        for name, method in registered_methods().items()
        if set(method.needs) <= host.kinds()
    }


def attach(host: nn.Module, slots: Mapping[str, Mapping[str, Any]], seed: int) -> nn.Module:
    """Attach tuners to a host that was built without, as its constructor would have done."""
    torch.manual_seed(seed)
    host._attach_tuners(None, slots, None)
    return host.eval()


@torch.no_grad()
def disturb(tuner: Tuner) -> None:
    """Move a tuner away from where it starts."""
    tuner.prepare()
    for parameter in tuner.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))


# ---------------------------------------------------------------------- outputs


def losses_of(model: nn.Module, batch: Batch) -> Outputs:
    images, samples = batch
    return model(images, copy.deepcopy(samples), mode="loss")


def different(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names of what is not equal bit for bit."""
    names = {*found, *wanted}
    return sorted(
        n
        for n in names
        if n not in found or n not in wanted or not torch.equal(found[n], wanted[n])
    )


def relative_error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The largest error over the largest magnitude, of the worst tensor."""
    assert found.keys() == wanted.keys()
    return max(
        ((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-12)).item()
        for name, value in wanted.items()
    )


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What is minimised."""
    return torch.stack([value.sum() for name, value in losses.items() if "loss" in name]).sum()


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and persistent buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


# ---------------------------------------------------------------------- files


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


# ---------------------------------------------------------------------- training


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
        data = _Copies(host.item(), 2, host.metainfo)
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


class _Copies(Sequence):
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
