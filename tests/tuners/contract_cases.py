"""What the contract suite is made of: the registered methods, mini GLIP with one of them, a run."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmsdpt.engine
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.engine import TunerRunner
from mmsdpt.engine.base_weights import load_base_weights, read_checkpoint, resolve_checkpoint
from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners import Tuner

REPOSITORY = Path(__file__).resolve().parents[2]
Batch = tuple[Tensor, list[DetDataSample]]
TEXTS = (
    ("red circle", "striped blue star"),
    ("raccoon",),
    ("jellyfish", "penguin (bird)", "star_fish", "a hollow pentagon that is yellow"),
)
BASE_LOSSES = {"loss_cls", "loss_bbox", "loss_centerness"}
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


def config_of(method: type[Tuner], **settings: Any) -> dict:
    return dict(type=f"mmsdpt.{method.__name__}", **settings)


@functools.cache
def optimizer_of(method: type[Tuner]) -> dict:
    """As in the method's config for a mini task, else one that suits most."""
    for path in sorted(REPOSITORY.glob("configs/*/*_mini_thermal.py")):
        if f'"mmsdpt.{method.__name__}"' in path.read_text():
            return Config.fromfile(str(path)).optim_wrapper.optimizer.to_dict()
    return dict(type="AdamW", lr=1e-3, weight_decay=0.0)


# ---------------------------------------------------------------------- hosts


def build_mini_glip(**changes: Any) -> nn.Module:
    """Mini GLIP with changes of its config, frozen and in eval mode, without weights and tuners."""
    init_default_scope("mmdet")
    config = Config.fromfile(str(REPOSITORY / "configs/_base_/models/mini_glip.py"))
    config.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    return MODELS.build(config.model).requires_grad_(False).eval()


class Host:
    """Mini GLIP with its weights, without a tuner.

    Args:
        blocks: Number of fusion layers, of the three that it has. Two show what several are like.
    """

    weights = resolve_checkpoint("mmsdpt://mini_glip")

    def __init__(self, blocks: int = 2) -> None:
        self.model = build_mini_glip(**{"bbox_head.num_dyhead_blocks": blocks})
        load_base_weights(self.model, read_checkpoint(self.weights)["state_dict"], self.weights)
        self._state = tensors_of(self.model)

    @cached_property
    def outputs(self) -> dict[int, dict[str, Tensor]]:
        """Without a tuner, by batch size."""
        return {count: all_outputs(self.model, make_batch(count)) for count in (1, 3)}

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


def attach(host: nn.Module, slots: Mapping[str, Mapping[str, Any]], seed: int) -> nn.Module:
    """Attach tuners to a host that was built without, as its constructor would have done."""
    torch.manual_seed(seed)
    host._attach_tuners(None, slots, None)
    return host.eval()


@contextmanager
def build_on_seams(method: type[Tuner], seams: Mapping[str, Sequence[Seam]]) -> Iterator[Tuner]:
    """A method with its defaults, connected for a while."""
    try:
        yield MODELS.build(config_of(method), default_args=dict(seams=seams))
    finally:
        disconnect_all(seams)


def disconnect_all(seams: Mapping[str, Sequence[Seam]]) -> None:
    """Also what a tuner connected that was refused, or that is switched off."""
    for points in seams.values():
        for seam in points:
            seam._handlers.clear()


@torch.no_grad()
def disturb(tuner: Tuner) -> None:
    """Move a tuner away from where it starts."""
    tuner.prepare()
    for parameter in tuner.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))


