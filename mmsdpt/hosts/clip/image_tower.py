"""The image tower: MMPreTrain's ``VisionTransformer`` and its parameter names, run with seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import ImageRowSeam
from mmsdpt.hosts.rows import join, split
from mmsdpt.hosts.seams import BlockSeam, ForwardState, Rows


class RunVisionBlock:
    """A block on (B, 1 + N, d) and rows after it: see :data:`mmsdpt.hosts.seams.RunBlock`."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        return split(self.block(join(x, rows)), rows)


class RunLastBlock:
    """The last block, of which only the class token's output is wanted: (B, 1 + N, d) and rows to
    (B, 1, d). Everything is a key and a value, only the class token asks.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        x = join(x, rows)
        block, attention = self.block, self.block.attn
        B, N, d = x.shape
        normed = block.ln1(x)
        weight, bias = attention.qkv.weight, attention.qkv.bias
        # MMPreTrain's qkv has no bias where qkv_bias is False.
        q_bias, kv_bias = (None, None) if bias is None else (bias[:d], bias[d:])
        q = F.linear(normed[:, :1], weight[:d], q_bias).view(B, 1, attention.num_heads, -1)
        kv = F.linear(normed, weight[d:], kv_bias).view(B, N, 2, attention.num_heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k,
            v,
            dropout_p=attention.attn_drop if attention.training else 0.0,
        )
        y = attention.proj(y.transpose(1, 2).reshape(B, 1, d))
        x = x[:, :1] + attention.out_drop(attention.gamma1(attention.proj_drop(y)))
        return block.ffn(block.ln2(x), identity=x), {}


def embed_patches(
    visual: VisionTransformer, images: Tensor, embeddings: ImageRowSeam, state: ForwardState
) -> tuple[Tensor, Rows]:
    """What enters the first block: (B, 1 + N, d), after ``pre_norm``, and rows of tuners.

    These come after the patches: they get no position and pass ``pre_norm`` with them. Arguments
    as of :func:`vit_features`.
    """
    x, resolution = visual.patch_embed(images)
    x = torch.cat([visual.cls_token.expand(len(x), -1, -1), x], dim=1)
    positions = resize_pos_embed(
        visual.pos_embed,
        visual.patch_resolution,
        resolution,
        mode=visual.interpolate_mode,
        num_extra_tokens=visual.num_extra_tokens,
    )
    x = visual.drop_after_pos(x + positions)
    rows = {key: replace(row, keep=True) for key, row in embeddings.rows(state).items()}
    return split(visual.pre_norm(join(x, rows)), rows)


def vit_features(
    visual: VisionTransformer,
    images: Tensor,
    embeddings: ImageRowSeam,
    blocks: Sequence[BlockSeam],
    state: ForwardState,
) -> Tensor:
    """The class token's output.

    Args:
        visual: With ``out_type='cls_token'``.
        images: (B, 3, H, W), normalised.
        embeddings: Seam of the patches.
        blocks: One seam per block.
        state: Of the forward pass.

    Returns:
        (B, d), after the last norm.
    """
    x, rows = embed_patches(visual, images, embeddings, state)
    *layers, last = visual.layers
    for seam, block in zip(blocks, layers, strict=False):
        x, rows = seam.run(RunVisionBlock(block), x, rows, state)
    x, _ = blocks[-1].run(RunLastBlock(last), x, rows, state)
    return visual.ln1(x[:, 0]) if visual.final_norm else x[:, 0]
