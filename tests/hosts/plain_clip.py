"""CLIP as the paper and OpenAI's code have it: one text at a time in the full context, nothing
shared, trimmed or kept. Parameters are read from a model; meant for float64.
"""

from __future__ import annotations

import torch
from plain_prompted_clip import attention, mlp, norm
from torch import Tensor, nn


def plain_text(model: nn.Module, rows: Tensor, end: int) -> Tensor:
    """Feature (e,) of a text, not normalised.

    Args:
        model: CLIP.
        rows: (L, d) token embeddings, without positions.
        end: Place of the end token.
    """
    x = rows + model.positional_embedding[: len(rows)]
    mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype).triu(1)
    for block in model.transformer.resblocks:
        weights = block.attn.in_proj_weight, block.attn.in_proj_bias
        heads = block.attn.num_heads
        x = x + attention(norm(x, block.ln_1), weights, block.attn.out_proj, heads, mask)
        x = x + mlp(norm(x, block.ln_2), block.mlp.c_fc, block.mlp.c_proj)
    return norm(x[end], model.ln_final) @ model.text_projection


def plain_words(model: nn.Module, text: str) -> Tensor:
    """(n, d) embeddings of a text's tokens, without start and end."""
    return model.token_embedding.weight[model.tokenizer.encode(text)]


def plain_sentence(model: nn.Module, *parts: str | Tensor) -> tuple[Tensor, int]:
    """Rows (77, d) of [start], the parts (words, or vectors), [end] and padding, and the place of
    the end.
    """
    table = model.token_embedding.weight
    rows = [table[model.tokenizer.start][None]]
    rows += [plain_words(model, part) if isinstance(part, str) else part for part in parts]
    rows.append(table[model.tokenizer.end][None])
    joined = torch.cat(rows)
    padding = table[0].expand(model.context_length - len(joined), -1)
    return torch.cat([joined, padding]), len(joined) - 1


def plain_logits(model: nn.Module, image: Tensor, texts: list[Tensor]) -> Tensor:
    """(C,) of one image's feature (e,) and C texts'."""
    cosines = [image @ text / (image.norm() * text.norm()) for text in texts]
    return model.logit_scale.exp() * torch.stack(cosines)
