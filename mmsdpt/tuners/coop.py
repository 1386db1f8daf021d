r"""CoOp: context optimization (Zhou et al., IJCV 2022, section 3.2), on CLIP and on GLIP.

**On CLIP** (:class:`CLIPCoOp`) n learned word vectors v (n x d) replace the words around the class
name; the rest of CLIP does not change:

    t_c = text([start] v_1 ... v_n NAME_c . [end])         logits_c = exp(s) cos(image, t_c)

With one context for all classes ("unified") there are n d parameters: 8,192 on ViT-B/16 with
n = 16. With one for each class ("class-specific") there are C n d.

**On GLIP** (:class:`CoOp`) one context for all classes is appended to every caption at the input of
the text encoder:

    [CLS] class 1 . class 2 . ... [SEP] v_1 ... v_n

In CLIP each class has its own sentence, and only the output at the end of the sentence is used.
GLIP reads all classes in one caption, and a class's features are the outputs at its tokens. So the
caption contains the context once, and the context acts on every class through BERT's attention, in
every layer.

The context comes after the caption, at the positions that follow the last token, and its outputs
are not among the text features. So no token moves: each word keeps the position embedding that it
was trained with, the map from classes to tokens (positive map) does not change, and the context
uses none of the 256 tokens that a caption may have. BERT attends in both directions, so a context
before the caption would differ only in its position embeddings.

n d parameters: 12,288 on GLIP-L and GLIP-T. The SDPT poster's 0.52 M would be 677 vectors, but BERT
has 512 positions and the caption takes 256 of them, so no context is long enough for this number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam
from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.seams import ForwardState, PromptRows, Rows
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError

from .base import Seams, Tuner
from .layers.class_context import ClassContext
from .layers.common import INIT_STD, drawn, positive_integer
from .layers.self_consistency import Regularised


@MODELS.register_module()
class CoOp(Tuner):
    """Learned context vectors among the words of every caption of GLIP.

    Args:
        num_tokens: n.
        init_words: Words whose vectors the context starts from, such as "a photo of a"; they must
            be n tokens of the host's vocabulary. None: drawn from N(0, ``init_std``^2).
        init_std: See ``init_words``.

    Raises:
        ValueError: if ``num_tokens`` is not a positive integer, or differs from the number of
            tokens in ``init_words``.
    """

    needs = ("text_embeddings",)
    settings = ("num_tokens",)

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 16,
        init_words: str | None = None,
        init_std: float = INIT_STD,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens, self.init_words = positive_integer("num_tokens", num_tokens), init_words
        (self.seam,) = cast(Sequence[WordSeam], seams["text_embeddings"])
        if init_words is not None:
            found = len(self.seam.word_vectors(init_words))
            if found != num_tokens:
                raise ValueError(
                    f"init_words={init_words!r} are {found} tokens, but num_tokens is {num_tokens}:"
                    f" set num_tokens={found}, or choose other words"
                )
        self.width = self.seam.widths["width"]
        self.context = drawn(num_tokens, self.width, std=init_std)
        self.seam.connect(self, self._rows)

    def start_from_host(self) -> None:
        if self.init_words is not None:
            self.context.copy_(self.seam.word_vectors(self.init_words))

    def _rows(self, seam: WordSeam, state: ForwardState) -> Rows:
        # keep=True: the vectors pass through the layers like words, and the layers change them.
        return {self: PromptRows(self.context, keep=True)}


@MODELS.register_module()
class CLIPCoOp(Regularised):
    """A learned context around CLIP's class names.

    Args:
        num_tokens: n. With 0, the model is zero-shot CLIP with the host's template.
        init_words: Words that the context starts from, such as "a photo of a"; see
            :class:`ClassContext`. None: N(0, 0.02^2).
        position: Position of the class name: ``end``, ``middle`` or ``front`` of the context.
        per_class: Whether each class has its own context; other classes then cannot be used.
        num_classes: C, for ``per_class``.

    Attributes:
        ctx: (n, d), or (C, n, d); None if n = 0.

    Raises:
        ValueError: if settings contradict each other, or the context leaves no space for names.
    """

    needs: ClassVar[tuple[str, ...]] = ("text_inputs",)
    settings = ("num_tokens", "context.fixed_words", "context.position", "num_classes")

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 16,
        init_words: str | None = None,
        position: str = "end",
        per_class: bool = False,
        num_classes: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens = positive_integer("num_tokens", num_tokens, minimum=0)
        if per_class != (num_classes is not None):
            raise ValueError(
                "per_class=True and num_classes belong together: a context for each class needs"
                f" their number, got per_class={per_class} and num_classes={num_classes}"
            )
        if num_classes is not None:
            positive_integer("num_classes", num_classes)
        self.num_classes = num_classes
        (texts,) = cast(Sequence[TextInputSeam], seams["text_inputs"])
        self.width = texts.widths["width"]
        self.context = ClassContext(texts, num_tokens, init_words, position)
        self.ctx: nn.Parameter | None = None
        if num_tokens:
            shape = (num_tokens, self.width)
            self.ctx = drawn(*shape) if num_classes is None else drawn(num_classes, *shape)
            texts.connect(self, self._texts, exclusive=True)

    @property
    def per_class(self) -> bool:
        return self.num_classes is not None

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
        ctx, rows = cast(Tensor, self.ctx), None
        if self.per_class:
            rows = self.class_rows(state.class_names)
        return self.context(state.class_names, ctx if rows is None else ctx[rows])
