"""CLIP in the plain form of MMPreTrain and of the published codes of prompt learning.

What a benchmark compares with: MMPreTrain's own blocks on every text of every class in the full
context, at every step and in testing, too, and all outputs of all blocks. Tuners act at the same
seams.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmsdpt.hosts.clip.classifier import CLIP
from mmsdpt.hosts.clip.image_tower import RunVisionBlock, embed_patches
from mmsdpt.hosts.clip.quick_gelu import PlainQuickGELU, set_quick_gelu
from mmsdpt.hosts.clip.seams import TextInput
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.utils.errors import InputError


class PlainCLIP(CLIP):
    """A CLIP that trims, shares, recomputes and keeps nothing. Arguments as of :class:`CLIP`.

    Raises:
        InputError: for an image tower without seams.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._image_embeddings is None:
            raise InputError("the plain form needs a VisionTransformer as vision_backbone")
        set_quick_gelu(self, PlainQuickGELU)
        length = self.context_length
        mask = torch.full((length, length), float("-inf")).triu(1)
        for block in self.transformer.resblocks:
            block.attn_mask = mask

    def encode_classes(self, state: ForwardState | None = None) -> Tensor:
        with self.tuned():
            return self._class_features(state or ForwardState(class_names=self.class_names))

    def _run_text(self, text: TextInput, state: ForwardState, prompted: bool = True) -> Tensor:
        x = text.whole()
        *shape, L, d = x.shape
        padding = self.token_embedding.weight[0].expand(*shape, self.context_length - L, d)
        x = torch.cat([x, padding], dim=-2) + self.positional_embedding
        x = x.reshape(-1, self.context_length, d)
        blocks = self.transformer.resblocks
        for (seam, *others), block in zip(self._text_blocks, blocks, strict=True):
            x = seam.change(x, state) if prompted else x
            if x.shape[1] != self.context_length or any(other.active() for other in others):
                raise InputError("the plain form has no place for what this tuner does to the text")
            y = block(x.transpose(0, 1))
            y = y[0] if isinstance(y, tuple) else y  # the last block has its attention map, too
            x = y.transpose(0, 1)
        ends = (text.prefix.shape[-2] + text.ends).repeat(len(x) // len(text.ends))
        x = self.ln_final(x)[torch.arange(len(x), device=x.device), ends] @ self.text_projection
        features = x.reshape(*shape, -1)
        return self._pooled_text.change(features) if prompted else features

    def _run_image(self, images: Tensor, state: ForwardState) -> Tensor:
        x, rows = embed_patches(self.visual, images, self._image_embeddings, state)
        for seam, parts, block in zip(
            self._image_blocks, self._image_parts, self.visual.layers, strict=True
        ):
            x, rows = seam.run(RunVisionBlock(block, parts, last=False), x, rows, state)
        return self.visual.ln1(x)[:, 0]
