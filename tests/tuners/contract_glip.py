"""Mini GLIP as a host of the contract suite."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.utils.base_weights import load_base_file, resolve_checkpoint
from tests.hosts.full_size import bert_folder, on_meta
from tests.tuners.contract_hosts import REPOSITORY, Batch, Host, Outputs

TEXTS = (
    ("red circle", "striped blue star"),
    ("raccoon",),
    ("jellyfish", "penguin (bird)", "star_fish", "a hollow pentagon that is yellow"),
)


class GLIPHost(Host):
    """Mini GLIP with two of its three fusion layers, which show what several are like, or one."""

    name = "GLIP"
    scope = "mmdet"
    paper = "GLIP-L"
    base_losses = {"loss_cls", "loss_bbox", "loss_centerness"}
    plain_hint = "(must be|only with)"
    configs = "configs/*/*_mini_thermal.py"
    collate = staticmethod(pseudo_collate)

    @classmethod
    def build(cls, folder: Path, small: bool = False) -> GLIPHost:
        weights = resolve_checkpoint("mmsdpt://mini_glip")
        model = _build(**{"bbox_head.num_dyhead_blocks": 1 if small else 2})
        load_base_file(model, weights)
        return cls(model, weights)

    @classmethod
    @functools.cache
    def kinds(cls) -> frozenset[str]:
        return frozenset(_build().seams())

    @staticmethod
    def large(folder: Path, name: str) -> nn.Module:
        """GLIP-L with BERT-base."""
        config = Config.fromfile(str(REPOSITORY / "configs/_base_/models/glip_l.py")).model
        config.bbox_head.lang_model_name = config.language_model.name = str(bert_folder(folder))
        init_default_scope("mmdet")
        with on_meta():
            return MODELS.build(config)

    @staticmethod
    def plain() -> nn.Module:
        """With MMDetection's Swin and a head that does not fuse early."""
        changes = {"backbone.type": "mmdet.SwinTransformer", "bbox_head.early_fuse": False}
        return _build(**changes)

    def batch(
        self, count: int, first: int = 0, dtype: torch.dtype = torch.float32, small: bool = False
    ) -> Batch:
        """Samples have captions of different lengths. Boxes are of every size, beyond the image's,
        so that every level of the pyramid has a target.
        """
        size = 32 if small else 64
        images, samples = [], []
        for i in range(first, first + count):
            generator = torch.Generator().manual_seed(i)
            texts = TEXTS[i % len(TEXTS)]
            extents = torch.tensor([16.0, 24.0, 64.0, 128.0, 256.0, 512.0])[: 6 - i % 2]
            centres = size * (0.3 + 0.4 * torch.rand(len(extents), 2, generator=generator))
            boxes = torch.cat(
                [centres - extents[:, None] / 2, centres + extents[:, None] / 2], dim=1
            )
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

    def item(self) -> dict[str, Any]:
        image, (sample,) = self.batch(1)
        pixels = (image[0] * 57 + 114).clamp(0, 255).to(torch.uint8)
        return dict(inputs=pixels, data_samples=sample)

    def raw_outputs(self, model: nn.Module, batch: Batch, training: bool = False) -> Outputs:
        """What the head returns, by name and level."""
        images, samples = batch
        names = ("logits", "boxes", "centerness")
        with torch.set_grad_enabled(training):
            raw = model(images, copy.deepcopy(samples), mode="tensor")
        return {
            f"{name} {i}": level.detach()
            for name, part in zip(names, raw, strict=True)
            for i, level in enumerate(part)
        }

    def predictions(self, model: nn.Module, batch: Batch) -> Outputs:
        images, samples = batch
        return {
            f"prediction {i} {key}": sample.pred_instances[key]
            for i, sample in enumerate(model.predict(images, copy.deepcopy(samples)))
            for key in ("bboxes", "scores", "labels")
        }

    def image_features(self, model: nn.Module, names: Sequence[str]) -> Outputs:
        """The pyramid."""
        images, samples = self.batch(1)
        caption, class_map = model.class_prompt(tuple(names))
        state = ForwardState(images, [caption], [class_map], samples)
        with torch.no_grad():
            levels, _ = model.encode(images, state)
        return {str(i): level for i, level in enumerate(levels)}

    def of_image(self, together: Outputs, i: int, alone: Outputs) -> Outputs:
        """Logits are as wide as the longest caption of the batch."""
        found = super().of_image(together, i, alone)
        return {name: value[..., : alone[name].shape[-1]] for name, value in found.items()}


def _build(**changes: Any) -> nn.Module:
    """Mini GLIP with changes of its config, frozen and in eval mode, without weights and tuners."""
    init_default_scope("mmdet")
    config = Config.fromfile(str(REPOSITORY / "configs/_base_/models/mini_glip.py"))
    config.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    return MODELS.build(config.model).requires_grad_(False).eval()
