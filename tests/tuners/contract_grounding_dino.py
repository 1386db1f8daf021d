"""Grounding DINO under the contract suite."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmsdpt.registry import MODELS
from mmsdpt.utils.base_weights import read_checkpoint, resolve_checkpoint
from tests.hosts.full_size import bert_folder, on_meta
from tests.hosts.small_grounding_dino import grounding_dino_config, make_every_parameter_matter
from tests.tuners.contract_glip import GLIPHost
from tests.tuners.contract_hosts import REPOSITORY, Batch, Outputs

MINI_GLIP = REPOSITORY / "configs/_base_/models/mini_glip.py"


class GroundingDINOHost(GLIPHost):
    """A small one with the encoders of mini GLIP; the rest has random weights."""

    name = "GroundingDINO"
    paper = "Grounding DINO-T"
    configs = None  # rates for mini GLIP do not suit random weights
    bfloat16_error = 1e-2  # with random weights a query is easily matched to another box
    base_losses = {
        f"{part}loss_{kind}" for part in ("", "d0.", "enc_") for kind in ("cls", "bbox", "iou")
    }

    @classmethod
    def build(cls, folder: Path, small: bool = False) -> GroundingDINOHost:
        model = _build(layers=1 if small else 2)
        make_every_parameter_matter(model)
        known = read_checkpoint(resolve_checkpoint("mmsdpt://mini_glip"))["state_dict"]
        encoders = {
            name: value
            for name, value in known.items()
            if name.startswith(("backbone.", "language_model."))
        }
        assert not model.load_state_dict(encoders, strict=False).unexpected_keys
        weights = folder / "base.pth"
        torch.save(dict(state_dict=model.state_dict()), weights)
        return cls(model, str(weights))

    @classmethod
    @functools.cache
    def kinds(cls) -> frozenset[str]:
        return frozenset(_build().seams())

    @staticmethod
    def large(folder: Path, name: str) -> nn.Module:
        """With Swin-T and BERT-base."""
        path = "configs/_base_/models/grounding_dino_swin_t.py"
        config = Config.fromfile(str(REPOSITORY / path)).model
        config.language_model.name = str(bert_folder(folder))
        init_default_scope("mmdet")
        with on_meta():
            return MODELS.build(config)

    @staticmethod
    def plain() -> nn.Module:
        """With MMDetection's Swin."""
        return _build(**{"backbone.type": "mmdet.SwinTransformer"})

    def item(self) -> dict[str, Any]:
        """The very image of :meth:`batch`, which the small model's preprocessor leaves as it is.

        With random weights, a step on a rounded one may raise the loss of another.
        """
        image, (sample,) = self.batch(1)
        return dict(inputs=image[0], data_samples=sample)

    def raw_outputs(self, model: nn.Module, batch: Batch, training: bool = False) -> Outputs:
        """What the head returns, of each decoder layer; logits are zero where no token is."""
        images, samples = batch
        with torch.set_grad_enabled(training):
            logits, boxes = model(images, copy.deepcopy(samples), mode="tensor")
        logits = logits.detach().nan_to_num(neginf=0.0)
        return {
            f"{name} {i}": layer
            for name, part in dict(logits=logits, boxes=boxes.detach()).items()
            for i, layer in enumerate(part)
        }


def _build(layers: int = 2, **changes: Any) -> nn.Module:
    """Frozen and in eval mode, with changes of its config."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = grounding_dino_config("mmsdpt://mini_bert", True, channels=64, layers=layers)
    mini = Config.fromfile(str(MINI_GLIP)).model
    model["backbone"] = mini.backbone
    model["neck"].update(in_channels=[64, 128], norm_cfg=dict(type="GN", num_groups=8), num_outs=3)
    model["encoder"]["layer_cfg"]["self_attn_cfg"].update(num_levels=3)
    model["decoder"]["layer_cfg"]["cross_attn_cfg"].update(num_levels=3)
    config = Config(dict(model=dict(model, num_feature_levels=3)))
    config.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    return MODELS.build(config.model).requires_grad_(False).eval()
