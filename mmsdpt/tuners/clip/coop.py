r"""CoOp: context optimization (Zhou et al., IJCV 2022, section 3.2).

n learned word vectors v (n x d) take the place of the words around the class name; the rest of CLIP
stays as it is:

    t_c = text([start] v_1 ... v_n NAME_c . [end])         logits_c = exp(s) cos(image, t_c)

One context for all classes ("unified"), n d parameters: 8,192 on ViT-B/16 with n = 16; or one for
each class ("class-specific"), C n d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam
from mmsdpt.hosts.seams import ForwardState, Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners.base import Tuner
from mmsdpt.tuners.layers.checks import whole_number
from mmsdpt.tuners.layers.class_context import INIT_STD, ClassContext
from mmsdpt.utils.errors import InputError


@MODELS.register_module()
class CLIPCoOp(Tuner):
    """A learned context around the class names.

    Args:
        num_tokens: n. With 0 the model is the zero-shot one, with the host's template.
        init_words: Words that the context starts from, such as "a photo of a"; see
            :class:`ClassContext`. None: N(0, 0.02^2).
        position: Where the class name stands: ``end``, ``middle`` or ``front`` of the context.
        per_class: Each class has a context of its own, which no other class can use.
        num_classes: C, for ``per_class``.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Attributes:
        ctx: (n, d), or (C, n, d); None with n = 0.

    Raises:
        ValueError: for a setting that makes no sense, or a context that leaves no room for names.
    """

    needs = ("text_inputs",)

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 16,
        init_words: str | None = None,
        position: str = "end",
        per_class: bool = False,
        num_classes: int | None = None,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        self.num_tokens = whole_number("num_tokens", num_tokens, minimum=0)
        if per_class != (num_classes is not None):
            raise ValueError(
                "per_class=True and num_classes belong together: a context for each class needs"
                f" their number, got per_class={per_class} and num_classes={num_classes}"
            )
        self.num_classes = None
        if num_classes is not None:
            self.num_classes = whole_number("num_classes", num_classes)
        (point,) = cast(Sequence[TextInputSeam], seams["text_inputs"])
        self.width = point.widths["width"]
        self.context = ClassContext(point, num_tokens, init_words, position)
        shape = (*([self.num_classes] if self.num_classes else []), num_tokens, self.width)
        self.ctx: nn.Parameter | None = None
        if num_tokens:
            self.ctx = nn.Parameter(torch.empty(shape).normal_(std=INIT_STD))
            point.connect(self, self._texts, exclusive=True)

    def start_from_host(self) -> None:
        if self.ctx is not None:
            self.context.start(self.ctx)

    def _texts(self, seam: TextInputSeam, state: ForwardState) -> TextInput:
        found = len(state.class_names)
        if self.num_classes not in (None, found):
            raise InputError(
                f"CLIPCoOp has a context for each of {self.num_classes} classes, and the model has"
                f" {found} classes: set num_classes={found} and train on them, or use"
                " per_class=False, whose context fits any classes"
            )
        return self.context(state.class_names, cast(Tensor, self.ctx))

    def config(self) -> dict[str, Any]:
        return dict(
            num_tokens=self.num_tokens,
            fixed_words=self.context.fixed_words,
            position=self.context.position,
            num_classes=self.num_classes,
        )

    def num_trainable(self) -> int:
        """n d, times C with ``per_class``."""
        return self.num_tokens * self.width * (self.num_classes or 1)
