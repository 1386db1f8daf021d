r"""PromptSRC: self-regulating prompts (Khattak et al., ICCV 2023, section 3), on CLIP.

Independent V-L prompts, held near the untouched CLIP, and averaged over the epochs. With image and
text features f (B x e) and g (C x e), f0 those of the untouched CLIP for the same images, and g0
the mean of its features over 60 templates, each normalised once, after any mean:

    loss = cross-entropy + 25 mean |g - g0| + 10 mean |f - f0| + mean_bc p0 (log p0 - log p)
    p = softmax(exp(s) f g^T),  p0 = softmax(exp(s) f0 g0^T)

All means are over all elements: C e, B e and B C. The average over epochs is
:class:`mmsdpt.GaussianAverageHook`. D n (d_t + d_v) parameters: 46,080 on ViT-B/16 with n = 4 and
D = 9.

This is the authors' code. The paper writes the L1 terms as sums and the divergence the other way
round; the weights belong to the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from mmpretrain.models.multimodal.clip.utils import OPENAI_IMAGENET_PROMPT
from torch import Tensor

from mmsdpt.hosts.clip.seams import TeacherSeam
from mmsdpt.hosts.seams import ForwardState, LossSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .independent_vl import IndependentVL

TEMPLATES = tuple(sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT[:60])


@MODELS.register_module()
class PromptSRC(IndependentVL):
    """Deep prompts in both towers, which keep features and predictions near the untouched CLIP's.

    Args:
        num_tokens: n of both towers.
        text_weight: Of the text features' term.
        image_weight: Of the image features' term.
        logit_weight: Of the predictions' term.
        teacher_templates: Sentences of g0; None: the first 60 of OpenAI's for ImageNet, whatever
            the data are.
        settings: As of :class:`IndependentVL`.

    Raises:
        ValueError: for a depth that the towers do not have, or a negative number of prompts.
    """

    needs = (*IndependentVL.needs, "losses", "teacher")
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
        super().__init__(seams=seams, num_tokens=num_tokens, **settings)
        self.weights = dict(text=text_weight, image=image_weight, logits=logit_weight)
        self.teacher_templates = tuple(teacher_templates or TEMPLATES)
        self._teacher = cast(TeacherSeam, seams["teacher"][0])
        seams["losses"][0].connect(self, self._losses)

    def _losses(self, seam: LossSeam, state: ForwardState) -> dict[str, Tensor]:
        if self.frozen:
            return {}
        f, g, logits = (
            cast(Tensor, x) for x in (state.image_features, state.text_features, state.logits)
        )
        f0 = self._teacher.encode_images(state.images)
        g0 = self._teacher.encode_classes(state.class_names, self.teacher_templates)
        log_p0 = self._teacher.compare(f0, g0).to(f0.dtype).log_softmax(-1)  # (B, C)
        log_p = logits.to(f0.dtype).log_softmax(-1)
        f0, g0 = F.normalize(f0, dim=-1), F.normalize(g0, dim=-1)
        divergence = (log_p0.exp() * (log_p0 - log_p)).mean()
        return dict(
            loss_text=self.weights["text"] * F.l1_loss(g.to(g0.dtype), g0),
            loss_image=self.weights["image"] * F.l1_loss(f.to(f0.dtype), f0),
            loss_logits=self.weights["logits"] * divergence,
        )
