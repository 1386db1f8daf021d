"""A small CLIP, and CLIP with prompts as loops over images, texts, layers and heads: the oracle of
the deep prompt methods.
"""

from __future__ import annotations

import copy
import functools

import small_clip
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch import Tensor, nn

TEXT_BLOCKS, IMAGE_BLOCKS = 4, 5
CONTEXT = 20
WORDS = "a photo of a"


def clip_config() -> dict:
    """The small CLIP with towers of unlike depths."""
    config = small_clip.clip_config(
        depth=TEXT_BLOCKS, classes=small_clip.NAMES[:3], context_length=CONTEXT
    )
    config.vision_backbone.arch.num_layers = IMAGE_BLOCKS
    return config


@functools.cache
def _host() -> nn.Module:
    return small_clip.build_clip(clip_config()).requires_grad_(False).double()


def build_clip(**tuner) -> nn.Module:
    """In float64, with a tuner of settings ``tuner``; prompts of a size that matters."""
    model = copy.deepcopy(_host())
    init_default_scope("mmpretrain")
    if tuner:
        torch.manual_seed(2)
        model._attach_tuners(tuner, None, None)
        owner = model.tuners["default"].double()
        owner.prepare()
        with torch.no_grad():
            for name in ("ctx", "text_deep", "image_shallow", "image_deep"):
                if getattr(owner, name, None) is not None:
                    getattr(owner, name).normal_(std=0.5)
    return model


# ---------------------------------------------------------------------- plain towers


def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * module.weight + module.bias


def attention(
    x: Tensor, qkv: tuple[Tensor, Tensor], out: nn.Linear, heads: int, mask: Tensor | float = 0.0
) -> Tensor:
    """Self-attention on one sequence (L, d), head by head."""
    q, k, v = (x @ qkv[0].T + qkv[1]).chunk(3, dim=-1)
    parts = [
        (a @ b.T / a.shape[1] ** 0.5 + mask).softmax(-1) @ c
        for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True)
    ]
    return torch.cat(parts, dim=-1) @ out.weight.T + out.bias


def mlp(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    hidden = x @ first.weight.T + first.bias
    return hidden * torch.sigmoid(1.702 * hidden) @ second.weight.T + second.bias


def plain_text(
    model: nn.Module, name: str, ctx: Tensor | None, deep: Tensor | None, words: str = WORDS
) -> Tensor:
    """Feature (e,) of a class in the full context, with the explicit mask."""
    tokenizer = model.tokenizer
    known = tokenizer.encode(words)
    fixed = known[len(ctx) :] if ctx is not None else known
    behind = [*fixed, *tokenizer.encode(f"{name}."), tokenizer.end]
    n = 0 if ctx is None else len(ctx)
    end = n + len(behind)
    behind += [0] * (CONTEXT - 1 - end)
    embed = model.token_embedding.weight
    parts = [embed[[tokenizer.start]], *([ctx] if n else []), embed[behind]]
    x = torch.cat(parts) + model.positional_embedding
    mask = torch.full((CONTEXT, CONTEXT), float("-inf"), dtype=x.dtype).triu(1)
    for i, block in enumerate(model.transformer.resblocks):
        if n and deep is not None and 1 <= i <= len(deep):
            x = torch.cat([x[:1], deep[i - 1], x[1 + n :]])
        weights = block.attn.in_proj_weight, block.attn.in_proj_bias
        heads = block.attn.num_heads
        x = x + attention(norm(x, block.ln_1), weights, block.attn.out_proj, heads, mask)
        x = x + mlp(norm(x, block.ln_2), block.mlp.c_fc, block.mlp.c_proj)
    return norm(x[end], model.ln_final) @ model.text_projection


def plain_image(
    model: nn.Module, image: Tensor, shallow: Tensor | None, deep: Tensor | None
) -> Tensor:
    """Feature (e,) of an image (3, H, W)."""
    visual = model.visual
    weight = visual.patch_embed.projection.weight
    patches = F.conv2d(image[None], weight, stride=weight.shape[-1])[0].flatten(1).T
    x = torch.cat([visual.cls_token[0], patches]) + visual.pos_embed[0]
    count = len(x)
    if shallow is not None:
        x = torch.cat([x, shallow])
    x = norm(x, visual.pre_norm)
    for i, block in enumerate(visual.layers):
        if shallow is not None and deep is not None and 1 <= i <= len(deep):
            x = torch.cat([x[:count], deep[i - 1]])
        weights = block.attn.qkv.weight, block.attn.qkv.bias
        x = x + attention(norm(x, block.ln1), weights, block.attn.proj, block.attn.num_heads)
        x = x + mlp(norm(x, block.ln2), block.ffn.layers[0][0], block.ffn.layers[1])
    return norm(x[0], visual.ln1) @ model.visual_proj.proj


def plain_logits(
    model: nn.Module,
    images: Tensor,
    ctx: Tensor | None = None,
    text_deep: Tensor | None = None,
    image_shallow: Tensor | None = None,
    image_deep: Tensor | None = None,
) -> Tensor:
    """(B, C), with prompts as they enter the towers."""
    texts = [plain_text(model, name, ctx, text_deep) for name in model.class_names]
    rows = [plain_image(model, image, image_shallow, image_deep) for image in images]
    return model.logit_scale.exp() * torch.stack(
        [torch.stack([(a @ b) / (a.norm() * b.norm()) for b in texts]) for a in rows]
    )


# ---------------------------------------------------------------------- plain injections


def plain_transformer(module: nn.Module, x: Tensor, post_norm: bool) -> Tensor:
    """The injection transformer on the prompts (n, d) of one depth."""
    x = norm(x, module.norm_in)
    for block in module.blocks:
        weights = block.attention.in_proj_weight, block.attention.in_proj_bias
        out, heads = block.attention.out_proj, x.shape[-1] // 64
        if post_norm:
            x = norm(x + attention(x, weights, out, heads), block.norm1)
            x = norm(x + mlp(x, block.mlp[0], block.mlp[2]), block.norm2)
        else:
            x = x + attention(norm(x, block.norm1), weights, out, heads)
            x = x + mlp(norm(x, block.norm2), block.mlp[0], block.mlp[2])
    return norm(x, module.norm_out) @ module.linear.weight.T + module.linear.bias


def plain_linear(module: nn.Linear, x: Tensor) -> Tensor:
    return x @ module.weight.T + module.bias
