"""The image tower: MMPreTrain's ``VisionTransformer`` and its parameter names, run with seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import ProjectionSeam
from mmsdpt.hosts.rows import join, split
from mmsdpt.hosts.seams import BlockSeam, BranchSeam, ForwardState, Rows, RowSeam

ImagePartSeams = tuple[ProjectionSeam, BranchSeam]
"""The seams of one block: ``image_projections`` and ``image_block_branches``."""


class RunVisionBlock:
    """A block on (B, 1 + N, d) followed by rows: see :data:`mmsdpt.hosts.seams.RunBlock`.

    Args:
        last: Whether this is the last block. It returns only the outputs of the class token,
            (B, 1, d), and of rows with ``output``. Only these are queries; all tokens and rows are
            keys and values.
    """

    def __init__(self, block: nn.Module, seams: ImagePartSeams, last: bool) -> None:
        self.block, self.seams, self.last = block, seams, last

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        block, (projection, branch) = self.block, self.seams
        count, x = x.shape[1], join(x, rows)
        if not self.last and not projection.active():
            y = block(x)
            return split(branch.add(y, block.ln1(x)) if branch.active() else y, rows)
        asking: Tensor | slice = slice(None)
        if self.last:
            asking, rows = _asking(count, rows, x.device)
        normed = block.ln1(x)
        x = x[:, asking] + _attend(block.attn, projection, normed, asking)
        x = branch.add(block.ffn(block.ln2(x), identity=x), normed[:, asking])
        return split(x, rows)


def _asking(count: int, rows: Rows, device: torch.device) -> tuple[Tensor | slice, Rows]:
    """Positions of (B, count + P, d) that are queries of the last block, and the rows there."""
    asking, place = [0], count
    for row in rows.values():
        p = row.values.shape[-2]
        asking += range(place, place + p) if row.output else ()
        place += p
    chosen = {key: row for key, row in rows.items() if row.output}
    return torch.tensor(asking, device=device) if chosen else slice(1), chosen


def _attend(
    attention: nn.Module, projection: ProjectionSeam, x: Tensor, asking: Tensor | slice
) -> Tensor:
    """MMPreTrain's attention of some tokens to all tokens.

    Args:
        x: (B, N, d), normed.
        asking: Positions of the n tokens that are queries.

    Returns:
        (B, n, d).
    """
    B, N, d = x.shape
    weight, bias = attention.qkv.weight, attention.qkv.bias
    if projection.active():
        qkv = projection.change(F.linear(x, weight, bias), x)
        q, kv = qkv[:, asking, :d], qkv[..., d:]
    else:
        # MMPreTrain's qkv has no bias if qkv_bias is False.
        q_bias, kv_bias = (None, None) if bias is None else (bias[:d], bias[d:])
        q = F.linear(x[:, asking], weight[:d], q_bias)
        kv = F.linear(x, weight[d:], kv_bias)
    k, v = kv.reshape(B, N, 2, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(
        q.reshape(B, q.shape[1], attention.num_heads, -1).transpose(1, 2),
        k,
        v,
        dropout_p=attention.attn_drop if attention.training else 0.0,
    )
    y = attention.proj(y.transpose(1, 2).flatten(2))
    return attention.out_drop(attention.gamma1(attention.proj_drop(y)))


def embed_patches(
    visual: VisionTransformer, images: Tensor, embeddings: RowSeam, state: ForwardState
) -> tuple[Tensor, Rows]:
    """Input of the first block: (B, 1 + N, d), after ``pre_norm``, and rows of tuners.

    The rows come after the patches. They get no position, but also pass ``pre_norm``. Arguments as
    in :func:`vit_features`.
    """
    x, resolution = visual.patch_embed(images)
    x = torch.cat([visual.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
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
    embeddings: RowSeam,
    blocks: Sequence[BlockSeam],
    parts: Sequence[ImagePartSeams],
    state: ForwardState,
) -> Tensor:
    """Output of the class token. Fills ``state.image_rows``.

    Args:
        images: (B, 3, H, W), normalised.

    Returns:
        (B, d), after the last norm.
    """
    x, rows = embed_patches(visual, images, embeddings, state)
    last = len(blocks) - 1
    for i, (seam, part, block) in enumerate(zip(blocks, parts, visual.layers, strict=True)):
        x, rows = seam.run(RunVisionBlock(block, part, last=i == last), x, rows, state)
    norm = visual.ln1 if visual.final_norm else nn.Identity()
    state.image_rows = {key: norm(row.values) for key, row in rows.items()}
    return norm(x[:, 0])
