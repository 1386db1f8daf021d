"""What the contract suite is made of: the registered methods, and hosts with some of them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from torch import Tensor, nn

import mmsdpt.engine
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners import Tuner
from tests.hosts.disconnect import disconnect_all
from tests.shake import shake

REPOSITORY = Path(__file__).resolve().parents[2]
Batch = tuple[Tensor, list]
Outputs = dict[str, Tensor]


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


def disturb(tuner: Tuner) -> None:
    """Move a tuner away from where it starts."""
    tuner.prepare()
    shake(tuner, 0.01)


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
