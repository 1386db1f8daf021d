r"""KgCoOp: knowledge-guided context optimization (Yao et al., CVPR 2023, section 3.3), on CLIP.

CoOp's context, kept close to the hand-written prompt. g_c is the text feature of class c, and g0_c
that of the untuned CLIP with the data set's own template; neither is normalised:

    t_c  = text([start] v_1 ... v_n NAME_c . [end])             v (n x d) from "a photo of a"
    loss = cross-entropy + 8 (1 - mean_c cos(g_c, g0_c))

n d parameters: 2,048 on ViT-B/16 with n = 4.

The paper has the mean squared distance of the normalised features, which is 2 (1 - cos), with a
weight of 8. The code here follows the authors' code, which has the form above; in the paper's form
its weight would be 4.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from mmsdpt.hosts.clip.seams import TeacherSeam
from mmsdpt.hosts.seams import ForwardState, LossSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .coop import CLIPCoOp
from .layers.common import cosine_distance


@MODELS.register_module()
class KgCoOp(CLIPCoOp):
    """A context whose class texts stay close to those of the untuned CLIP.

    It starts as the untuned CLIP with the template "a photo of a {}.".

    Args:
        num_tokens: n.
        init_words: What the context starts from, see :class:`CLIPCoOp`.
        weight: Weight of the second term of the loss.
        teacher_template: One or more sentences for g0; None: the data set's. For DTD the authors
            use "a photo of a {}, a type of texture.".

    Raises:
        ValueError: if the context leaves no space for names.
    """

    needs = ("text_inputs", "losses", "teacher")
    zero_init = True

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 4,
        init_words: str | None = "a photo of a",
        weight: float = 8.0,
        teacher_template: str | list[str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, num_tokens=num_tokens, init_words=init_words, **common)
        self.weight, self.teacher_template = weight, teacher_template
        self._teacher = cast(TeacherSeam, seams["teacher"][0])
        seams["losses"][0].connect(self, self._losses)

    def _losses(self, seam: LossSeam, state: ForwardState) -> dict[str, Tensor]:
        if self.frozen or not self.num_tokens:
            return {}
        g0 = self._teacher.encode_classes(state.class_names, self.teacher_template)
        g = cast(Tensor, state.text_features)
        return dict(loss_knowledge=self.weight * cosine_distance(g, g0))
