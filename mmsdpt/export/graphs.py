"""The exported graphs: from pixels to boxes, or to probabilities, with the texts as constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import (
    DeltaXYWHBBoxCoderForGLIP,
    delta2bbox_glip,
)
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmsdpt.hosts.clip import CLIP
from mmsdpt.hosts.glip import GLIP
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.utils.errors import InputError

from .glip_parts import with_onnx_parts


def _normalise(images: Tensor, preprocessor: nn.Module, to_rgb: bool) -> Tensor:
    """(B, H, W, 3) RGB pixels to the model's input (B, 3, H, W)."""
    images = images.permute(0, 3, 1, 2).float()
    if not to_rgb:
        images = images[:, [2, 1, 0]]
    return (images - preprocessor.mean.view(-1, 1, 1)) / preprocessor.std.view(-1, 1, 1)


class DetectorGraph(nn.Module):
    """A detector with fixed classes: the pixels of one resized image to its boxes.

    The caption's features, and everything else that does not depend on the image or its size, are
    constants. In the fusion layers the image changes the text, so they are part of the graph.

    Args:
        host: The model with the tuners to export.
        names: C classes.
        captions: Caption prompts by class.

    Raises:
        InputError: if the settings are not supported.
    """

    def __init__(
        self, host: GLIP, names: Sequence[str], captions: Mapping[str, Any] | None
    ) -> None:
        super().__init__()
        self.host = with_onnx_parts(host)
        head, cfg = host.bbox_head, host.test_cfg
        nms = dict(cfg.nms)
        if nms.pop("type", "nms") != "nms" or set(nms) - {"iou_threshold"}:
            raise InputError(f"the export supports only plain nms, but test_cfg.nms is {cfg.nms}")
        if not isinstance(head.bbox_coder, DeltaXYWHBBoxCoderForGLIP):
            raise InputError("the export supports only GLIP's box coder DeltaXYWHBBoxCoderForGLIP")
        if cfg.get("min_bbox_size", -1) != 0:
            raise InputError("the export supports only test_cfg.min_bbox_size=0")
        self.score_thr, self.nms_pre = float(cfg.score_thr), int(cfg.nms_pre)
        self.iou_threshold, self.most = float(nms["iou_threshold"]), int(cfg.max_per_img)

        sample = DetDataSample(metainfo=dict(text=tuple(names), custom_entities=True))
        if captions:
            sample.set_metainfo(dict(caption_prompt=captions))
        chunks = host._prediction_prompt(sample)
        if len(chunks) > 1:
            raise InputError(
                f"{len(names)} classes need {len(chunks)} captions, but a file supports only one:"
                " give fewer classes"
            )
        tokens, self.caption, class_map, _ = chunks[0]
        self.class_map = class_map.bool().float()
        with torch.no_grad():
            text = self.host.encode_text([self.caption])
        self.text: dict[str, Any] = {key: value.clone() for key, value in text.items()}
        self.names = tuple(names)
        state = ForwardState(None, [self.caption], [self.class_map], phrases=[self.names])
        self.text = self.host._with_own_words(self.text, state)
        assert tokens is not None  # None only for hosts where any token counts
        # (T, C): the mean over each class's tokens.
        weights = torch.zeros(text["masks"].shape[1], len(names))
        for label, places in tokens.items():
            weights[places, label - 1] = 1 / len(places)
        self.register_buffer("of_class", weights)

    def forward(self, image: Tensor, original_size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect the classes.

        Args:
            image: (H, W, 3) uint8, RGB, resized as the metadata says.
            original_size: (2,) int64, height and width before resizing.

        Returns:
            Boxes (n, 4) xyxy in pixels of the original image, scores (n,), best first, and labels
            (n,) int64.
        """
        height, width = image.shape[:2]
        preprocessor = self.host.data_preprocessor
        x = _normalise(image[None], preprocessor, preprocessor._channel_conversion)
        d = preprocessor.pad_size_divisor
        padding = (0, (d - width % d) % d, 0, (d - height % d) % d)
        x = nn.functional.pad(x, padding, value=preprocessor.pad_value)
        found = self._candidates(x)
        scores, labels, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
        size = torch.stack([torch.as_tensor(width), torch.as_tensor(height)]).to(x.dtype)
        boxes = torch.minimum(boxes.clamp(min=0), (size - 1).repeat(2))
        boxes = boxes / (size / original_size.flip(0).to(x.dtype)).repeat(2)
        real = (scores > 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        kept = real.nonzero().squeeze(1)
        scores, labels, boxes = scores[kept], labels[kept], boxes[kept]
        # Move boxes of different classes apart, so that they never overlap.
        apart = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1
        moved = boxes + (labels.to(boxes.dtype) * apart)[:, None]
        best = torchvision.ops.nms(moved, scores, self.iou_threshold)[: self.most]
        # GLIP's boxes end one pixel too early.
        return boxes[best] + boxes.new_tensor([0, 0, 1, 1]), scores[best], labels[best]

    def _candidates(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The ``nms_pre`` best scores per level, labels and boxes; a score of 0 means no box."""
        host, head = self.host, self.host.bbox_head
        state = ForwardState(x, [self.caption], [self.class_map], phrases=[self.names])
        with host.tuned():
            visual, text = self._encode(x, state)
            outputs = head.head.predict(visual, {**text, "masks": None})
        found = []
        anchors = zip(head.prior_generator.base_anchors, head.prior_generator.strides, strict=True)
        for deltas, centerness, logits, (base, stride) in zip(*outputs, anchors, strict=True):
            h, w = deltas.shape[2:]
            classes = torch.matmul(logits[0].sigmoid(), self.of_class)  # (h w, C)
            flat = torch.where(classes > self.score_thr, classes, 0.0).flatten()
            score, index = torch.cat([flat, flat.new_zeros(self.nms_pre)]).topk(self.nms_pre)
            index = torch.where(score > 0, index, 0)
            count = len(self.of_class[0])
            place = torch.div(index, count, rounding_mode="floor")
            x0, y0 = torch.arange(w) * stride[0], torch.arange(h) * stride[1]
            corner = torch.stack([x0.repeat(h), y0[:, None].expand(h, w).reshape(-1)], dim=1)
            priors = (base + corner.repeat(1, 2))[place]
            deltas = deltas[0].flatten(1).t()[place]
            factor = centerness.flatten().sigmoid()[place]
            coder = head.bbox_coder  # its decode() cannot be exported
            boxes = delta2bbox_glip(priors, deltas, coder.means, coder.stds, clip_border=False)
            found.append((torch.sqrt(score * factor), index - place * count, boxes))
        return found

    def _encode(self, x: Tensor, state: ForwardState) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        if self.host._lockstep.active():
            return self.host.encode(x, state)
        state.text = self.text
        return self.host.extract_feat(x, state), self.text


class ClassifierGraph(nn.Module):
    """A classifier with fixed classes: cropped images to logits and probabilities.

    Args:
        host: The model with the tuners to export, and its classes set.
    """

    def __init__(self, host: CLIP) -> None:
        super().__init__()
        self.host = host
        with torch.no_grad():
            self.host.encode_classes()  # cached, so constant in the graph

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8, RGB, to logits (B, C) and probabilities (B, C)."""
        preprocessor = self.host.data_preprocessor
        logits = self.host.logits(_normalise(images, preprocessor, preprocessor.to_rgb))
        return logits, logits.softmax(-1)
