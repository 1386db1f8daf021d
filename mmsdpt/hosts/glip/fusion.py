"""GLIP's fusion layer: X-MHA of the pyramid and the caption."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmsdpt.hosts.grounding.fusion import BiAttentionBlock
from mmsdpt.hosts.grounding.seams import FusionSeam


class VLFuse(nn.Module):
    """A fusion layer with GLIP's default values; ``settings``: see :class:`BiAttentionBlock`."""

    def __init__(
        self,
        v_dim: int = 256,
        l_dim: int = 768,
        embed_dim: int = 2048,
        num_heads: int = 8,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.b_attn = BiAttentionBlock(
            v_dim, l_dim, embed_dim, num_heads, init_values=1.0 / 6.0, **settings
        )

    @property
    def seam(self) -> FusionSeam:
        return self.b_attn.attn.seam

    def forward(self, x: dict) -> dict:
        """Fuse ``x = dict(visual=[levels], lang=dict(hidden, masks, ...))``; x is not changed.
        ``lang["own_words"]``: see :meth:`.FusionSeam.tokens`.
        """
        lang = x["lang"]
        visual, hidden = self.b_attn(
            list(x["visual"]), lang["hidden"], lang["masks"], lang.get("own_words")
        )
        return dict(visual=visual, lang={**lang, "hidden": hidden})
