r"""APoLLo: Unified Adapter and Prompt Learning for Vision Language Models (Chowdhury et al., EMNLP
2023).

Three parts that train together:

1. Coupled prompts in both encoders, as in MaPLe.
2. A bottleneck adapter after both encoders, with self-attention in each modality and
   cross-attention between them:  x_a <- x_a + U_a h_a(x_a, x_b).
3. Consistency within each modality between the encoders' branches, which see two views of a batch:

       loss = w (mean over positions of 1 - cos(v, v') + mean over tokens of 1 - cos(t, t'))

   v (N x d_image), t (L x d_text) are the outputs of the adapter, v' and t' those of the other
   view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsdpt.hosts.seams import ForwardState, LossSeam, PairedSeam
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.coupled_prompts import CoupledPrompts
from .layers.cross_modal_adapter import CrossModalAdapter


@MODELS.register_module()
class Apollo(Tuner):
    """MaPLe's prompts, a cross-modal adapter and a consistency loss.

    What the paper does not say for GLIP:

    - Prompts: as in :class:`MaPLe`, with its defaults.
    - The adapter acts once, on the image encoder's deepest map and the text features; what reaches
      the other levels of the pyramid is what the neck makes of it. It starts as the identity. From
      then on image features depend on the caption, so each chunk of a class list needs its own.
    - Views: the paper takes a second image from a diffusion model and a second text from a language
      model, neither of which belongs to a detector's training. Here the second view is the batch
      with each image's contrast and colour changed: positions and boxes stay where they are. The
      caption is the same, and its features differ through the adapter.
    - Distance: the paper's losses within a modality are contrastive, over the pooled features of a
      batch. A detector pools nothing and its batch is small, so the same positions (tokens) of both
      views are compared, by cosine and without negatives.

    Args:
        num_tokens: n, prompts per depth.
        depth: J of the prompts; None: nine, or fewer where the text encoder has fewer layers.
        init_words: See :class:`MaPLe`.
        init_std: See :class:`MaPLe`.
        bottleneck: m, width of the adapter.
        num_heads: Heads of its attentions.
        consistency_weight: w; 0: no second view is computed.
        jitter: s: a view is (1 + a) x + b with a ~ U(-s, s) per image, b ~ U(-s, s) per image and
            channel, in standard deviations of the normalised pixels.
        common: See :class:`Tuner`.

    Raises:
        ValueError: on a weight below 0 or a jitter outside [0, 1); see :class:`MaPLe` and
            :class:`CrossModalAdapter`.
    """

    needs = ("text_embeddings", "text_blocks", "image_blocks", "encoder_outputs", "losses")
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
        consistency_weight: float = 1.0,
        jitter: float = 0.4,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        if consistency_weight < 0 or not 0 <= jitter < 1:
            raise ValueError(
                "consistency_weight must be at least 0 and jitter in [0, 1), got"
                f" {consistency_weight} and {jitter}"
            )
        self.consistency_weight, self.jitter = consistency_weight, jitter
        self.num_heads = num_heads
        (outputs,) = cast(Sequence[PairedSeam], seams["encoder_outputs"])
        self.prompts = CoupledPrompts(seams, num_tokens, depth, init_words, init_std)
        self.adapter = CrossModalAdapter(
            outputs.widths["image"], outputs.widths["text"], bottleneck, num_heads
        )
        self.prompts.connect(self)
        outputs.connect(self, self.adapt)
        seams["losses"][0].connect(self, self.consistency)

    def start_from_host(self) -> None:
        self.prompts.start_from_words()

    @property
    def _compares_views(self) -> bool:
        return self.training and self.consistency_weight > 0

    def adapt(
        self, seam: PairedSeam, image: Tensor, text: Tensor, mask: Tensor, state: ForwardState
    ) -> tuple[Tensor, Tensor]:
        """Both features after the adapter, remembered for the comparison of views."""
        image, text = self.adapter(image, text, mask)
        if self._compares_views:
            state.memo[self] = (image, text, mask)
        return image, text

    def consistency(
        self,
        seam: LossSeam,
        state: ForwardState,
        encode: Callable[[Tensor, ForwardState], Any],
    ) -> dict[str, Tensor]:
        """``loss_consistency`` between the batch and a second view of it; training only."""
        if not self._compares_views:
            return {}
        images = photometric_view(cast(Tensor, state.images), self.jitter)
        other = replace(state, images=images, text=None, memo={})
        encode(images, other)
        (image, text, mask), (image_2, text_2, _) = state.memo[self], other.memo[self]
        real = mask.bool()
        loss = cosine_distance(image, image_2).mean() + cosine_distance(text, text_2)[real].mean()
        return dict(loss_consistency=self.consistency_weight * loss)

    def config(self) -> dict[str, Any]:
        return dict(
            num_tokens=self.prompts.num_tokens,
            depth=self.prompts.depth,
            image_blocks=list(self.prompts.image_blocks),
            bottleneck=self.adapter.image.down.out_features,
            num_heads=self.num_heads,
        )

    def num_trainable(self) -> int:
        """MaPLe's, and 2 d m + 8 m^2 + 5 m + d per modality for the adapter."""
        return self.prompts.num_trainable() + self.adapter.num_trainable()


def photometric_view(images: Tensor, strength: float) -> Tensor:
    """Normalised images (B, 3, H, W) with contrast and colour changed, positions unchanged.

    Padding is exactly zero, which no real pixel is in all channels, and stays zero.
    """
    batch, channels = images.shape[:2]
    gain = 1 + strength * (2 * images.new_empty(batch, 1, 1, 1).uniform_() - 1)
    shift = strength * (2 * images.new_empty(batch, channels, 1, 1).uniform_() - 1)
    real = (images != 0).any(dim=1, keepdim=True)
    return torch.where(real, gain * images + shift, images)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """(..., d) twice to (...,): 1 - cos, in float32 at least."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return 1 - F.cosine_similarity(a.to(dtype), b.to(dtype), dim=-1)
