"""GLIP's fusion layer: X-MHA of the pyramid and the caption."""

from __future__ import annotations

from torch import nn

from mmsdpt.hosts.grounding.fusion import BiAttentionBlock
from mmsdpt.hosts.grounding.seams import FusionSeam


class VLFuse(nn.Module):
    """One fusion layer.

    Args:
        v_dim: Width of the image features.
        l_dim: Width of the text features.
        embed_dim: Joint width E.
        num_heads: Number of heads.
        dropout: Attention dropout.
        drop_path: Stochastic depth.
        index: Position among the fusion layers.
    """

    def __init__(
        self,
        v_dim: int = 256,
        l_dim: int = 768,
        embed_dim: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        index: int = 0,
    ) -> None:
        super().__init__()
        self.b_attn = BiAttentionBlock(
            v_dim,
            l_dim,
            embed_dim,
            num_heads,
            dropout,
            drop_path,
            init_values=1.0 / 6.0,
            index=index,
        )

    @property
    def seam(self) -> FusionSeam:
        return self.b_attn.attn.seam

    def forward(self, x: dict) -> dict:
        """Fuse ``x = dict(visual=[levels], lang=dict(hidden, masks, ...))``; the incoming dict is
        left alone. ``lang["own_words"]``: see :meth:`.FusionSeam.tokens`.
        """
        lang = x["lang"]
        visual, hidden = self.b_attn(
            list(x["visual"]), lang["hidden"], lang["masks"], lang.get("own_words")
        )
        return dict(visual=visual, lang={**lang, "hidden": hidden})
