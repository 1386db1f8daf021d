"""Losses that hold a tuned CLIP near the untouched one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cosine_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """1 - the mean cosine of corresponding rows.

    Args:
        features: (N, e).
        teacher: (N, e), without gradient. Neither needs to be normalised.

    Returns:
        A scalar in the teacher's precision, whatever autocast made of the features.
    """
    return 1 - F.cosine_similarity(features.to(teacher.dtype), teacher, dim=-1).mean()
