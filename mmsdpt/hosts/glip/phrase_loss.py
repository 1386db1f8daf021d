"""Contrast between the phrases of a caption, for training the grounding from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def phrase_contrast(logits: Tensor, targets: Tensor, phrase_maps: Sequence[Tensor]) -> Tensor:
    """Cross-entropy over the phrases of each image's caption, at the positive anchors.

    A phrase's logit is the mean over its tokens. GLIP's own focal loss teaches every token apart
    and pushes all words together as long as it only knows that *something* is there. The softmax's
    gradient sums to zero over the phrases, so that what all words share cancels.

    Args:
        logits: (B, N, T) token logits.
        targets: (B, N, T) token targets; anchors with any are positive.
        phrase_maps: Per image (C, T), 1 where a token belongs to a phrase.

    Returns:
        The mean over all positive anchors; zero without any.
    """
    losses = []
    for image_logits, image_targets, phrase_map in zip(logits, targets, phrase_maps, strict=True):
        positive = image_targets.sum(-1) > 0
        phrases = torch.matmul(image_logits[positive], phrase_map.T) / phrase_map.sum(1)
        wanted = torch.matmul(image_targets[positive], phrase_map.T).argmax(1)
        losses.append(F.cross_entropy(phrases, wanted, reduction="none"))
    loss = torch.cat(losses)
    return loss.mean() if len(loss) else logits.sum() * 0.0
