r"""Cross-modality attention (X-MHA), re-associated, with a seam for extra tokens.

Letters: B images, N image positions, T text tokens, H heads, d = E / H, E the joint width, D_v the
image width.

Per head h, with x the image features, l the text features, K = l W_k^T + b_k and V = l W_vl^T +
b_vl:

* scores      S_h = s (x W_q^T + b_q) K_h^T       = x (s W_q,h^T K_h^T) + s b_q,h K_h^T
* image out   O_v = sum_h softmax_T(S_h) V_h W_ov,h^T  = sum_h A_h (V_h W_ov,h^T)
* text out    O_l = concat_h softmax_N(S_h)^T (x W_v,h^T + b_v,h) = concat_h (A'_h x) W_v,h^T +
  (A'_h 1) b_v,h

The right-hand sides never form the N x E queries, values or outputs. Without them, the cost for N
image positions falls from about 3 N E D_v to 3 N H T D_v multiply-adds: per head, T = 20 tokens
instead of d = 256.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmsdpt.hosts.grounding.cross_attention import (
    FEW_SCORES,
    MAX_CLAMP_VALUE,
    cross_attention,
    is_without_values,
    may_pass_bound,
)
from mmsdpt.hosts.grounding.seams import FusionSeam, FusionTokens, OwnWords
from mmsdpt.utils.memo import Memo


class BiMultiHeadAttention(nn.Module):
    """Both directions of cross-attention from one score matrix. Parameter names as in MMDetection.

    Args:
        v_dim: Width of the image features.
        l_dim: Width of the text features.
        embed_dim: Joint width E.
        num_heads: Number of heads H.
        dropout: Dropout on the attention probabilities in training. The probabilities are dropped
            as in MMDetection, but the random numbers are in another order, so with dropout both
            agree only in distribution.
        index: Position among the fusion layers; the index of the seam.
    """

    def __init__(
        self,
        v_dim: int,
        l_dim: int,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.1,
        index: int = 0,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}"
            )
        self.v_dim, self.l_dim, self.embed_dim, self.num_heads = v_dim, l_dim, embed_dim, num_heads
        self.head_dim = embed_dim // num_heads
        self.scale = self.head_dim**-0.5
        self.dropout = dropout

        self.v_proj = nn.Linear(v_dim, embed_dim)
        self.l_proj = nn.Linear(l_dim, embed_dim)
        self.values_v_proj = nn.Linear(v_dim, embed_dim)
        self.values_l_proj = nn.Linear(l_dim, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, v_dim)
        self.out_l_proj = nn.Linear(embed_dim, l_dim)
        for linear in self.children():
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

        self.seam = FusionSeam(
            index,
            widths=dict(image=v_dim, text=l_dim, joint=embed_dim, heads=num_heads),
            projections=dict(image=self.v_proj, text=self.l_proj),
        )
        self._folded: Memo[tuple[Tensor, Tensor, Tensor]] = Memo()

    def forward(
        self,
        vision: Tensor,
        lang: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
        own_words: OwnWords | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend in both directions.

        Args:
            vision: (B, N, v_dim) layer-normed image features.
            lang: (B, T, l_dim) layer-normed text features.
            attention_mask_v: (B, N) bool, True at positions that the text must not attend to.
            attention_mask_l: (B, T), non-zero at real tokens; the image does not attend to the
                others.
            own_words: See :meth:`mmsdpt.hosts.grounding.seams.FusionSeam.tokens`.

        Returns:
            The image's change (B, N, v_dim) and the text's change (B, T, l_dim).
        """
        num_images, num_positions, _ = vision.shape
        num_words = lang.shape[1]
        tokens = self.seam.tokens(own_words)

        keys, values, key_bias = self._text_factors(lang)
        if tokens.text is not None:
            extra = self._text_factors_of_tokens(tokens.text)
            keys, values, key_bias = (
                torch.cat([own, more.to(own.dtype).expand(num_images, *more.shape[1:])], dim=2)
                for own, more in zip((keys, values, key_bias), extra, strict=True)
            )
        image_rows = vision
        if tokens.image is not None:
            prompt = tokens.image.to(vision.dtype).expand(num_images, -1, -1)
            image_rows = torch.cat([vision, prompt], dim=1)

        hidden_words = hidden_rows = None
        if attention_mask_l is not None and not bool(attention_mask_l.all()):
            # MMDetection adds +1 to real columns and -9e15 to padding: the constant cancels, the
            # padding gets weight 0. Extra tokens after the text are real.
            hidden_words = F.pad(attention_mask_l == 0, (0, keys.shape[2] - num_words))
        if attention_mask_v is not None:
            hidden_rows = F.pad(attention_mask_v, (0, image_rows.shape[1] - num_positions))
        num_scores = image_rows.shape[:2].numel() * self.num_heads * keys.shape[2]
        given = image_rows, keys, key_bias.squeeze(-1), values, num_words, hidden_words, hidden_rows
        at_once = num_scores < FEW_SCORES or is_without_values(image_rows)
        if at_once or tokens.groups or (self.training and self.dropout):
            of_rows, seen, weight = self._attend_at_once(*given, tokens, attention_mask_l)
        else:
            (of_rows, seen), weight = cross_attention(*given), 1.0
        return of_rows[:, :num_positions] + self.out_v_proj.bias, self._text_output(seen, weight)

    def _heads(self, features: Tensor) -> Tensor:
        """(B, T, E) to (B, H, T, d)."""
        return features.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _text_factors(self, lang: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fold the image-side weights into the text.

        Returns:
            Keys and values (B, H, T, v_dim), and the key bias (B, H, T, 1).
        """
        keys = self._heads(self.l_proj(lang)) * self.scale
        values = self._heads(self.values_l_proj(lang))
        query_weight = self.v_proj.weight.view(self.num_heads, self.head_dim, self.v_dim)
        query_bias = self.v_proj.bias.view(self.num_heads, self.head_dim, 1)
        out_weight = self.out_v_proj.weight.view(self.v_dim, self.num_heads, self.head_dim).permute(
            1, 2, 0
        )
        return (
            torch.matmul(keys, query_weight),
            torch.matmul(values, out_weight),
            torch.matmul(keys, query_bias),
        )

    def _text_factors_of_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The factors of (k, l_dim) tokens. Without gradients they are constant, so they are
        computed only once.
        """
        if torch.is_grad_enabled():
            return self._text_factors(tokens.unsqueeze(0))
        used = (tokens, *(p for name, p in self.named_parameters() if not name.startswith("out_l")))
        return self._folded.depend_on(used).get("", lambda: self._text_factors(tokens.unsqueeze(0)))

    def _attend_at_once(
        self,
        rows: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        num_words: int,
        hidden_words: Tensor | None,
        hidden_rows: Tensor | None,
        tokens: FusionTokens,
        attention_mask_l: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :func:`cross_attention`, with all scores in memory: for few scores, dropout, tokens
        that act only for their own words, and if a graph is traced or operations are counted.

        Returns:
            The outputs of the positions and of the words, and each word's sum of probabilities
            (B, H, T, 1), which is not 1 with dropout.
        """
        # (B, N + k, H, T + k): one matrix product for all heads.
        scores = torch.matmul(rows, keys.flatten(1, 2).transpose(1, 2))
        scores = scores + key_bias.flatten(1).unsqueeze(1)
        if may_pass_bound(rows, keys, key_bias):
            scores = scores.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
        scores = scores.unflatten(2, (self.num_heads, keys.shape[2]))
        num_positions = rows.shape[1] - (0 if tokens.image is None else len(tokens.image))
        of_image, of_text = scores[:, :num_positions], scores[..., :num_words]
        if tokens.groups:
            of_image, of_text = restricted(of_image, of_text, tokens, attention_mask_l)
        if hidden_words is not None:
            of_image = of_image.masked_fill(hidden_words[:, None, None, :], float("-inf"))
        if hidden_rows is not None:
            of_text = of_text.masked_fill(hidden_rows[:, :, None, None], float("-inf"))
        attention = F.dropout(of_image.softmax(dim=-1), self.dropout, self.training)
        of_rows = torch.matmul(attention.flatten(2).to(values.dtype), values.flatten(1, 2))
        attention = F.dropout(of_text.softmax(dim=1), self.dropout, self.training)
        attention = attention.flatten(2).transpose(1, 2)  # (B, H T, N + k)
        by_head = (self.num_heads, num_words)
        seen = torch.matmul(attention.to(rows.dtype), rows).unflatten(1, by_head)
        return of_rows, seen, attention.sum(-1).unflatten(1, by_head).unsqueeze(-1)

    def _text_output(self, seen: Tensor, weight: Tensor | float) -> Tensor:
        """What the words read from the image in each head, (B, H, T, v_dim), to (B, T, l_dim)."""
        value_weight = self.values_v_proj.weight.view(self.num_heads, self.head_dim, self.v_dim)
        out = torch.matmul(seen, value_weight.transpose(1, 2))
        out = out + weight * self.values_v_proj.bias.view(self.num_heads, 1, self.head_dim)
        return self.out_l_proj(out.transpose(1, 2).flatten(2))


def restricted(
    of_image: Tensor, of_text: Tensor, tokens: FusionTokens, text_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores with which tokens act only for their own words.

    Other words do not see a group's tokens. Of an image position's attention to the caption, the
    group's words get a share a. The weight that the position gives to the group's tokens is
    multiplied by a: exp(S + log a) = a exp(S).

    Args:
        of_image: (B, N, H, T + k), scores of N image positions for words and tokens.
        of_text: (B, N + k, H, T), scores of T words for image positions and tokens.
        tokens: Tokens with ``groups``.
        text_mask: (B, T), non-zero at real tokens; None: all are real.

    Returns:
        New scores of both.
    """
    T, N = of_text.shape[3], of_image.shape[1]
    to_text = of_image[..., :T]
    if text_mask is not None:
        to_text = to_text.masked_fill((text_mask == 0)[:, None, None], float("-inf"))
    attention = to_text.softmax(dim=-1)
    # Concatenated, because assignment to slices cannot be exported for images of any size.
    image, text, column, row = [], [], 0, 0
    for group in tokens.groups:
        words = group.words[:, :T]
        with torch.autocast(attention.device.type, enabled=False):
            share = torch.matmul(attention, words[:, None, :, None].to(attention.dtype))
        log_share = share.clamp(min=torch.finfo(share.dtype).tiny).log()
        absent = ~words.any(dim=1)[:, None, None, None]
        log_share = log_share.masked_fill(absent, float("-inf"))
        start, stop = T + group.text.start, T + group.text.stop
        image += [of_image[..., column:start], of_image[..., start:stop] + log_share]
        column = stop
        start, stop = N + group.image.start, N + group.image.stop
        seen = of_text[:, start:stop].masked_fill(~words[:, None, None], float("-inf"))
        text += [of_text[:, row:start], seen]
        row = stop
    image, text = [*image, of_image[..., column:]], [*text, of_text[:, row:]]
    return torch.cat(image, dim=-1), torch.cat(text, dim=1)


class BiAttentionBlock(nn.Module):
    """Pre-norm, X-MHA and a scaled residual that starts from the *normed* input. Names as in
    MMDetection.

    Args: see :class:`BiMultiHeadAttention`, and
        drop_path: Stochastic depth of both residual branches.
        init_values: Initial residual scale; trained weights replace it.
    """

    def __init__(
        self,
        v_dim: int,
        l_dim: int,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        init_values: float = 1e-4,
        index: int = 0,
    ) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(v_dim)
        self.layer_norm_l = nn.LayerNorm(l_dim)
        self.attn = BiMultiHeadAttention(v_dim, l_dim, embed_dim, num_heads, dropout, index)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.gamma_v = nn.Parameter(init_values * torch.ones(v_dim))
        self.gamma_l = nn.Parameter(init_values * torch.ones(l_dim))

    def forward(
        self,
        visual: Sequence[Tensor],
        lang: Tensor,
        attention_mask_l: Tensor | None = None,
        own_words: OwnWords | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Fuse a pyramid with a text.

        Args:
            visual: Levels (B, v_dim, h, w).
            lang: (B, T, l_dim).
            attention_mask_l: (B, T), non-zero at real tokens.
            own_words: See :meth:`mmsdpt.hosts.grounding.seams.FusionSeam.tokens`.

        Returns:
            The fused levels, same shapes, and the fused text (B, T, l_dim).
        """
        sizes = [level.shape[-2:] for level in visual]
        flat = torch.cat(
            [level.flatten(2).transpose(1, 2) for level in visual], dim=1
        )  # (B, N, v_dim)
        flat, lang = self.fuse(flat, lang, None, attention_mask_l, own_words)
        levels = flat.transpose(1, 2).split([h * w for h, w in sizes], dim=2)
        return [
            level.unflatten(2, tuple(size)) for level, size in zip(levels, sizes, strict=True)
        ], lang

    def fuse(
        self,
        visual: Tensor,
        lang: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
        own_words: OwnWords | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same on flat features (B, N, v_dim) and (B, T, l_dim); other arguments as in
        :meth:`BiMultiHeadAttention.forward`.
        """
        visual, lang = self.layer_norm_v(visual), self.layer_norm_l(lang)
        delta_v, delta_l = self.attn(visual, lang, attention_mask_v, attention_mask_l, own_words)
        visual = visual + self.drop_path(self.gamma_v * delta_v)
        lang = lang + self.drop_path(self.gamma_l * delta_l)
        return visual, lang
