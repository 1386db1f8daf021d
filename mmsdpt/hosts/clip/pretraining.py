"""Contrastive pre-training of CLIP from pairs of pictures and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError

from .classifier import CLIP

_MAX_SCALE = math.log(100.0)


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, captions: Sequence[str], scale: Tensor
) -> Tensor:
    """Symmetric InfoNCE (Radford et al., ICML 2021) with several right answers.

    A caption that occurs k times in the batch is right for each of its k pictures, and each of these
    is a right picture for it: the targets are 1/k on all of them.

    Args:
        image_features: (N, e), normalised.
        text_features: (N, e), normalised; row i belongs to picture i.
        captions: N texts.
        scale: factor on the cosines.

    Returns:
        The mean over both directions.
    """
    numbers: dict[str, int] = {}
    index = torch.tensor([numbers.setdefault(text, len(numbers)) for text in captions])
    same = (index[:, None] == index[None, :]).to(image_features)
    targets = same / same.sum(dim=1, keepdim=True)
    logits = scale * image_features @ text_features.T
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def seen_patches(visual: VisionTransformer, images: Tensor, keep: float) -> Tensor:
    """The class token's output where only a random share of each picture's patches is shown
    (Li et al., Scaling Language-Image Pre-training via Masking, CVPR 2023).

    Args:
        visual: with ``out_type='cls_token'``.
        images: (B, 3, H, W), normalised, of the size that the positions are made for.
        keep: share of patches.

    Returns:
        (B, d), behind the last norm.
    """
    x = visual.patch_embed(images)[0] + visual.pos_embed[:, 1:]
    B, N, d = x.shape
    count = max(1, round(keep * N))
    if count < N:
        chosen = torch.rand(B, N, device=x.device).argsort(dim=1)[:, :count]
        x = x.gather(1, chosen[..., None].expand(-1, -1, d))
    first = (visual.cls_token + visual.pos_embed[:, :1]).expand(B, -1, -1)
    x = visual.pre_norm(torch.cat([first, x], dim=1))
    for block in visual.layers:
        x = block(x)
    return visual.ln1(x[:, 0])


@MODELS.register_module()
class CLIPPretraining(CLIP):
    """CLIP that learns all of its weights from captions; its checkpoints fit :class:`CLIP`.

    With several processes the features of all are gathered, so that the batch of the loss is the
    batches of all together.

    Args:
        *args: See :class:`CLIP`.
        least_patches: Each step shows the image tower a share of the patches, which is drawn as
            least + (1 - least) u³ with u uniform in 0..1: mostly few, sometimes all. Half of the
            patches are half of the work. 1: all of them always.
        **kwargs: See :class:`CLIP`.
    """

    def __init__(self, *args: Any, least_patches: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0.0 < least_patches <= 1.0:
            raise InputError(f"least_patches must be above 0 and at most 1, got {least_patches}")
        self.least_patches = least_patches
        self._steps = 0

    def _keep(self) -> float:
        # The same on all processes: they wait for the slowest.
        u = np.random.default_rng(self._steps).random()
        self._steps += 1
        return self.least_patches + (1 - self.least_patches) * u**3

    def loss(self, images: Tensor, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """The contrastive loss of a batch.

        Args:
            images: (B, 3, H, W), normalised.
            data_samples: each with a ``caption``.

        Returns:
            ``loss``, and for the log ``scale`` and ``accuracy``: how often the picture finds a
            right caption in the batch.

        Raises:
            InputError: a sample has no caption.
        """
        if any("caption" not in sample for sample in data_samples):
            raise InputError(
                "contrastive pre-training needs a caption for each picture: list it under"
                " algorithm_keys of PackInputs"
            )
        captions = [sample.caption for sample in data_samples]
        with torch.no_grad():
            self.logit_scale.clamp_(max=_MAX_SCALE)
        if self.training and self.least_patches < 1:
            (x,) = self.visual_proj(seen_patches(self.visual, images, self._keep()))
            image_features = F.normalize(x, dim=-1)
        else:
            image_features = self.encode_image(images)
        different = sorted(set(captions))
        place = {text: number for number, text in enumerate(different)}
        text_features = self.encode_text(different)[[place[text] for text in captions]]
        if get_world_size() > 1:
            image_features = torch.cat(all_gather(image_features.contiguous()))
            text_features = torch.cat(all_gather(text_features.contiguous()))
            gathered: list[list[str]] = [[] for _ in range(get_world_size())]
            dist.all_gather_object(gathered, captions)
            captions = sum(gathered, [])
        scale = self.logit_scale.exp()
        loss = contrastive_loss(image_features, text_features, captions, scale)
        with torch.no_grad():
            best = (image_features @ text_features.T).argmax(dim=1).tolist()
            right = [captions[b] == text for b, text in zip(best, captions, strict=True)]
            accuracy = loss.new_tensor(sum(right) / len(right))
        return {"loss": loss, "accuracy": accuracy, "scale": scale.detach()}
