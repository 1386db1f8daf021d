"""Seams: the places of a host where tuners may act.

A host makes one seam object per place and calls it in its forward pass; a tuner connects handlers
to the seams it needs and never sees the host's classes. Seams are plain objects, not modules: they
have no parameters, so they do not change the state dict. Without an active handler a seam adds no
operation, so a host whose tuners are switched off gives the output of the original model, bit for
bit.

The kinds of seams:

==========================  ===============  =======================================================
kind                        class            a handler
==========================  ===============  =======================================================
``image_blocks``,           BlockSeam        runs the block, optionally with rows of prompts
``text_blocks``
``image_ffns``              BranchSeam       adds a branch beside the block's feed-forward network
``text_attention_outputs``  FeatureSeam      changes what the attention returns, before the residual
``text_ffn_outputs``        FeatureSeam      the same after the feed-forward network
``text_features``           FeatureSeam      changes the language features after the encoder
``parameters``              ParameterSeam    gives the value that a parameter of the host takes
``losses``                  LossSeam         adds losses
==========================  ===============  =======================================================

:mod:`mmsdpt.hosts.grounding.seams` adds the kinds of detectors that read a caption, and
:mod:`mmsdpt.hosts.clip.seams` those of CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from .images import KnownImages, pixels_of


class SeamUser(Protocol):
    """The attributes of a tuner that seams and hosts read."""

    enabled: bool
    frozen: bool
    training: bool
    own_words_only: bool

    @property
    def image_blocks_read_text(self) -> bool:
        """Whether it needs the encoded text inside the image encoder."""


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

        Handlers act in the order in which they were connected, an exclusive one first.

        Args:
            tuner: Owner of the handler.
            handler: A callable that can be copied and pickled: a bound method, a small class or a
                ``functools.partial``, but not a closure.
            exclusive: The handler replaces the value and ignores the old one; only one tuner may
                do so.

        Raises:
            ValueError: if another tuner has an exclusive handler here.
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
        """Name of the place, for messages."""
        return f"{self.kind}[{self.index}]"

    def active(self) -> list[Callable[..., Any]]:
        """Handlers of the tuners that are switched on."""
        return [handler for tuner, handler, _ in self._handlers if tuner.enabled]

    def settled(self, **context: Any) -> list[Callable[..., Any]]:
        """As :meth:`active`, with this seam and the context already passed to the handlers: for
        activations that are computed again later, when other tuners may be switched on.
        """
        return [partial(handler, self, **context) for handler in self.active()]

    def tuners(self) -> Iterator[SeamUser]:
        """The tuners that are switched on and act here."""
        for tuner, _, _ in self._handlers:
            if tuner.enabled:
                yield tuner

    def trains(self) -> bool:
        """Whether a gradient must reach this place, because an unfrozen tuner acts here."""
        return any(not tuner.frozen for tuner in self.tuners())


@dataclass
class ForwardState:
    """Data of one forward pass, for handlers that need more than the features of their place.

    Attributes:
        images: (B, 3, H, W), normalised; None if the pass starts from features. If features are
            cached (:mod:`mmsdpt.hosts.stages`), the pixels may not be loaded: a handler that needs
            them calls :meth:`pixels`.
        captions: B captions.
        class_maps: Per image a (C, max_tokens) map that is 1 where a token belongs to a class.
        samples: The B data samples, with ground truth in training.
        phrases: Per image the C names whose tokens ``class_maps`` marks.
        class_names: Names of the classes, if the host is a classifier.
        pooled_image: (B, e), once the image is encoded, if the host is a classifier.
        image_features: (B, e), the same normalised.
        image_rows: Outputs of the image tower for rows with ``output``, by tuner, each (B, p, d),
            after the last norm.
        chunk: Which of the texts a handler of ``text_block_inputs`` gets.
        text_features: (C, e) or (B, C, e), normalised, once the texts are encoded, if the host is a
            classifier.
        logits: (B, C), once image and text features are compared.
        labels: (B,), if a loss is computed.
        text: ``hidden`` (B, L, d), ``embedded`` and ``masks`` (B, L) once the text is encoded.
        memo: Values that tuners computed in this pass; each tuner uses itself as the key.
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
        """The normalised images (B, 3, H, W); loads pixels that are not loaded yet."""
        if self.images is None:
            raise ValueError("this pass starts from features, so there are no images to look at")
        return pixels_of(self.images)


@dataclass(frozen=True)
class PromptRows:
    """Rows that a tuner appends to the sequence of a block.

    Attributes:
        values: (p, d), or (B, p, d) with different rows for each sample.
        keep: Whether to keep the block's output for the rows. Otherwise the rows act only as keys
            and values, and are dropped after the block.
        output: Whether the output of CLIP's last image block is needed, too. It is stored, normed,
            in ``ForwardState.image_rows``. The key of the rows must then be the tuner itself.
    """

    values: Tensor
    keep: bool = False
    output: bool = False


Rows = dict[Hashable, PromptRows]
"""Rows by owner: the tuner, or another key that only this tuner uses."""
RunBlock = Callable[[Tensor, Rows], tuple[Tensor, Rows]]
"""Runs a block on (B, L, d) and rows; returns (B, L, d) and the rows to keep, each (B, p, d)."""


