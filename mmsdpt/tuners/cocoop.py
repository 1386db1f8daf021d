r"""CoCoOp: conditional context optimization (Zhou et al., CVPR 2022, section 3.2).

A small network makes one vector from the image feature x. This vector is added to every vector of
the context, so each image has its own class texts:

    v_m(x) = v_m + h(x),    h(x) = W_2 ReLU(W_1 x + b_1) + b_2      W_1 (e/r x e), W_2 (d x e/r)
    t_c(x) = text([start] v_1(x) ... v_n(x) NAME_c . [end])

n d + e^2/r + e/r + d e/r + d parameters: 35,360 on ViT-B/16 with n = 4, r = 16.

For a batch of B images and C classes, the text tower encodes B C texts. The authors' code loops
over the images; here they are encoded together. If they have more than the host's ``token_chunk``
tokens, it splits them into chunks and, in training, encodes each chunk again in the backward pass,
so memory holds the activations of only one chunk. It gets the images' contexts and the classes'
names separately, so no tensor of B C L d numbers is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS

from .base import Seams
from .layers.class_context import ClassContext
from .layers.common import drawn, positive_integer
from .layers.self_consistency import Regularised


@MODELS.register_module()
class CoCoOp(Regularised):
    """A context that depends on the image.

    Args:
        num_tokens: n. With 0, the model is zero-shot CLIP with the host's template.
        init_words: Words that the context starts from; see :class:`ClassContext`. None:
            N(0, 0.02^2).
        reduction: r. The network's hidden width is e / r.

    Attributes:
        ctx: (n, d); None if n = 0.
        meta_net: h, the layers ``linear1``, ``relu`` and ``linear2`` as in the authors' code; None
            if n = 0.

    Raises:
        ValueError: if a setting is out of range, or the context leaves no space for names.
    """

    needs = ("text_inputs", "pooled_image")
    text_depends_on_image = True
    settings = ("num_tokens", "context.fixed_words", "reduction")

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 4,
        init_words: str | None = "a photo of a",
        reduction: int = 16,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens = positive_integer("num_tokens", num_tokens, minimum=0)
        self.reduction = positive_integer("reduction", reduction)
        (texts,) = cast(Sequence[TextInputSeam], seams["text_inputs"])
        self.width, e = texts.widths["width"], seams["pooled_image"][0].widths["width"]
        if reduction > e:
            raise ValueError(
                f"reduction must be at most {e}, the width of the image feature, got {reduction}"
            )
        hidden = e // reduction
        self.context = ClassContext(texts, num_tokens, init_words)
        self.ctx: nn.Parameter | None = None
        self.meta_net: nn.Sequential | None = None
        if num_tokens:
            self.ctx = drawn(num_tokens, self.width)
            self.meta_net = nn.Sequential(
                OrderedDict(
                    linear1=nn.Linear(e, hidden),
                    relu=nn.ReLU(inplace=True),
                    linear2=nn.Linear(hidden, self.width),
                )
            )
            texts.connect(self, self._texts, exclusive=True)

    def start_from_host(self) -> None:
        if self.ctx is not None:
            self.context.start(self.ctx)

    def _texts(self, seam: TextInputSeam, state: ForwardState) -> TextInput:
        if state.image_features is None:
            raise ValueError(
                "CoCoOp makes class texts for each image, so the image must be encoded first: hand"
                " the same ForwardState to encode_image and then to encode_classes"
            )
        assert self.ctx is not None and self.meta_net is not None  # otherwise not connected
        shift = self.meta_net(state.image_features.to(self.ctx.dtype))  # (B, d)
        context = self.ctx + shift.unsqueeze(1)  # (B, n, d)
        return self.context(state.class_names, context, per_image=True)
