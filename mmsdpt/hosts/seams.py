"""Seams: the places of a host where tuners may act.

A host makes one seam object per place and calls it in its forward pass; a tuner connects handlers
to the seams it needs and never sees the host's classes. Seams are plain objects, no modules: they
own no parameters, so they leave the state dict alone. With no active handler a seam adds no
operation, which is why a host whose tuners are switched off computes the untouched model's output
bit for bit.

The kinds of seams:

==========================  ===============  =======================================================
kind                        class            a handler
==========================  ===============  =======================================================
``image_blocks``,           BlockSeam        runs the block, optionally with rows of prompts
``text_blocks``
``image_ffns``              BranchSeam       adds a branch beside the block's feed-forward network
``image_attention_maps``,   MapSeam          changes the map after the attention's, or the
``image_ffn_maps``                           feed-forward network's, residual
``text_attention_outputs``  FeatureSeam      changes what the attention returns, before the residual
``text_ffn_outputs``        FeatureSeam      the same after the feed-forward network
``text_embeddings``         WordSeam         gives word vectors to append to every caption
``text_features``           FeatureSeam      changes the language features after the encoder
``encoder_pairs``           PairSeam         runs an image block and a text block together
``encoder_outputs``         PairedSeam       changes both encoders' outputs
``fusion``                  FusionSeam       gives extra keys and values to X-MHA
``parameters``              ParameterSeam    gives the value that a parameter of the host takes
``losses``                  LossSeam         gives more losses
==========================  ===============  =======================================================

:mod:`mmsdpt.hosts.clip.seams` has the kinds of hosts that compare two pooled features (CLIP).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .stages import KnownImages


class SeamUser(Protocol):
    """What a seam needs to know of a tuner."""

    enabled: bool
    frozen: bool
    training: bool
    own_words_only: bool

    @property
    def image_depends_on_text(self) -> bool:
        """Whether what it gives the image encoder depends on the caption."""


class Seam:
    """One place of a host.

    Args:
        index: Position among the seams of the same kind, from the input of the host to its output.
        widths: Widths that a tuner needs to size its parameters, by name.
    """

    kind: str = ""

    def __init__(self, index: int, widths: Mapping[str, int], kind: str | None = None) -> None:
        self.index = index
        self.widths = dict(widths)
        if kind is not None:
            self.kind = kind
        self._handlers: list[tuple[SeamUser, Callable[..., Any], bool]] = []

    def connect(
        self, tuner: SeamUser, handler: Callable[..., Any], exclusive: bool = False
    ) -> None:
        """Let ``handler`` act here whenever ``tuner`` is enabled.

        Handlers act in the order of their connection, an exclusive one first.

        Args:
            tuner: Owner of the handler.
            handler: A callable that can be copied and pickled: a bound method, a small class or a
                ``functools.partial``, no closure.
            exclusive: The handler does not build on what was there; no second one may do so.

        Raises:
            ValueError: if another tuner claims the place exclusively, too.
        """
        if exclusive:
            for other, _, claimed in self._handlers:
                if claimed and other is not tuner:
                    raise ValueError(
                        f"{type(tuner).__name__} and {type(other).__name__} both replace"
                        f" {self.describe()}, so they cannot be stacked: remove one of them"
                    )
            self._handlers.insert(0, (tuner, handler, True))
        else:
            self._handlers.append((tuner, handler, False))

    def describe(self) -> str:
        """The place in words, for messages."""
        return f"{self.kind}[{self.index}]"

    def active(self) -> list[Callable[..., Any]]:
        """Handlers of the tuners that are switched on."""
        return [handler for tuner, handler, _ in self._handlers if tuner.enabled]

    def tuners(self) -> Iterator[SeamUser]:
        """The tuners that are switched on and act here."""
        for tuner, _, _ in self._handlers:
            if tuner.enabled:
                yield tuner

    def trains(self) -> bool:
        """Whether a gradient must reach this place: a tuner acts here that is not frozen."""
        return any(not tuner.frozen for tuner in self.tuners())


@dataclass
class ForwardState:
    """What one forward pass knows, for handlers that need more than the features of their place.

    Attributes:
        images: (B, 3, H, W), normalised; None where the pass starts from features. Where features
            are kept (:mod:`mmsdpt.hosts.stages`) they may not have been loaded: a handler that
            looks at them takes :meth:`pixels`.
        captions: B captions.
        class_maps: Per image a (C, max_tokens) map that is 1 where a token belongs to a class.
        samples: The B data samples, with ground truth in training.
        phrases: Per image the C names whose tokens ``class_maps`` has.
        class_names: Names of the classes, where a host classifies.
        pooled_image: (B, e), once the image is encoded, where a host classifies.
        image_features: (B, e), the same normalised.
        image_rows: What the image tower makes of rows with ``output``, by their keys, each
            (B, p, d), after the last norm.
        chunk: Which of the texts a handler of ``text_block_inputs`` is given.
        text_features: (C, e) or (B, C, e), normalised, once the texts are encoded, where a host
            classifies.
        logits: (B, C), once both are compared.
        labels: (B,), where a loss is computed.
        text: ``hidden`` (B, L, d), ``embedded`` and ``masks`` (B, L) once the text is encoded.
        memo: For tuners, keyed by themselves: what they computed once in this pass.
    """

    images: Tensor | KnownImages | None = None
    captions: Sequence[str] = ()
    class_maps: Sequence[Tensor] = ()
    samples: Sequence[Any] = ()
    phrases: Sequence[Sequence[str]] = ()
    class_names: Sequence[str] = ()
    pooled_image: Tensor | None = None
    image_features: Tensor | None = None
    image_rows: dict[Hashable, Tensor] = field(default_factory=dict)
    chunk: slice = field(default_factory=lambda: slice(None))
    text_features: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None
    text: dict[str, Tensor] | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict)

    def pixels(self) -> Tensor:
        """The images (B, 3, H, W), normalised, which are loaded where they were not."""
        if self.images is None:
            raise ValueError("this pass starts from features, so there are no images to look at")
        return self.images if isinstance(self.images, Tensor) else self.images.pixels()


@dataclass(frozen=True)
class PromptRows:
    """Rows that a tuner appends to the sequence of a block.

    Attributes:
        values: (p, d), or (B, p, d) with rows of each sample's own.
        keep: Whether the block's output for the rows is wanted. Otherwise they act as keys and
            values only, and are gone after the block.
        output: Whether the output of CLIP's last image block is wanted, too: it is found normed in
            ``ForwardState.image_rows``.
    """

    values: Tensor
    keep: bool = False
    output: bool = False


Rows = dict[Hashable, PromptRows]
"""Rows by owner: the tuner, or any key of its own."""
RunBlock = Callable[[Tensor, Rows], tuple[Tensor, Rows]]
"""Runs a block on (B, L, d) and rows; returns (B, L, d) and the rows to keep, each (B, p, d)."""


class BlockSeam(Seam):
    """A transformer block.

    Widths: ``width`` d, ``heads``, ``stage`` (from 0), ``depth`` (number of blocks in the stage)
    and ``position`` (in the stage).

    A handler is called as ``handler(seam, run, x, rows, state)`` and returns what ``run`` returns:
    it calls ``run(x, rows)`` once or more, with the rows it was given and its own. Rows that are
    kept travel to the next block of the stage; a handler there finds them under their key.

    In a windowed block each window sees all rows, with relative position bias zero and unmasked;
    the output of rows is the mean over the windows (as in the official VPT for Swin).
    """

    def run(
        self, block: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        """The block with all active handlers around it; the first one connected is outermost."""
        for handler in reversed(self.active()):
            block = _Around(self, handler, block, state)
        return block(x, rows)


class _Around:
    def __init__(
        self, seam: BlockSeam, handler: Callable[..., Any], block: RunBlock, state: ForwardState
    ) -> None:
        self.seam, self.handler, self.block, self.state = seam, handler, block, state

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        return self.handler(self.seam, self.block, x, rows, self.state)


class BranchSeam(Seam):
    """A branch beside a feed-forward network: out = x + FFN(LN(x)) + branches(x); or, on CLIP,
    beside a whole block: out = block(x) + branches(LN(x)).

    Widths: ``width``, ``stage``. A handler is called as ``handler(seam, x)`` with the input of the
    norm, (B, L, d), or with its output where the branch is beside a whole block, and returns what
    to add.
    """

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """``y`` and what every active handler makes of ``x``."""
        for handler in self.active():
            y = y + handler(self, x)
        return y


class FeatureSeam(Seam):
    """Features that a handler may change: ``handler(seam, features)`` returns new ones.

    Widths: ``width``; for ``text_features`` also ``max_tokens``. Features are (B, L, d), for
    ``text_features`` the language dict, which a handler leaves alone and copies.
    """

    def change(self, features: Any, *context: Any) -> Any:
        """``features`` after every active handler, which is given the context, too."""
        for handler in self.active():
            features = handler(self, features, *context)
        return features


class MapSeam(FeatureSeam):
    """The tokens of a map, after a residual of a block: ``handler(seam, x, hw)`` returns new ones.

    x is (B, L, d), hw the map's height and width, L = H W. Rows of prompts are not among the
    tokens. Widths: ``width``, ``stage``.
    """


class RowSeam(Seam):
    """Rows of prompts beside what enters an encoder: ``handler(seam, state)`` returns
    :class:`PromptRows` under a key, as a dict.

    Widths: ``width``.
    """

    def rows(self, state: ForwardState) -> Rows:
        """Rows of all active tuners."""
        found: Rows = {}
        for handler in self.active():
            found.update(handler(self, state))
        return found


class WordSeam(RowSeam):
    """The word vectors of the text encoder.

    Rows come after the caption, at the positions that follow its last token, and get position and
    type embeddings and the embeddings' norm like words. Their outputs are not part of the text
    features. With ``keep`` they travel through the encoder.

    ``word_vectors(text)`` gives the (n, d) vectors of a text's tokens, for prompts that start as
    words; it reads the base weights, so it is to be called after loading.
    """

    def __init__(
        self,
        index: int,
        widths: Mapping[str, int],
        word_vectors: Callable[[str], Tensor],
        kind: str | None = None,
    ) -> None:
        super().__init__(index, widths, kind)
        self.word_vectors = word_vectors


class PairSeam(Seam):
    """The last blocks of both encoders, side by side: the last pair is each encoder's last block.

    Widths: ``image``, ``text`` and their ``image_heads``, ``text_heads``. A handler is called as
    ``handler(seam, run_image, run_text, image, text, mask, state)`` with image (B, N, d_image),
    text (B, L, d_text) and mask (B, L), 1 at real tokens; it returns both features after the
    blocks. ``run_image(x, rows)`` and ``run_text(x, rows)`` are as in :class:`BlockSeam`.
    """

    def run(
        self,
        run_image: RunBlock,
        run_text: RunBlock,
        image: Tensor,
        text: Tensor,
        mask: Tensor,
        state: ForwardState,
    ) -> tuple[Tensor, Tensor]:
        """Both blocks under the active handler: the place is exclusive."""
        (handler,) = self.active()
        return handler(self, run_image, run_text, image, text, mask, state)


class PairedSeam(Seam):
    """The outputs of both encoders: ``handler(seam, image, text, mask, state)`` returns new ones.

    Widths: ``image``, ``text``. Image is the last stage's normed output (B, N, d_image), text the
    last layer's (B, L, d_text), mask (B, L), 1 at real tokens.
    """

    def change(
        self, image: Tensor, text: Tensor, mask: Tensor, state: ForwardState
    ) -> tuple[Tensor, Tensor]:
        """Both outputs after every active handler."""
        for handler in self.active():
            image, text = handler(self, image, text, mask, state)
        return image, text


class ParameterSeam(Seam):
    """A parameter of the host: ``handler(seam, value)`` returns the value that takes effect.

    The host's own parameter is never written. A handler that does not build on ``value`` connects
    exclusively.

    Attributes:
        name: The parameter's name in the host.
        shape: Its shape.
        group: Part of the host: ``image``, ``neck``, ``text``, ``fusion``, ``fused_text``,
            ``dyconv``, ``encoder``, ``decoder`` or ``outputs``.
        role: The last two parts of the name, such as ``qkv.weight``.
        module: Module that holds it.
    """

    kind = "parameters"

    def __init__(self, index: int, name: str, group: str, module: nn.Module) -> None:
        super().__init__(index, {})
        self.name, self.group, self.module = name, group, module
        self._leaf = name.rpartition(".")[2]
        self.role = ".".join(name.split(".")[-2:])
        self.shape = tuple(self.value().shape)

    def describe(self) -> str:
        return f"the parameter {self.name}"

    def value(self) -> nn.Parameter:
        """The host's parameter, to start from or to merge into."""
        return self.module._parameters[self._leaf]

    def replaced_in_training(self) -> bool:
        """Whether a tuner that trains replaces the parameter: its module then trains, too."""
        return any(
            claimed and tuner.enabled and not tuner.frozen for tuner, _, claimed in self._handlers
        )

    def in_effect(self) -> Tensor:
        """The value that takes effect."""
        value: Tensor = self.value()
        for handler in self.active():
            value = handler(self, value)
        return value

    def put(self, value: Tensor) -> None:
        """Let the module compute with ``value``, a parameter or any other tensor."""
        self.module._parameters[self._leaf] = value


