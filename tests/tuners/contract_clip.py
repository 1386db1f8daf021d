"""A small CLIP as a host of the contract suite."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from tests.hosts.full_size import on_meta
from tests.hosts.small_clip import (
    MODEL_CONFIG,
    NAMES,
    build_clip,
    clip_config,
    make_images,
    make_samples,
    resnet_config,
)
from tests.tuners.contract_hosts import Batch, Host, Outputs


class CLIPHost(Host):
    """CLIP with three blocks per tower and random weights."""

    name = "CLIP"
    scope = "mmpretrain"
    paper = "ViT-B/16"
    base_losses = {"loss"}
    autocasts = (torch.bfloat16, torch.float16)
    bfloat16_error = 1e-2  # random features differ less, and their cosines are taken times 100
    plain_hint = "need a VisionTransformer"
    collate = staticmethod(default_collate)
    metainfo = dict(classes=NAMES, template="a photo of a {}.")
    hooks = (dict(type="mmsdpt.SetClassesHook"),)
    facts = dict(num_classes=len(NAMES))

    @classmethod
    def build(cls, folder: Path, small: bool = False) -> CLIPHost:
        model = build_clip(clip_config(classes=NAMES)).requires_grad_(False)
        path = folder / "small_clip.pth"
        torch.save(dict(state_dict=model.state_dict()), path)
        return cls(model, str(path))

    @classmethod
    @functools.cache
    def kinds(cls) -> frozenset[str]:
        return frozenset(build_clip().seams())

    @staticmethod
    def large(folder: Path, name: str) -> nn.Module:
        """CLIP with ViT-B/16 or ViT-L/14."""
        init_default_scope("mmpretrain")
        with on_meta():
            path = MODEL_CONFIG.with_name(f"clip_vit_{name[4:].lower().replace('/', '')}.py")
            return MODELS.build(Config.fromfile(str(path)).model)

    @staticmethod
    def plain() -> nn.Module:
        """With a ResNet."""
        return build_clip(resnet_config())

    def batch(
        self, count: int, first: int = 0, dtype: torch.dtype = torch.float32, small: bool = False
    ) -> Batch:
        return make_images(count, dtype=dtype, first=first), make_samples(count, first=first)

    def item(self) -> dict[str, Any]:
        image, (sample,) = self.batch(1)
        preprocessor = self.model.data_preprocessor
        pixels = (image[0] * preprocessor.std + preprocessor.mean).clamp(0, 255).to(torch.uint8)
        return dict(inputs=pixels.flip(0), data_samples=sample)  # files give blue first

    def raw_outputs(self, model: nn.Module, batch: Batch, training: bool = False) -> Outputs:
        """The logits and both features: where the texts are not asked for, they still are there."""
        images, samples = batch
        state = ForwardState(images=images, class_names=model.class_names)
        with torch.set_grad_enabled(training):
            logits = model(images, copy.deepcopy(samples), mode="tensor")
            found = dict(
                logits=logits,
                image_features=model.encode_image(images, state),
                text_features=model.encode_classes(state),
            )
        return {name: value.detach() for name, value in found.items()}

    def predictions(self, model: nn.Module, batch: Batch) -> Outputs:
        images, samples = batch
        return {
            f"prediction {i} {key}": sample.get(key)
            for i, sample in enumerate(model.predict(images, copy.deepcopy(samples)))
            for key in ("pred_score", "pred_label")
        }

    def image_features(self, model: nn.Module, names: Sequence[str]) -> Outputs:
        images, _ = self.batch(1)
        with torch.no_grad():
            state = ForwardState(images=images, class_names=tuple(names))
            return dict(features=model.encode_image(images, state))

    def of_image(self, together: Outputs, i: int, alone: Outputs) -> Outputs:
        """The texts are of all images, unless each has its own."""
        found = super().of_image(together, i, alone)
        if alone["text_features"].dim() == 2:
            found["text_features"] = together["text_features"]
        return found
