"""A small Grounding DINO, MMDetection's and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models.layers.transformer import dino_layers
from mmdet.models.layers.transformer.utils import coordinate_to_encoding
from mmengine.config import Config
from torch import nn

from tests.hosts import mmdet_bert
from tests.hosts.small_glip import build

SPECIAL = ["[CLS]", "[SEP]", ".", "?"]


def grounding_dino_config(
    folder: Path | str, ours: bool, channels: int = 256, layers: int = 2, **kwargs: Any
) -> dict:
    """Config of the small Grounding DINO; the same for both but for the types.

    Args:
        folder: Of the text encoder.
        ours: Whether the types are mmsdpt's.
        channels: Width of the encoder and the decoder; MMDetection fixes 256.
        layers: Of the encoder and of the decoder.
        kwargs: More settings of the detector.
    """
    scope = "mmsdpt." if ours else ""
    width = dict(embed_dims=channels, dropout=0.0)
    ffn = dict(embed_dims=channels, feedforward_channels=32)
    return dict(
        type=f"{scope}GroundingDINO",
        num_queries=12,
        with_box_refine=True,
        as_two_stage=True,
        data_preprocessor=dict(type="DetDataPreprocessor", pad_mask=False),
        language_model=dict(
            # MMDetection's own where it works; test_text.py compares the two.
            type=f"{scope}BertModel" if mmdet_bert.WORKS else "mmsdpt.BertModel",
            name=str(folder),
            pad_to_max=False,
            use_sub_sentence_represent=True,
            special_tokens_list=SPECIAL,
            add_pooling_layer=False,
        ),
        backbone=dict(
            type=f"{scope}SwinTransformer",
            embed_dims=8,
            depths=[1, 1, 2, 1],
            num_heads=[1, 2, 2, 4],
            window_size=5,
            drop_path_rate=0.0,
            out_indices=(1, 2, 3),
        ),
        neck=dict(
            type="ChannelMapper",
            in_channels=[16, 32, 64],
            kernel_size=1,
            out_channels=channels,
            act_cfg=None,
            bias=True,
            norm_cfg=dict(type="GN", num_groups=32),
            num_outs=4,
        ),
        encoder=dict(
            num_layers=layers,
            layer_cfg=dict(self_attn_cfg=dict(num_levels=4, **width), ffn_cfg=ffn),
            text_layer_cfg=dict(self_attn_cfg=dict(num_heads=4, **width), ffn_cfg=ffn),
            fusion_layer_cfg=dict(
                v_dim=channels,
                l_dim=channels,
                embed_dim=4 * channels,
                num_heads=4,
                dropout=0.0,
                init_values=0.3,
            ),
        ),
        decoder=dict(
            num_layers=layers,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=dict(num_heads=8, **width),
                cross_attn_text_cfg=dict(num_heads=8, **width),
                cross_attn_cfg=dict(num_heads=8, **width),
                ffn_cfg=ffn,
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(
            num_feats=channels // 2, normalize=True, offset=0.0, temperature=20
        ),
        bbox_head=dict(
            type=f"{scope}GroundingDINOHead",
            embed_dims=channels,
            num_classes=80,
            sync_cls_avg_factor=True,
            contrastive_cfg=dict(max_text_len=256, log_scale="auto", bias=True),
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type="L1Loss", loss_weight=5.0),
            loss_iou=dict(type="GIoULoss", loss_weight=2.0),
        ),
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=10),
        ),
        train_cfg=dict(
            assigner=dict(
                type="HungarianAssigner",
                match_costs=[
                    dict(type="BinaryFocalLossCost", weight=2.0),
                    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                    dict(type="IoUCost", iou_mode="giou", weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=10),
        **kwargs,
    )


@contextmanager
def toolbox_corrected() -> Iterator[None]:
    """MMDetection's Grounding DINO as it is in 3.3.0.

    The OneDL distribution (3.5.1) encodes the decoder's references with ``query.shape[2]`` features
    per coordinate, four times too many numbers for Grounding DINO's ``ref_point_head``, so that
    it cannot run at all. 3.3.0 takes the function's default, 128, with which the public weights
    were trained. Nothing else is changed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dino_layers, "coordinate_to_encoding", _with_128_features)
        yield


def _with_128_features(coordinates: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return coordinate_to_encoding(coordinates)


@contextmanager
def float64() -> Iterator[None]:
    """What is made without a dtype, as MMDetection makes logits, has the precision of the test; and
    so have the matching's targets, which it makes float32.
    """
    einsum = torch.einsum
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "einsum", lambda how, *x: einsum(how, *(t.double() for t in x)))
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def build_small_grounding_dino(
    folder: Path, ours: bool, merged: dict | None = None, **kwargs: Any
) -> nn.Module:
    """In eval mode.

    Args:
        folder: Of the text encoder.
        ours: Whether it is mmsdpt's.
        merged: Changes of the config's parts.
        kwargs: More settings of the detector.
    """
    config = Config(dict(model=grounding_dino_config(folder, ours, **kwargs)))
    config.merge_from_dict(dict(model=merged or {}))
    return build(config.model).eval()


@torch.no_grad()
def make_every_parameter_matter(model: nn.Module) -> None:
    """Move what starts at zero or one, and let offsets, boxes and scores vary."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        if name.startswith("tuners."):
            continue
        if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
            parameter.copy_(0.1 * noise)
        elif "reg_branches" in name and name.endswith(".4.weight"):
            parameter.copy_(0.05 * noise)
        elif parameter.dim() < 2:
            parameter.add_(0.1 * noise)


def pair(folder: Path, **kwargs: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and MMDetection's with the same weights, in float64 and eval mode.

    Args:
        folder: Of the text encoder.
        kwargs: Settings of ours alone.
    """
    theirs = build_small_grounding_dino(folder, ours=False)
    ours = build_small_grounding_dino(folder, ours=True, **kwargs)
    nn.init.normal_(theirs.level_embed)  # MMDetection leaves it as the memory was
    make_every_parameter_matter(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours.double(), theirs.double()
