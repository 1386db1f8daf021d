r"""APoLLo: Unified Adapter and Prompt Learning for Vision Language Models (Chowdhury et al., EMNLP
2023).

Three parts that train together:

1. Coupled prompts in both encoders, as in MaPLe.
2. A bottleneck adapter after both encoders. For each modality a (b is the other one), in m
   dimensions, with U zero at the start, so the adapter starts as the identity:

       h_a = GELU(D_a x_a)
       h_a <- h_a + SelfAttention_a(LN(h_a))
       h_a <- h_a + CrossAttention_a(LN(h_a), LN(h_b))
       x_a <- x_a + U_a h_a

3. Consistency within each modality, w (l(v, v') + l(t, t')): v (N x d_image) and t (L x d_text) are
   the outputs of the adapter; v' and t' are those of a second view, or of the frozen original. With
   p_i = softmax_j(cos(x_i, x'_j) / tau) over the rows j of one sample, and q_i the same for x'_i:

       ``compare="view"``        l(x, x') = mean_i 1 - cos(x_i, x'_i)
       ``compare="original"``    l(x, x') = mean_i -log p_i(i) + JS(p_i, q_i)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import PairedSeam
from mmsdpt.hosts.seams import ForwardState, LossSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import positive_integer
from .layers.coupled_prompts import CoupledPrompts
from .maple import MaPLe


class CrossModalAdapter(nn.Module):
    """The adapter after both encoders.

    Args:
        image: d_image.
        text: d_text.
        bottleneck: m, the same for both, so each can attend to the other.
        num_heads: Number of heads of every attention; it divides m.

    Shape:
        ``forward(image, text, mask)`` takes (B, N, d_image), (B, L, d_text) and a mask (B, L), 1 at
        real tokens, and returns both features. Nothing attends to the text's padding, and the
        padding does not change.
    """

    def __init__(self, image: int, text: int, bottleneck: int = 64, num_heads: int = 4) -> None:
        super().__init__()
        positive_integer("num_heads", num_heads)
        if positive_integer("bottleneck", bottleneck) % num_heads:
            raise ValueError(
                f"bottleneck must be a positive multiple of num_heads, got {bottleneck} and"
                f" {num_heads}"
            )
        self.image = _Branch(image, bottleneck, num_heads)
        self.text = _Branch(text, bottleneck, num_heads)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        visible = mask.bool()[:, None, None]  # (B, 1, 1, L), over heads and queries
        h_image = self.image.enter(image, None)
        h_text = self.text.enter(text, visible)
        keys_image, keys_text = self.image.cross_norm(h_image), self.text.cross_norm(h_text)
        added_image = self.image.leave(h_image, keys_image, keys_text, visible)
        added_text = self.text.leave(h_text, keys_text, keys_image, None)
        added_text = added_text * mask.unsqueeze(-1).to(added_text.dtype)
        return image + added_image.to(image.dtype), text + added_text.to(text.dtype)


class _Branch(nn.Module):
    """The part of one modality."""

    def __init__(self, width: int, bottleneck: int, num_heads: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.self_norm = nn.LayerNorm(bottleneck)
        self.self_attention = _Attention(bottleneck, num_heads)
        self.cross_norm = nn.LayerNorm(bottleneck)
        self.cross_attention = _Attention(bottleneck, num_heads)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def enter(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """(B, n, d) to (B, n, m), after the self-attention."""
        h = F.gelu(self.down(x))
        normed = self.self_norm(h)
        return h + self.self_attention(normed, normed, visible)

    def leave(self, h: Tensor, own: Tensor, other: Tensor, visible: Tensor | None) -> Tensor:
        """(B, n, m) to (B, n, d), after the cross-attention to ``other`` (B, n', m)."""
        return self.up(h + self.cross_attention(own, other, visible))


class _Attention(nn.Module):
    """Multi-head attention without biases (a bias of the keys would have no effect)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor, other: Tensor, visible: Tensor | None) -> Tensor:
        """(B, n, m) with keys and values from the ``visible`` (B, 1, 1, n') rows of (B, n', m)."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x)),
            self._heads(self.key(other)),
            self._heads(self.value(other)),
            attn_mask=visible,
        )
        return self.out(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


@MODELS.register_module()
class Apollo(Tuner):
    """MaPLe's prompts, a cross-modal adapter and a consistency loss.

    Our choices for GLIP, which the paper does not cover:

    - Prompts: as in :class:`MaPLe`, with its defaults.
    - The adapter acts once, on the image encoder's deepest map and the text features. Only the neck
      passes its effect to the other levels of the pyramid. It starts as the identity. After that,
      image features depend on the caption, so each chunk of a class list needs its own. The adapter
      of the released code differs: self- and cross-attention in parallel, norms after the
      residuals, width 2,048.
    - ``compare="view"`` is our own: the second view is the batch with each image's contrast and
      colour changed; positions and boxes stay the same. The paper takes a second image from a
      diffusion model and a second text from a language model, but a detector's training has
      neither. The same positions (tokens) of both views are compared, by cosine and without
      negatives, because a detector does not pool its features and its batch is small.
    - ``compare="original"`` follows the released code: the batch goes through the encoders once
      more without this tuner and without gradients, and InfoNCE and a Jensen-Shannon term compare
      the two results. On CLIP these terms are over the pooled features of a batch and its class
      probabilities. GLIP has neither before its fusion layers, so here the rows are the positions
      of an image and the tokens of a caption.

    Args:
        num_tokens, depth, init_words, init_std: See :class:`MaPLe`.
        bottleneck: m, width of the adapter.
        num_heads: Number of heads of its attentions.
        compare: ``view`` or ``original``, see above.
        consistency_weight: w. With 0, no second pass is computed.
        temperature: tau of ``compare="original"``.
        jitter: s. A view is (1 + a) x + b with a ~ U(-s, s) per image and b ~ U(-s, s) per image
            and channel, in standard deviations of the normalised pixels.

    Raises:
        ValueError: if a setting is unknown or out of range; see also :class:`MaPLe` and
            :class:`CrossModalAdapter`.
    """

    needs = ("text_embeddings", "text_blocks", "image_blocks", "encoder_outputs", "losses")
    settings = (*MaPLe.settings, "bottleneck", "num_heads")
    image_depends_on_text = True

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 2,
        depth: int | None = None,
        init_words: str = "a photo of a",
        init_std: float = 0.02,
        bottleneck: int = 64,
        num_heads: int = 4,
        compare: str = "view",
        consistency_weight: float = 1.0,
        temperature: float = 0.07,
        jitter: float = 0.4,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        if consistency_weight < 0 or not 0 <= jitter < 1:
            raise ValueError(
                "consistency_weight must be at least 0 and jitter in [0, 1), got"
                f" {consistency_weight} and {jitter}"
            )
        if compare not in ("view", "original") or temperature <= 0:
            raise ValueError(
                "compare must be view or original and temperature positive, got"
                f" {compare!r} and {temperature}"
            )
        self.consistency_weight, self.jitter = consistency_weight, jitter
        self.compare, self.temperature = compare, temperature
        self.bottleneck, self.num_heads = bottleneck, num_heads
        (outputs,) = cast(Sequence[PairedSeam], seams["encoder_outputs"])
        self.prompts = CoupledPrompts(seams, num_tokens, depth, init_words, init_std)
        widths = outputs.widths["image"], outputs.widths["text"]
        self.adapter = CrossModalAdapter(*widths, bottleneck, num_heads)
        self.prompts.connect(self)
        outputs.connect(self, self.adapt)
        seams["losses"][0].connect(self, self.consistency)

    def start_from_host(self) -> None:
        self.prompts.start_from_words()

    @property
    def _compares(self) -> bool:
        return self.training and self.consistency_weight > 0

    def adapt(
        self, seam: PairedSeam, image: Tensor, text: Tensor, mask: Tensor, state: ForwardState
    ) -> tuple[Tensor, Tensor]:
        """Both features after the adapter, also stored for the comparison."""
        if not self.prompts.off:
            image, text = self.adapter(image, text, mask)
        if self._compares:
            state.memo[self] = (image, text, mask)
        return image, text

    def consistency(
        self,
        seam: LossSeam,
        state: ForwardState,
        encode: Callable[[Tensor, ForwardState], Any],
    ) -> dict[str, Tensor]:
        """``loss_consistency`` between the batch and its second pass, in training only."""
        if not self._compares:
            return {}
        images = state.pixels()
        if self.compare == "view":
            images = photometric_view(images, self.jitter)
        other = replace(state, images=images, text=None, memo={})
        if self.compare == "view":
            encode(images, other)
        else:
            self.prompts.off = True
            try:
                with torch.no_grad():
                    encode(images, other)
            finally:
                self.prompts.off = False
        (image, text, mask), (image_2, text_2, _) = state.memo[self], other.memo[self]
        real = mask.bool()
        if self.compare == "view":
            loss = (
                cosine_distance(image, image_2).mean() + cosine_distance(text, text_2)[real].mean()
            )
        else:
            words = [(a[own], b[own]) for a, b, own in zip(text, text_2, real, strict=True)]
            loss = self._contrast(zip(image, image_2, strict=True)) + self._contrast(words)
        return dict(loss_consistency=self.consistency_weight * loss)

    def _contrast(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """InfoNCE and Jensen-Shannon over the rows (n, d) of each sample, the mean over samples."""
        losses = [contrast(a, b, self.temperature) for a, b in pairs]
        return torch.stack(losses).mean()


def photometric_view(images: Tensor, strength: float) -> Tensor:
    """Normalised images (B, 3, H, W) with contrast and colour changed, positions unchanged.

    Padding is recognised by exact zeros in all channels, which no real pixel has; it stays zero.
    """
    batch, channels = images.shape[:2]
    gain = 1 + strength * (2 * images.new_empty(batch, 1, 1, 1).uniform_() - 1)
    shift = strength * (2 * images.new_empty(batch, channels, 1, 1).uniform_() - 1)
    real = (images != 0).any(dim=1, keepdim=True)
    return torch.where(real, gain * images + shift, images)


def contrast(x: Tensor, original: Tensor, temperature: float) -> Tensor:
    """InfoNCE of rows (n, d) with their originals, plus the Jensen-Shannon divergence between the
    similarities of the rows and of the originals, both to all originals; at least in float32.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, keys = F.normalize(x.to(dtype), dim=-1), F.normalize(original.to(dtype), dim=-1)
    with torch.autocast(x.device.type, enabled=False):
        log_p = (x @ keys.T / temperature).log_softmax(-1)  # (n, n)
        log_q = (keys @ keys.T / temperature).log_softmax(-1)
    middle = torch.logaddexp(log_p, log_q) - math.log(2)
    divergence = sum((log.exp() * (log - middle)).sum(-1) for log in (log_p, log_q)) / 2
    return (divergence - log_p.diagonal()).mean()


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cos of two tensors (..., d), of shape (...,), at least in float32."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return 1 - F.cosine_similarity(a.to(dtype), b.to(dtype), dim=-1)
