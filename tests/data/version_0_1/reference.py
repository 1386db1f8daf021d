"""What version 0.1's files belong to: two tiny hosts with fixed weights, and what they compute.

The weights of a host follow from the names of its parameters alone, so that neither the order in
which a host builds its parts nor PyTorch's random numbers matter.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.engine import TunerRunner
from mmsdpt.registry import MODELS

FOLDER = Path(__file__).resolve().parent
RECORDS = FOLDER / "records.json"
BERT = "BERT"  # stands for the folder of the text encoder in a config
SCOPES = dict(glip="mmdet", clip="mmpretrain")
CLASSES = ("red circle", "raccoon", "blue star", "jelly fish")
SIZES = dict(glip=64, clip=16)
STEP = 0.37  # of the angles that numbers are made with


def records() -> dict[str, Any]:
    """The hosts' configs, and of each file its host, tuner and numbers."""
    return json.loads(RECORDS.read_text())


def build(host: str, config: Mapping, tuner: Mapping | None = None) -> nn.Module:
    """A host of a config in JSON's types, with its weights, in eval mode."""
    init_default_scope(SCOPES[host])
    whole = json.loads(json.dumps(config).replace(f'"{BERT}"', json.dumps(str(FOLDER / "bert"))))
    if tuner is not None:
        whole["tuner"] = copy.deepcopy(dict(tuner))
    torch.manual_seed(0)
    model = MODELS.build(whole)
    fill(model)
    return model.eval()


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Set every parameter of the host, by its name."""
    for name, parameter in model.named_parameters():
        if not name.startswith("tuners."):
            parameter.copy_(_values(name, parameter.shape))


def _values(name: str, shape: torch.Size) -> Tensor:
    """Multiples of 1/1024 between -1 and 1, scaled as layers of networks are."""
    integers = np.random.RandomState(zlib.crc32(name.encode())).randint(-1024, 1025, tuple(shape))
    values = torch.from_numpy(np.asarray(integers, dtype=np.float32)) / 1024
    if values.dim() > 1:
        return values * (3 / (values[0].numel())) ** 0.5
    is_scale = values.dim() == 0 or name.endswith((".weight", ".scale"))
    return values / 8 + float(is_scale)


def images(host: str, count: int) -> Tensor:
    """(count, 3, size, size), waves of a length and direction of their own, in float64."""
    size = SIZES[host]
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) / size] * 2, indexing="ij")
    waves = [
        torch.sin((5 + 3 * i + 2 * channel) * x + (4 + channel) * y + i)
        for i in range(count)
        for channel in range(3)
    ]
    return torch.stack(waves).view(count, 3, size, size)


def samples(host: str, count: int) -> list:
    """Ground truth: boxes of two sizes under captions of different lengths, or labels."""
    if host == "clip":
        return [DataSample().set_gt_label(i % len(CLASSES)) for i in range(count)]
    size = SIZES[host]
    found = []
    for i in range(count):
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                **dict.fromkeys(
                    ("img_shape", "pad_shape", "batch_input_shape", "ori_shape"), (size, size)
                ),
                scale_factor=(1.0, 1.0),
                text=CLASSES[: 4 - 2 * i],
                custom_entities=True,
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[2.0, 3, 30, 35], [10.0 + i, 8, 63, 60], [40, 40, 52, 55]]),
            labels=torch.tensor([0, 1, 0]),
        )
        found.append(sample)
    return found


def losses(model: nn.Module, host: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """On two images."""
    return model(images(host, 2).to(dtype), samples(host, 2), mode="loss")


@torch.no_grad()
def numbers(model: nn.Module, host: str) -> dict[str, list[float]]:
    """What a host in float64 computes from two images in testing.

    Returns:
        Of every loss and every tensor x of the raw outputs: the sum of x_i cos(0.37 i), which also
        tells an order, and that of |x_i|.
    """
    model = model.double().eval()
    raw = model(images(host, 2), samples(host, 2), mode="tensor")
    outputs = dict(losses(model, host, torch.float64))
    outputs.update({f"raw {i}": x for i, x in enumerate(_tensors(raw))})
    found = {}
    for name, x in outputs.items():
        flat = x.double().reshape(-1)
        weights = torch.cos(STEP * torch.arange(len(flat), dtype=torch.float64))
        found[name] = [(flat * weights).sum().item(), flat.abs().sum().item()]
    return found


def _tensors(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested]
    return [x for part in nested for x in _tensors(part)]


def worst(found: Mapping[str, Sequence[float]], wanted: Mapping[str, Sequence[float]]) -> float:
    """The largest difference, relative to the sum of magnitudes."""
    assert found.keys() == wanted.keys(), sorted({*found} ^ {*wanted})
    return max(
        abs(a - b) / max(wanted[name][1], 1e-12)
        for name in wanted
        for a, b in zip(found[name], wanted[name], strict=True)
    )


# ---------------------------------------------------------------------- runs


class Losses(Hook):
    """The losses of every step."""

    def __init__(self) -> None:
        self.of_step: dict[int, dict[str, float]] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.of_step[runner.iter] = {name: value.item() for name, value in outputs.items()}


class _Items(Sequence):
    """Two images, their pixels as files have them."""

    metainfo = dict(classes=CLASSES)

    def __init__(self, host: str) -> None:
        pixels = (images(host, 2) * 100 + 120).clamp(0, 255).to(torch.uint8)
        self.items = [
            dict(inputs=image, data_samples=sample)
            for image, sample in zip(pixels, samples(host, 2), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict:
        return copy.deepcopy(self.items[i])


def make_run(
    host: str, model: nn.Module, folder: Path, resume_from: Path | None = None
) -> tuple[TunerRunner, Losses]:
    """A run of three epochs of two steps, with a checkpoint after the second.

    Args:
        host: Name of the host.
        model: It, with a tuner.
        folder: For files.
        resume_from: Checkpoint to continue from.
    """
    weights = folder / "base.pth"
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("tuners.")}
    torch.save(dict(state_dict=state), weights)
    losses_of_run = Losses()
    runner = TunerRunner(
        model=model,
        work_dir=str(folder),
        train_dataloader=DataLoader(
            _Items(host),
            batch_size=1,
            collate_fn=pseudo_collate if host == "glip" else default_collate,
        ),
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3),
        optim_wrapper=dict(
            type="OptimWrapper",
            constructor="mmsdpt.TrainableOptimWrapperConstructor",
            optimizer=dict(type="AdamW", lr=1e-2, weight_decay=1e-2),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[dict(type="CosineAnnealingLR", T_max=3, convert_to_iter_based=True)],
        default_hooks=dict(
            checkpoint=dict(type="mmsdpt.TunerCheckpointHook", interval=2), logger=None
        ),
        custom_hooks=[losses_of_run, *([dict(type="mmsdpt.SetClassesHook")] * (host == "clip"))],
        load_from=str(weights),
        resume=resume_from is not None,
        log_level="ERROR",
        default_scope=SCOPES[host],
        randomness=dict(seed=0),
        experiment_name=folder.name,
        cfg=dict(resume_from=resume_from and str(resume_from)),
    )
    return runner, losses_of_run
