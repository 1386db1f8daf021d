r"""A bottleneck adapter in which two modalities meet: self-attention, then cross-attention.

For each modality a (b is the other one), in m dimensions:

    h_a = GELU(D_a x_a)
    h_a <- h_a + SelfAttention_a(LN(h_a))
    h_a <- h_a + CrossAttention_a(LN(h_a), LN(h_b))
    x_a <- x_a + U_a h_a

U starts at zero, so the adapter starts as the identity.

Source: Chowdhury et al., APoLLo: Unified Adapter and Prompt Learning for Vision Language Models,
EMNLP 2023.
"""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsdpt.registry import MODELS


@MODELS.register_module()
class CrossModalAdapter(BaseModule):
    """Adapter after both encoders.

    Args:
        image: d_image.
        text: d_text.
        bottleneck: m, the same for both, so that one can attend to the other.
        num_heads: Heads of every attention; they divide m.

    Shape:
        ``forward(image, text, mask)`` takes (B, N, d_image), (B, L, d_text) and (B, L), 1 at real
        tokens, and returns both features. Nothing attends to the text's padding, and nothing is
        added there.
    """

    def __init__(self, image: int, text: int, bottleneck: int = 64, num_heads: int = 4) -> None:
        super().__init__()
        if bottleneck < 1 or num_heads < 1 or bottleneck % num_heads:
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

    def num_trainable(self) -> int:
        """Per modality 2 d m + m + d for the bottleneck, 8 m^2 for two attentions, 4 m for two
        norms.
        """
        return sum(branch.num_trainable() for branch in (self.image, self.text))


class _Branch(nn.Module):
    """One modality's side."""

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

    def num_trainable(self) -> int:
        m, d = self.down.weight.shape
        return 2 * d * m + m + d + 8 * m * m + 4 * m


class _Attention(nn.Module):
    """Multi-head attention; without biases, of which the keys' would have no effect."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor, other: Tensor, visible: Tensor | None) -> Tensor:
        """(B, n, m) with keys and values from (B, n', m), those of ``visible`` (B, 1, 1, n')."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x)),
            self._heads(self.key(other)),
            self._heads(self.value(other)),
            attn_mask=visible,
        )
        return self.out(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
