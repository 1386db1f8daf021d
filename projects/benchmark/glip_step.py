"""What benchmark_step.py needs to know of GLIP: its plain form, and a batch."""

from __future__ import annotations

import torch
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmsdpt.hosts.glip.detector import GLIP
from mmsdpt.hosts.grounding import GroundingMixin
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from projects.benchmark.plain_form import PlainGLIP

USUAL_CLASSES = 80
CLASSES = LVISV1Dataset.METAINFO["classes"]  # read where 80 of COCO's are not enough


def usual_size(model: ConfigDict) -> int:
    """Side of the images in pixels where none is asked for."""
    return 800


def class_names(count: int) -> tuple[str, ...]:
    """COCO's first classes, or LVIS's where COCO has fewer."""
    coco = CocoDataset.METAINFO["classes"]
    return (coco if count <= len(coco) else CLASSES)[:count]


def plain_config(model: ConfigDict) -> ConfigDict:
    """What is built for the plain form: the same."""
    return model


def plain_form(host: GLIP, model: ConfigDict) -> PlainGLIP:
    """The plain form on the parts of ``host``, which must not be used after that.

    Args:
        host: Built from ``model``.
        model: Its config; MMDetection's own image encoder is built from it.

    Raises:
        InputError: if a tuner acts where the plain form has no seams.
    """
    use_plain_backbone(host, model)
    return PlainGLIP(host)


def use_plain_backbone(host: GroundingMixin, model: ConfigDict) -> None:
    """Give ``host`` MMDetection's own image encoder, with the same weights; see
    :func:`plain_form`.
    """
    for slot, tuner in host.tuners.items():
        if tuple(tuner.needs) != ("fusion",):
            raise InputError(
                f"the plain form has the fusion layers' seams only, and {type(tuner).__name__}"
                f" in slot {slot!r} needs {', '.join(tuner.needs)}: write --form ours"
            )
    backbone = dict(model.backbone)
    backbone["type"] = "mmdet." + backbone["type"].rpartition(".")[2]
    stock = MODELS.build(backbone)
    stock.load_state_dict(host.backbone.state_dict())
    host.backbone = stock.requires_grad_(False)


def make_data(host: GLIP | PlainGLIP, size: tuple[int, int], batch: int, classes: int) -> dict:
    """A batch as a data loader gives it: noise images, eight boxes each."""
    height, width = size
    generator = torch.Generator().manual_seed(1)
    names = class_names(classes)
    data: dict = dict(inputs=[], data_samples=[])
    for i in range(batch):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        corner, extent = torch.rand(2, 8, 2, generator=generator)
        low = 0.6 * corner
        boxes = torch.cat([low, low + 0.05 + 0.35 * extent], dim=1)
        boxes = boxes * torch.tensor([width, height, width, height])
        labels = torch.randint(0, len(names), (8,), generator=generator)
        meta = dict(img_id=i, img_shape=(height, width), ori_shape=(height, width))
        meta.update(scale_factor=(1.0, 1.0), text=names, custom_entities=True)
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        data["inputs"].append(image)
        data["data_samples"].append(sample)
    return data


def describe_text(host: GLIP | PlainGLIP, data: dict) -> str:
    """What the text side gets."""
    caption = ". ".join(data["data_samples"][0].text)
    return f"caption of {len(host.language_model.tokenizer(caption).input_ids)} tokens"