def meta_glip_l(folder: Path) -> nn.Module:
    """GLIP-L with BERT-base, without memory."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"word{i}" for i in range(30522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 30522}))
    config = Config.fromfile(str(REPOSITORY / "configs/_base_/models/glip_l.py")).model
    config.bbox_head.lang_model_name = config.language_model.name = str(folder)
    init_default_scope("mmdet")
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        # Swin reads its drop-path rates off a linspace, which must hold numbers.
        patch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
        return MODELS.build(config)


# ---------------------------------------------------------------------- data and outputs


def make_batch(
    count: int, first: int = 0, dtype: torch.dtype = torch.float32, size: int = 64
) -> Batch:
    """``count`` images, normalised, and samples with captions of different lengths and boxes.

    Boxes are of every size, beyond the image's, so that every level of the pyramid has a target.
    """
    images, samples = [], []
    for i in range(first, first + count):
        generator = torch.Generator().manual_seed(i)
        texts = TEXTS[i % len(TEXTS)]
        extents = torch.tensor([16.0, 24.0, 64.0, 128.0, 256.0, 512.0])[: 6 - i % 2]
        centres = size * (0.3 + 0.4 * torch.rand(len(extents), 2, generator=generator))
        boxes = torch.cat([centres - extents[:, None] / 2, centres + extents[:, None] / 2], dim=1)
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                img_shape=(size, size),
                pad_shape=(size, size),
                batch_input_shape=(size, size),
                ori_shape=(size, size),
                scale_factor=(1.0, 1.0),
                text=texts,
                custom_entities=True,
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(len(boxes)) % len(texts)
        )
        image = 0.3 * torch.randn(3, size, size, generator=generator)
        for (x1, y1, x2, y2), label in zip(boxes[:2].int().tolist(), (0, 1), strict=True):
            image[:, y1:y2, x1:x2] = torch.tensor([-1.0, 1.0, 2.0 - 3 * label]).view(3, 1, 1)
        images.append(image)
        samples.append(sample)
    return torch.stack(images).to(dtype), samples


def losses_of(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    images, samples = batch
    return model(images, copy.deepcopy(samples), mode="loss")


def raw_outputs(model: nn.Module, batch: Batch, training: bool = False) -> dict[str, Tensor]:
    """What the head returns, by name and level, computed as in testing or as in training."""
    images, samples = batch
    names = ("logits", "boxes", "centerness")
    with torch.set_grad_enabled(training):
        raw = model(images, copy.deepcopy(samples), mode="tensor")
    return {
        f"{name} {i}": level.detach()
        for name, part in zip(names, raw, strict=True)
        for i, level in enumerate(part)
    }


@torch.no_grad()
def all_outputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Everything that a host computes: raw outputs, losses, predictions."""
    images, samples = batch
    found = {**raw_outputs(model, batch), **losses_of(model, batch)}
    for i, sample in enumerate(model.predict(images, copy.deepcopy(samples))):
        for key in ("bboxes", "scores", "labels"):
            found[f"prediction {i} {key}"] = sample.pred_instances[key]
    return found


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
    return torch.stack([value for name, value in losses.items() if "loss" in name]).sum()


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
            if name not in self.trains and not torch.equal(value, after[name])
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
        model: What to train.
        weights: File of the base weights.
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
        model: nn.Module,
        weights: str,
        optimizer: dict,
        folder: Path,
        epochs: int,
        resume_from: Path | None = None,
    ) -> None:
        image, (sample,) = make_batch(1)
        pixels = (image[0] * 57 + 114).clamp(0, 255).to(torch.uint8)
        data = _Copies(dict(inputs=pixels, data_samples=sample), 2)
        hook = _WatchHook()
        runner = TunerRunner(
            model=model,
            work_dir=str(folder),
            train_dataloader=DataLoader(data, batch_size=1, collate_fn=pseudo_collate),
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
            custom_hooks=[hook],
            load_from=weights,
            resume=resume_from is not None,
            log_level="ERROR",
            default_scope="mmdet",
            randomness=dict(seed=0),
            experiment_name=folder.name,  # gives it a message hub of its own
            cfg=dict(resume_from=resume_from and str(resume_from)),
        )
        runner.train()
        model.eval()
        self.losses, self.watch, self.state = hook.losses, hook.watch, tensors_of(model)
        self.frozen_tensors_that_changed = hook.watch.frozen_tensors_that_changed()
        with torch.no_grad():
            self.after = losses_of(model, make_batch(1))


class _Copies(Sequence):
    """The same item again and again, with its own copy of the annotations each time."""

    metainfo: dict = {}

    def __init__(self, item: dict, count: int) -> None:
        self.item, self.count = item, count

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
        return self.host.attached(seed, default=config_of(self.method, **settings))

    @cached_property
    def untrained(self) -> dict[int, dict[str, Tensor]]:
        """All outputs for one image and raw ones for three, before training."""
        with self.attached() as model:
            return {1: all_outputs(model, make_batch(1)), 3: raw_outputs(model, make_batch(3))}

    @cached_property
    def training(self) -> Watch:
        """Three steps on a batch of three."""
        model = self.host.copy(default=config_of(self.method))
        return train_steps(model, make_batch(3))

    @property
    def trained(self) -> nn.Module:
        return self.training.model

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Raw, of the trained model, for three images."""
        return raw_outputs(self.trained, make_batch(3))

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
                model,
                self.host.weights,
                optimizer_of(self.method),
                self._run_folder(name),
                self.epochs,
                resume_from,
            )