class LossSeam(Seam):
    """More losses: ``handler(seam, state, encode)`` returns a dict of them, which replace those of
    the host that have the same name.

    On GLIP ``encode(images, state)`` runs both encoders once more, on other images (B, 3, H, W),
    and returns the pyramid and the text features. CLIP's handlers are called without it.
    """

    kind = "losses"

    def losses(self, state: ForwardState, *context: Any) -> dict[str, Tensor]:
        """Losses of all active tuners, which get the context, too; those of the same name are
        added.
        """
        found: dict[str, Tensor] = {}
        for handler in self.active():
            for name, loss in handler(self, state, *context).items():
                found[name] = found[name] + loss if name in found else loss
        return found


@dataclass(frozen=True)
class FusionTokens:
    """Extra keys and values for one X-MHA layer; their own outputs are dropped.

    Attributes:
        image: (k, D_image) rows appended to the layer-normed image features: extra keys for the
            text queries.
        text: (k, D_text) rows appended to the layer-normed text features: extra keys for the image
            queries.
        groups: Of joined tokens, those that act for a part of the caption only.
    """

    image: Tensor | None = None
    text: Tensor | None = None
    groups: tuple[TokenGroup, ...] = ()


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that act for a part of the caption: other words do not look at them, and an image
    position looks at them as far as it looks at these words.

    Attributes:
        image: Their rows among ``FusionTokens.image``.
        text: Their rows among ``FusionTokens.text``.
        words: (B, L) bool, the tokens of the captions that they act for.
    """

    image: slice
    text: slice
    words: Tensor


class FusionSeam(Seam):
    """A cross-modality attention (X-MHA) layer.

    Widths: ``image``, ``text``, ``joint`` and ``heads``. ``projections`` maps ``image`` and
    ``text`` to the linear layers that carry each modality into the joint space, W (joint x width)
    and b; tuners may read them, never change them.
    """

    kind = "fusion"

    def __init__(
        self, index: int, widths: Mapping[str, int], projections: Mapping[str, nn.Linear]
    ) -> None:
        super().__init__(index, widths)
        self.projections = dict(projections)

    def tokens(self, own_words: OwnWords | None = None) -> FusionTokens:
        """Tokens of all active tuners, concatenated in the order of the slots.

        Args:
            own_words: Of each tuner that acts for its own words only, where they are in the
                captions. Without an entry it has none there, and gives no tokens.
        """
        offers: list[FusionTokens] = []
        groups: list[TokenGroup] = []
        ends = [0, 0]
        for tuner, handler, _ in self._handlers:
            restricted = tuner.own_words_only
            if not tuner.enabled or (restricted and tuner not in (own_words or {})):
                continue
            offers.append(handler(self))
            starts, sizes = ends, map(_count, (offers[-1].image, offers[-1].text))
            ends = [start + size for start, size in zip(starts, sizes, strict=True)]
            if restricted and own_words is not None:
                image, text = map(slice, starts, ends)
                groups.append(TokenGroup(image, text, own_words[tuner]))
        return FusionTokens(
            image=_concatenate(offer.image for offer in offers),
            text=_concatenate(offer.text for offer in offers),
            groups=tuple(groups),
        )


OwnWords = Mapping[SeamUser, Tensor]
"""By tuner, the tokens of the captions (B, L) that belong to classes that it was trained on."""


def _count(tokens: Tensor | None) -> int:
    return 0 if tokens is None else len(tokens)


def _concatenate(parts: Iterable[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    return torch.cat(present, dim=0)


class SeamMap(Mapping[str, Sequence[Seam]]):
    """The seams of a host by kind.

    Indexing with a kind that the host does not have raises a KeyError that says so.

    Args:
        host: Name of the host.
        seams: Seams by kind; a kind without any is left out.
        hints: By kind, what gives a host such seams.
    """

    def __init__(
        self,
        host: str,
        seams: Mapping[str, Sequence[Seam]],
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.host, self.hints = host, dict(hints or {})
        self._seams = {kind: tuple(found) for kind, found in seams.items() if found}

    def __getitem__(self, kind: str) -> Sequence[Seam]:
        if kind not in self._seams:
            have = ", ".join(sorted(self._seams)) or "none"
            raise KeyError(f"{self.host} has no '{kind}' seams (it has: {have})")
        return self._seams[kind]

    def __iter__(self):
        return iter(self._seams)

    def __len__(self) -> int:
        return len(self._seams)