class BlockSeam(Seam):
    """A transformer block.

    Widths: ``width`` d, ``heads``, ``stage`` (from 0), ``depth`` (number of blocks in the stage)
    and ``position`` (in the stage).

    A handler is called as ``handler(seam, run, x, rows, state)`` and returns what ``run`` returns:
    it calls ``run(x, rows)`` once or more, with the rows it was given and its own. Rows that are
    kept go on to the next block of the stage; a handler there finds them under their key.

    In a block with windows, each window sees all rows, unmasked and with a relative position bias
    of zero; the output of rows is the mean over the windows (as in the official VPT for Swin).
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
    norm, (B, L, d), or with its output if the branch is beside a whole block. It returns the term
    to add.
    """

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """``y`` plus the outputs of all active handlers for ``x``."""
        for handler in self.active():
            y = y + handler(self, x)
        return y


class FeatureSeam(Seam):
    """Features that a handler may change: ``handler(seam, features)`` returns new ones.

    Widths: ``width``; for ``text_features`` also ``max_tokens``. Features are (B, L, d), for
    ``text_features`` the language dict, which a handler must copy and not change in place.
    """

    def change(self, features: Any, *context: Any) -> Any:
        """``features`` after all active handlers, which also get the context."""
        for handler in self.active():
            features = handler(self, features, *context)
        return features


class RowSeam(Seam):
    """Rows of prompts added to the input of an encoder: ``handler(seam, state)`` returns a dict
    with :class:`PromptRows` by key.

    Widths: ``width``.
    """

    def rows(self, state: ForwardState) -> Rows:
        """Rows of all active tuners."""
        found: Rows = {}
        for handler in self.active():
            found.update(handler(self, state))
        return found


class ParameterSeam(Seam):
    """A parameter of the host: ``handler(seam, value)`` returns the value that takes effect.

    The host's own parameter is never changed. A handler that ignores ``value`` connects
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
        self._given = 0
        self.role = ".".join(name.split(".")[-2:])
        self.shape = tuple(self.value().shape)

    def describe(self) -> str:
        return f"the parameter {self.name}"

    def value(self) -> nn.Parameter:
        """The host's parameter, to start from or to merge into."""
        return self.module._parameters[self._leaf]

    def connect_value(self, tuner: SeamUser, handler: Callable[..., Any]) -> None:
        """Let ``handler`` give the parameter a value from a file of ``tuner``. It acts before the
        handlers that :meth:`connect` has connected, and after earlier handlers of this method.
        """
        self._handlers.insert(self._given, (tuner, handler, False))
        self._given += 1

    def replaced_in_training(self) -> bool:
        """Whether an unfrozen tuner replaces the parameter: its module is then in training mode."""
        return any(
            claimed and tuner.enabled and not tuner.frozen for tuner, _, claimed in self._handlers
        )

    def in_effect(self) -> Tensor:
        """The value that takes effect."""
        value: Tensor = self.value()
        for handler in self.active():
            value = handler(self, value)
        return value

    def before(self, tuner: SeamUser) -> Tensor:
        """The value that the tuners before ``tuner`` hand on to it, of those that are switched on;
        they must be prepared, as in every forward pass.
        """
        value: Tensor = self.value()
        for user, handler, _ in self._handlers:
            if user is tuner:
                break
            if user.enabled:
                value = handler(self, value)
        return value

    def with_only(self, tuner: SeamUser) -> Tensor:
        """The value that the host's parameter has with only ``tuner``, switched on or off."""
        value: Tensor = self.value()
        for user, handler, _ in self._handlers:
            if user is tuner:
                value = handler(self, value)
        return value

    def neighbours(self, tuner: SeamUser) -> tuple[list[SeamUser], list[SeamUser]]:
        """The tuners that act here before ``tuner`` and after it, switched on or off."""
        users = [user for user, _, _ in self._handlers]
        own = [place for place, user in enumerate(users) if user is tuner]
        before, after = users[: own[-1]], users[own[0] :]
        return [u for u in before if u is not tuner], [u for u in after if u is not tuner]

    def put(self, value: Tensor) -> None:
        """Let the module compute with ``value``, a parameter or any other tensor."""
        self.module._parameters[self._leaf] = value


class LossSeam(Seam):
    """Additional losses: ``handler(seam, state, encode)`` returns them as a dict. They replace
    losses of the host that have the same name.

    On detectors ``encode(images, state)`` runs both encoders again, on other images (B, 3, H, W),
    and returns the pyramid and the text features. CLIP's handlers are called without it.
    """

    kind = "losses"

    def losses(self, state: ForwardState, *context: Any) -> dict[str, Tensor]:
        """Losses of all active handlers, which also get the context. Losses with the same name are
        added up.
        """
        found: dict[str, Tensor] = {}
        for handler in self.active():
            for name, loss in handler(self, state, *context).items():
                found[name] = found[name] + loss if name in found else loss
        return found


class SeamMap(Mapping[str, Sequence[Seam]]):
    """The seams of a host by kind.

    Indexing with a kind that the host does not have raises a KeyError that says so.

    Args:
        host: Name of the host.
        seams: Seams by kind; a kind without any is left out.
        hints: By kind, what a host needs to have such seams.
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
            raise KeyError(f"{self.host} has no '{kind}' seams; its seams are: {have}")
        return self._seams[kind]

    def __iter__(self):
        return iter(self._seams)

    def __len__(self) -> int:
        return len(self._seams)


def acting_tuners(seams: Iterable[Seam]) -> list[Any]:
    """The tuners that are switched on and act at one of the seams, each once."""
    return list(dict.fromkeys(tuner for seam in seams for tuner in seam.tuners()))
