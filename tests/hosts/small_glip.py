"""A small GLIP, MMDetection's and ours, with what MMDetection fixes: 256 channels, BERT of width
768, X-MHA of joint width 2048.
"""

from __future__ import annotations

import copy
import importlib
import shutil
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from transformers import BertConfig
from transformers import BertModel as HFBertModel

from mmsdpt import compat
from mmsdpt.utils.language_models import mini_bert_folder

MINI_CONFIG = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "mini_glip.py"
# The pyramid at this size: 9 x 13, 5 x 7, 3 x 4, 2 x 2, 1 x 1.
IMAGE_SIZE = (72, 100)
TEXTS = (
    ("red circle", "striped blue star"),
    ("raccoon",),
    ("jellyfish", "penguin (bird)", "star_fish", "a hollow pentagon that is yellow"),
)


def make_text_folder(folder: Path) -> Path:
    """One layer of BERT's width, random weights, the vocabulary of the mini BERT."""
    torch.manual_seed(0)
    shutil.copy(Path(mini_bert_folder()) / "vocab.txt", folder)
    vocabulary = (folder / "vocab.txt").read_text().split("\n")
    config = BertConfig(
        vocab_size=len(vocabulary), num_hidden_layers=1, intermediate_size=32, hidden_act="gelu"
    )
    HFBertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def glip_config(folder: Path | str, ours: bool, early_fuse: bool = True, **kwargs) -> dict:
    """Config of the small GLIP; the same for both but for the types.

    Args:
        folder: Of the text encoder.
        ours: Whether the types are mmsdpt's.
        early_fuse: As in the head.
        kwargs: More settings of the detector.
    """
    scope = "mmsdpt." if ours else ""
    return dict(
        type=f"{scope}GLIP",
        backbone=dict(
            type=f"{scope}SwinTransformer",
            embed_dims=8,
            depths=[1, 1, 2, 1],
            num_heads=[1, 2, 2, 4],
            window_size=5,
            drop_path_rate=0.5,
            out_indices=(1, 2, 3),
        ),
        neck=dict(
            type="FPN_DropBlock",
            in_channels=[16, 32, 64],
            out_channels=256,
            relu_before_extra_convs=True,
            add_extra_convs="on_output",
            num_outs=5,
        ),
        bbox_head=dict(
            type=f"{scope}ATSSVLFusionHead",
            lang_model_name=str(folder),
            num_classes=80,
            in_channels=256,
            feat_channels=256,
            early_fuse=early_fuse,
            num_dyhead_blocks=2,
            anchor_generator=dict(
                type="AnchorGenerator",
                ratios=[1.0],
                octave_base_scale=4,
                scales_per_octave=1,
                strides=[8, 16, 32, 64, 128],
                center_offset=0.5,
            ),
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoderForGLIP",
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
            loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True),
        ),
        language_model=dict(type=f"{scope}BertModel", name=str(folder)),
        train_cfg=dict(
            assigner=dict(
                type="ATSSAssigner", topk=9, iou_calculator=dict(type="BboxOverlaps2D_GLIP")
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.6),
            max_per_img=30,
        ),
        **kwargs,
    )


@torch.no_grad()
def make_every_parameter_matter(model: nn.Module) -> None:
    """Move what starts at zero or one, and let boxes and scores vary."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        if name.startswith("tuners."):
            continue
        if "attnconv" in name:
            parameter.copy_(0.3 * noise)
        elif "dot_product" in name and parameter.dim() == 2:
            parameter.copy_(noise)
        elif parameter.dim() < 2:
            parameter.add_(0.1 * noise)
    model.bbox_head.head.bias0.fill_(-2.0)


def build(config: dict) -> nn.Module:
    """Build with MMDetection's types as the default, whichever test runs first."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(config)


def build_small_glip(folder: Path, ours: bool, **kwargs) -> nn.Module:
    return build(ConfigDict(glip_config(folder, ours, **kwargs))).eval()


