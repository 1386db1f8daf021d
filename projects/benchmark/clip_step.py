"""What benchmark_step.py needs to know of CLIP: its plain form, and a batch."""

from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from mmpretrain.datasets.categories import IMAGENET_SIMPLE_CATEGORIES
from mmpretrain.structures import DataSample

from mmsdpt.hosts.clip.classifier import CLIP
from projects.benchmark.plain_clip_form import PlainCLIP

CLASSES = IMAGENET_SIMPLE_CATEGORIES
USUAL_CLASSES = 100


def usual_size(model: ConfigDict) -> int:
    """Side of the images in pixels where none is asked for."""
    return model.vision_backbone.get("img_size", 224)


def plain_config(model: ConfigDict) -> ConfigDict:
    """What is built for the plain form."""
    return ConfigDict({**model, "type": PlainCLIP})


def plain_form(host: PlainCLIP, model: ConfigDict) -> PlainCLIP:
    """The plain form of what was built from :func:`plain_config`."""
    return host


def make_data(host: CLIP, size: tuple[int, int], batch: int, classes: int) -> dict:
    """A batch as a data loader gives it, noise images of ImageNet's first classes, which the model
    is told.
    """
    host.set_classes(CLASSES[:classes])
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels]
    return dict(inputs=images, data_samples=samples)


def describe_text(host: CLIP, data: dict) -> str:
    """What the text side gets."""
    longest = max(len(host.tokenizer.encode(name)) for name in host.class_names)
    return f"{len(host.class_names)} texts with names of up to {longest} tokens"
