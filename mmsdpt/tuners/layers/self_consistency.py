r"""PromptSRC's losses, which keep a tuned CLIP close to the untuned one (Khattak et al., ICCV
2023, sections 3.1 and 3.3), for any method with prompts.

f (B x e) and g (C x e) are the image and text features, f0 is the untuned CLIP's for the same
images, and g0 the mean of its features over 60 templates. Each is normalised once, after any mean:

    25 mean |g - g0| + 10 mean |f - f0| + mean_bc p0 (log p0 - log p)
    p = softmax(exp(s) f g^T),  p0 = softmax(exp(s) f0 g0^T)

All means are over all elements: C e (B C e if each image has its own texts), B e and B C. This
follows the authors' code. The paper has sums in the first two terms, and the divergence in the
other direction; the weights are for the means.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch.nn.functional as F
from mmpretrain.models.multimodal.clip.utils import OPENAI_IMAGENET_PROMPT
from torch import Tensor

from mmsdpt.hosts.clip.seams import TeacherSeam
from mmsdpt.hosts.seams import ForwardState, LossSeam
from mmsdpt.tuners.base import Seams, Tuner
from mmsdpt.utils.templates import checked_templates

TEMPLATES = tuple(sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT[:60])


class SelfConsistency:
    """The three losses.

    Args:
        teacher: The untuned host.
        text_weight: Weight of the text features' term.
        image_weight: Weight of the image features' term.
        logit_weight: Weight of the predictions' term.
        teacher_templates: Sentences for g0; None: the first 60 of OpenAI's for ImageNet, for any
            data.

    Raises:
        InputError: if a template has no place for the name.
    """

    def __init__(
        self,
        teacher: TeacherSeam,
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        logit_weight: float = 1.0,
        teacher_templates: Sequence[str] | None = None,
    ) -> None:
        self.teacher = teacher
        self.weights = dict(text=text_weight, image=image_weight, logits=logit_weight)
        self.templates = tuple(checked_templates(teacher_templates or TEMPLATES))

    def losses(self, state: ForwardState) -> dict[str, Tensor]:
        """``loss_text``, ``loss_image`` and ``loss_logits`` of a forward pass."""
        f, g, logits = (
            cast(Tensor, x) for x in (state.image_features, state.text_features, state.logits)
        )
        f0 = self.teacher.encode_images(state.images)
        g0 = self.teacher.encode_classes(state.class_names, self.templates)
        log_p0 = self.teacher.compare(f0, g0).to(f0.dtype).log_softmax(-1)  # (B, C)
        log_p = logits.to(f0.dtype).log_softmax(-1)
        f0, g0 = F.normalize(f0, dim=-1), F.normalize(g0, dim=-1)
        divergence = (log_p0.exp() * (log_p0 - log_p)).mean()
        return dict(
            loss_text=self.weights["text"] * F.l1_loss(g.to(g0.dtype), g0.expand_as(g)),
            loss_image=self.weights["image"] * F.l1_loss(f.to(f0.dtype), f0),
            loss_logits=self.weights["logits"] * divergence,
        )


class Regularised(Tuner):
    """A method with prompts on CLIP, which can use PromptSRC's losses.

    Args:
        regularisation: True: :class:`SelfConsistency` with its defaults; or a dict of its settings,
            such as ``dict(text_weight=10.0)``. None or False: without these losses. A tuner file
            does not depend on it.

    Raises:
        ValueError: if ``regularisation`` is none of these, or has an unknown setting.
    """

    uses: ClassVar[tuple[str, ...]] = ("losses", "teacher")
    """Kinds of seams that the losses need."""

    def __init__(
        self,
        *,
        seams: Seams,
        regularisation: Mapping[str, Any] | bool | None = None,
        **common: Any,
    ) -> None:
        settings = _settings(regularisation)
        if settings is not None:
            self.needs = (*self.needs, *self.uses)  # type: ignore[misc]
        super().__init__(seams=seams, **common)
        if settings is not None:
            teacher = cast(TeacherSeam, seams["teacher"][0])
            self.regularisation = SelfConsistency(teacher, **settings)
            seams["losses"][0].connect(self, self._regularise)

    def _regularise(self, seam: LossSeam, state: ForwardState) -> dict[str, Tensor]:
        return {} if self.frozen else self.regularisation.losses(state)


def _settings(regularisation: Mapping[str, Any] | bool | None) -> dict[str, Any] | None:
    """Arguments of :class:`SelfConsistency`; None if it is not used."""
    if regularisation is None or isinstance(regularisation, bool):
        return {} if regularisation else None
    known = list(inspect.signature(SelfConsistency).parameters)[1:]
    if not isinstance(regularisation, Mapping) or not {*regularisation} <= {*known}:
        raise ValueError(
            f"regularisation must be True, False or a dict of {', '.join(known)}, got"
            f" {regularisation!r}"
        )
    return dict(regularisation)