def make_images(batch: int, size: tuple[int, int] = IMAGE_SIZE, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, *size, generator=generator).to(
        dtype
    )  # the same in both precisions


def make_samples(
    texts, size: tuple[int, int] = IMAGE_SIZE, empty: tuple[int, ...] = (), **meta
) -> list[DetDataSample]:
    """One image per text, with a few boxes.

    Args:
        texts: Class names of each image.
        size: Height and width.
        empty: Images without a box.
        meta: More meta data, the same for all images.
    """
    generator = torch.Generator().manual_seed(2)
    height, width = size
    samples = []
    for i, text in enumerate(texts):
        count = 0 if i in empty else 3 + i
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.5
        extent = 8 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.8
        num_classes = 1 if isinstance(text, str) else max(len(text), 1)
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                img_shape=size,
                pad_shape=size,
                batch_input_shape=size,
                ori_shape=(2 * height, 3 * width),
                scale_factor=(1 / 3, 0.5),
                text=text,
                custom_entities=True,
            )
        )
        sample.set_metainfo(meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + extent], dim=1),
            labels=torch.randint(num_classes, (count,), generator=generator),
        )
        samples.append(sample)
    return samples


def losses_of(model: nn.Module, images: Tensor, samples: list[DetDataSample]) -> dict[str, Tensor]:
    return model(images, copy.deepcopy(samples), mode="loss")


def predictions_of(
    model: nn.Module, images: Tensor, samples: list[DetDataSample], rescale: bool = True
) -> list[InstanceData]:
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        if images.dtype == torch.float64:  # MMCV's compiled operator takes float32 alone
            operators = importlib.import_module("mmcv.ops.nms").ext_module
            patch.setattr(operators, "nms", compat._nms)
        found = model.predict(images, copy.deepcopy(samples), rescale=rescale)
    return [sample.pred_instances for sample in found]


def assert_near(
    found: Tensor, wanted: Tensor, relative: float, name: str = "", floor: float = 0.0
) -> None:
    """Equal up to ``relative`` times the largest magnitude, or ``floor`` if that is larger."""
    assert found.shape == wanted.shape, name
    if not wanted.numel():
        return
    scale = max(wanted.abs().max().item(), floor)
    error = (found.double() - wanted.double()).abs().max().item()
    assert error <= relative * scale, f"{name}: error {error:.1e}, magnitude {scale:.1e}"


def assert_same_predictions(found: list, wanted: list, tolerance: float) -> None:
    """The same boxes in the same order."""
    for a, b in zip(found, wanted, strict=True):
        assert set(a.keys()) == set(b.keys())
        assert torch.equal(a.labels, b.labels)
        assert a.get("label_names", None) == b.get("label_names", None)
        assert_near(a.bboxes, b.bboxes, tolerance, "bboxes")
        assert_near(a.scores, b.scores, tolerance, "scores")


def build_mini_glip(**changes) -> nn.Module:
    """The package's mini GLIP with two blocks, random weights and every kind of dropout.

    Args:
        changes: Settings of the detector; dicts are merged into the config's.
    """
    config = Config.fromfile(str(MINI_CONFIG))
    config.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(drop_path_rate=0.5),
                neck=dict(type="FPN_DropBlock"),
                bbox_head=dict(num_dyhead_blocks=2, fusion=dict(dropout=0.1, drop_path=0.1)),
                language_model=dict(pretrained=False),
            )
        )
    )
    config.merge_from_dict(dict(model=changes))
    model = build(config.model)
    make_every_parameter_matter(model)
    return model


# Size of images of make_samples() whose boxes are of every size.
MINI_SIZE = (64, 96)


def mini_images(batch: int) -> Tensor:
    return make_images(batch, MINI_SIZE, torch.float32)


def mini_samples(texts, **kwargs):
    return make_samples(texts, MINI_SIZE, **kwargs)
