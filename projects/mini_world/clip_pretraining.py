"""Contrastive pre-training of CLIP from pairs of pictures and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from mmpretrain.structures import DataSample
from torch import Tensor

from mmsdpt.hosts.clip import CLIP
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError

_MAX_SCALE = math.log(100.0)


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, captions: Sequence[str], scale: Tensor
) -> Tensor:
    """Symmetric InfoNCE (Radford et al., ICML 2021) with several right answers.

    A caption that occurs k times in the batch is right for each of its k pictures, and each of
    these is a right picture for it: the targets are 1/k on all of them.

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


class _Gather(torch.autograd.Function):
    """The rows of all processes, in the order of their ranks; with gradients for one's own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process has the loss of the joined batch: the mean over processes, which
        # DistributedDataParallel makes of the parameters' gradients, needs the sum here.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(get_world_size())[dist.get_rank()]


def seen_patches(visual: VisionTransformer, images: Tensor, keep: float) -> Tensor:
    """The class token's output where only a random share of each picture's patches is shown
    (Li et al., Scaling Language-Image Pre-training via Masking, CVPR 2023).

    Args:
        visual: with ``out_type='cls_token'``.
        images: (B, 3, H, W), normalised, of the size that the positions are made for.
        keep: share of patches.

    Returns:
        (B, d), after the last norm.
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

    def init_weights(self) -> None:
        """As MMPreTrain's, but the positions of the patches start as sines and cosines.

        MMPreTrain's start (deviation 0.02) drowns beside the patches in the norm after it, so that
        the tower does not know at first where anything is.
        """
        super().init_weights()
        if isinstance(self.visual, VisionTransformer):
            positions = build_2d_sincos_position_embedding(
                self.visual.patch_resolution, self.visual.embed_dims, temperature=30.0
            )
            with torch.no_grad():
                self.visual.pos_embed[:, self.visual.num_extra_tokens :].copy_(positions)

    def _share_of_patches(self) -> float:
        u = torch.rand(())
        if get_world_size() > 1:  # the same on all processes: they wait for the slowest
            dist.broadcast(u, src=0)
        return self.least_patches + (1 - self.least_patches) * u.item() ** 3

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
            (x,) = self.visual_proj(seen_patches(self.visual, images, self._share_of_patches()))
            image_features = F.normalize(x, dim=-1)
        else:
            image_features = self.encode_image(images)
        different = sorted(set(captions))
        place = {text: number for number, text in enumerate(different)}
        text_features = self.encode_text(different)[[place[text] for text in captions]]
        if get_world_size() > 1:
            image_features = _Gather.apply(image_features)
            text_features = _Gather.apply(text_features)
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
