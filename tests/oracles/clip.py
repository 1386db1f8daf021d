"""CLIP as the paper and OpenAI's code have it, with prompts: nothing shared, trimmed or kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def plain_words(model: nn.Module, text: str) -> Tensor:
    """(n, d) embeddings of a text's tokens, without start and end."""
    return model.token_embedding.weight[model.tokenizer.encode(text)]


def plain_sentence(model: nn.Module, *parts: str | Tensor) -> tuple[Tensor, int]:
    """Rows (L, d) of [start], the parts (words, or vectors), [end] and padding, and the place of
    the end; L is the length of the context.
    """
    table = model.token_embedding.weight
    rows = [table[model.tokenizer.start][None]]
    rows += [plain_words(model, part) if isinstance(part, str) else part for part in parts]
    rows.append(table[model.tokenizer.end][None])
    joined = torch.cat(rows)
    padding = table[0].expand(model.context_length - len(joined), -1)
    return torch.cat([joined, padding]), len(joined) - 1


def plain_text(
    model: nn.Module,
    rows: Tensor,
    end: int,
    deep: Tensor | None = None,
    before: Callable[[int, Tensor], Tensor] = lambda i, x: x,
    beside: Callable[[int, Tensor], Tensor | float] = lambda i, x: 0.0,
) -> Tensor:
    """Feature (e,) of a text, not normalised.

    Args:
        model: CLIP.
        rows: (L, d) token embeddings, without positions.
        end: Place of the end token.
        deep: (depth, n, d) rows in place of the n after the start, from the second block on.
        before: Changes what enters block i; new rows come before the end token.
        beside: What to add to the output of block i, of its input after its first norm.
    """
    x = rows + model.positional_embedding[: len(rows)]
    for i, block in enumerate(model.transformer.resblocks):
        end -= len(x)
        x = before(i, x)
        end += len(x)
        mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
        added = beside(i, norm(x, block.ln_1))
        if deep is not None and 1 <= i <= len(deep):
            x = torch.cat([x[:1], deep[i - 1], x[1 + len(deep[i - 1]) :]])
        weights = block.attn.in_proj_weight, block.attn.in_proj_bias
        heads = block.attn.num_heads
        x = x + attention(norm(x, block.ln_1), weights, block.attn.out_proj, heads, mask)
        x = x + mlp(norm(x, block.ln_2), block.mlp.c_fc, block.mlp.c_proj) + added
    return norm(x[end], model.ln_final) @ model.text_projection


def plain_image(
    model: nn.Module,
    image: Tensor,
    shallow: Tensor | None = None,
    deep: Tensor | None = None,
    before: Callable[[int, Tensor], Tensor] = lambda i, x: x,
    beside: Callable[[int, Tensor], Tensor | float] = lambda i, x: 0.0,
    whole: bool = False,
) -> Tensor:
    """Feature (e,) of an image (3, H, W), or, ``whole``, all tokens after the last norm; ``before``
    and ``beside`` as in :func:`plain_text`.
    """
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
        x = before(i, x)
        added = beside(i, norm(x, block.ln1))
        weights = block.attn.qkv.weight, block.attn.qkv.bias
        x = x + attention(norm(x, block.ln1), weights, block.attn.proj, block.attn.num_heads)
        x = x + mlp(norm(x, block.ln2), block.ffn.layers[0][0], block.ffn.layers[1]) + added
    if whole:
        return norm(x, visual.ln1)
    return norm(x[0], visual.ln1) @ model.visual_proj.proj


def plain_logits(model: nn.Module, image: Tensor, texts: list[Tensor]) -> Tensor:
    """(C,) of one image's feature (e,) and C texts'."""
    cosines = [image @ text / (image.norm() * text.norm()) for text in texts]
    return model.logit_scale.exp() * torch.stack(cosines)


def plain_prompted_logits(
    model: nn.Module,
    images: Tensor,
    ctx: Tensor | None = None,
    text_deep: Tensor | None = None,
    image_shallow: Tensor | None = None,
    image_deep: Tensor | None = None,
    keep_words: bool = True,
) -> Tensor:
    """(B, C) of "a photo of a NAME.", whose first words ``ctx`` replaces; those after it stay or
    are left out.
    """
    words = plain_words(model, "a photo of a")
    before = [words] if ctx is None else [ctx, *([words[len(ctx) :]] if keep_words else [])]
    texts = [
        plain_text(model, *plain_sentence(model, *before, f"{name}."), text_deep)
        for name in model.class_names
    ]
    rows = [plain_image(model, image, image_shallow, image_deep) for image in images]
    return torch.stack([plain_logits(model, row, texts) for row in rows])


# ---------------------------------------------------------------------- plain injections


def plain_transformer(module: nn.Module, x: Tensor, post_norm: bool) -> Tensor:
    """The injection transformer on the prompts (n, d) of one depth."""
    outer = isinstance(module.norm_in, nn.LayerNorm)
    x = norm(x, module.norm_in) if outer else x
    for block in module.blocks:
        weights = block.attention.in_proj_weight, block.attention.in_proj_bias
        out, heads = block.attention.out_proj, x.shape[-1] // 64
        if post_norm:
            x = norm(x + attention(x, weights, out, heads), block.norm1)
            x = norm(x + mlp(x, block.mlp[0], block.mlp[2]), block.norm2)
        else:
            x = x + attention(norm(x, block.norm1), weights, out, heads)
            x = x + mlp(norm(x, block.norm2), block.mlp[0], block.mlp[2])
    x = norm(x, module.norm_out) if outer else x
    return x @ module.linear.weight.T + module.linear.bias


def plain_linear(module: nn.Linear, x: Tensor) -> Tensor:
    return x @ module.weight.T + module.bias
