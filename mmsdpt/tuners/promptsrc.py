r"""PromptSRC: self-regulating prompts (Khattak et al., ICCV 2023, section 3), on CLIP.

Independent V-L prompts, kept close to the untuned CLIP, and averaged over the epochs:

    loss = cross-entropy + 25 mean |g - g0| + 10 mean |f - f0| + mean_bc p0 (log p0 - log p)

:mod:`mmsdpt.tuners.layers.self_consistency` has these losses; other methods with prompts use them
with ``regularisation=True``. The average over epochs is :class:`mmsdpt.GaussianAverageHook`.
D n (d_t + d_v) parameters: 46,080 on ViT-B/16 with n = 4 and D = 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmsdpt.registry import MODELS

from .base import Seams
from .independent_vl import IndependentVL


@MODELS.register_module()
class PromptSRC(IndependentVL):
    """Deep prompts in both towers, with features and predictions kept close to the untuned
    CLIP's.

    Args:
        num_tokens: n of both towers.
        text_weight, image_weight, logit_weight, teacher_templates: See
            :class:`~mmsdpt.tuners.layers.self_consistency.SelfConsistency`.
        settings: Other settings of :class:`IndependentVL`.

    Raises:
        ValueError: if the towers do not have that depth, or the number of prompts is negative.
        InputError: if a template has no place for the name.
    """

    needs = (*IndependentVL.needs, *IndependentVL.uses)
    usual_depth = 9

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 4,
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        logit_weight: float = 1.0,
        teacher_templates: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            seams=seams,
            num_tokens=num_tokens,
            regularisation=dict(
                text_weight=text_weight,
                image_weight=image_weight,
                logit_weight=logit_weight,
                teacher_templates=teacher_templates,
            ),
            **settings,
        )
