"""The text side of CLIP: class names to sentences to features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam, common_tokens, trim
from mmsdpt.hosts.images import digest
from mmsdpt.hosts.seams import FeatureSeam, ForwardState, Seam, acting_tuners
from mmsdpt.hosts.stages import Stage, StageCache
from mmsdpt.utils.class_names import Reading, check_class_names
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.memo import Memo
from mmsdpt.utils.templates import checked_templates

from .text_tower import TextPartSeams, pool, text_blocks
from .tokenizer import CLIPTokenizer

TEXT_PARTS = (
    *("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection"),
)
_KEPT = 4  # sets of class names: training, validation, base and new classes


class ClassTextsMixin:
    """The text methods of :class:`mmsdpt.hosts.clip.CLIP`, which has the parameters."""

    transformer: nn.Module
    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    ln_final: nn.LayerNorm
    text_projection: nn.Parameter
    tokenizer: CLIPTokenizer
    context_length: int
    token_chunk: int
    _text_inputs: TextInputSeam
    _text_blocks: list[TextPartSeams]
    _pooled_text: FeatureSeam
    features: StageCache | None
    _stages: Mapping[str, Stage]
    named_parameters: Callable[..., Any]
    tuned: Callable[[], AbstractContextManager[None]]
    untuned: Callable[[], AbstractContextManager[None]]
    encoder_precision: Callable[[str], AbstractContextManager[None]]
    _with_present_values: Callable[[Callable[..., Any]], Callable[..., Any]]

    def _start_texts(self, classes: Sequence[str], template: str | Sequence[str]) -> None:
        """Called once by the host's constructor."""
        self._text_features: Memo[Tensor] = Memo(_KEPT)
        self._untuned_features: Memo[Tensor] = Memo(_KEPT)
        self._ids: Memo[tuple[Tensor, Tensor]] = Memo(2 * _KEPT)
        self.class_names: tuple[str, ...] = ()
        self.templates: tuple[str, ...] = ()
        self.set_classes(classes, template)

    def set_classes(
        self, names: Sequence[str], template: str | Sequence[str] | None = None
    ) -> None:
        """Classify into these classes from now on.

        Args:
            names: C class names.
            template: Sentence with one ``{}`` for the name, such as "a photo of a {}.", or several,
                whose normalised features are averaged. Tuners that make their own texts do not use
                it. None: as before.

        Raises:
            InputError: if a name is not a string or a template has no place for it.
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InputError(f"class names must be a list of strings, got {names!r}")
        if template is not None:
            self.templates = checked_templates(template)
        if tuple(names) != self.class_names:
            check_class_names(
                names, self.read_class_name, source="the model", strict=False, refuse_empty=False
            )
        self.class_names = tuple(names)

    def read_class_name(self, name: str) -> Reading:
        """What the model reads of a class name. CLIP was trained on English: a name without a Latin
        letter or digit counts as unknown, although it has tokens.
        """
        known = any(c.isascii() and c.isalnum() for c in name)
        return Reading(tuple(self.tokenizer.encode(name)), " ".join(name.lower().split()), known)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (N, L), trimmed to the longest text, and the index (N,) of each end token.

        Raises:
            ValueError: if a text is longer than the context.
        """
        device = self.positional_embedding.device

        def make() -> tuple[Tensor, Tensor]:
            ids = self.tokenizer(texts)
            ends = ids.argmax(dim=-1)  # the end token has the highest id
            return trim(ids, ends).to(device), ends.to(device)

        return self._ids.get((*texts, device), make)

    def _embed(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids)

    def _texts(self, texts: Sequence[str]) -> TextInput:
        ids, ends = self.tokenize(texts)
        x, P = self._embed(ids), common_tokens(ids, ends)
        return TextInput(x[0, :P], x[:, P:], ends - P)

    def _count_tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Normalised features (N, e) of texts. Tuners act here only through the host's parameters,
        for example not with prompts.
        """
        with self.tuned():
            x = self._run_text(self._texts(texts), ForwardState(), prompted=False)
            return F.normalize(x, dim=-1)

    def encode_classes(self, state: ForwardState | None = None) -> Tensor:
        """Normalised text features of the classes: (C, e), or (B, C, e) if a tuner makes different
        texts for each image.

        Features (C, e) are cached if they need no gradient: without autograd, or if nothing trains
        on the text side.
        """
        state = state or ForwardState(class_names=self.class_names)
        with self.tuned():
            tuners = acting_tuners(self._text_seams())
            if any(tuner.text_depends_on_image for tuner in tuners):
                return self._class_features(state)
            tensors = self._text_parameters()
            for tuner in tuners:
                tensors += [*tuner.parameters(), *tuner.buffers()]
            if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
                return self._class_features(state)
            modes = [(tuner, tuner.training) for tuner in tuners]
            return self._text_features.depend_on(tensors, *modes).get(
                (state.class_names, self.templates),
                lambda: self._once(
                    ("tuned", state.class_names, self.templates),
                    lambda: self._class_features(state),
                ),
            )

    def _text_seams(self) -> list[Seam]:
        parts = [seam for block in self._text_blocks for seam in block]
        return [self._text_inputs, *parts, self._pooled_text]

    def _once(self, of: tuple, compute: Callable[[], Tensor]) -> Tensor:
        """Text features (C, e), from the feature cache if there is one.

        Args:
            of: Kind of features, class names and templates.
            compute: Computes them.
        """
        if self.features is None:
            return compute()
        kind, names, templates = of
        ids = [self.tokenize([each.format(name) for name in names])[0] for each in templates]
        key = hashlib.blake2b(json.dumps([kind, names]).encode(), digest_size=16)
        key.update("".join(map(digest, ids)).encode())
        device = self.positional_embedding.device
        return self.features.one(
            self._stages["text"], key.hexdigest(), lambda: (compute(),), device
        )[0]

    def _text_parameters(self) -> list[Tensor]:
        """The host's parameters, without those of the image tower."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            if not name.startswith(("tuners.", "visual.", "visual_proj."))
        ]

    def encode_untuned_classes(
        self, names: Sequence[str], template: str | Sequence[str] | None = None
    ) -> Tensor:
        """Text features (C, e) of the untuned host for classes, not normalised and without
        gradients; the mean over templates if there are several.

        Args:
            names: C class names.
            template: As in :meth:`set_classes`; None: the host's.
        """
        templates = self.templates if template is None else checked_templates(template)

        def make() -> Tensor:
            texts = (self._texts([each.format(name) for name in names]) for each in templates)
            features = [self._run_text(text, ForwardState(), prompted=False) for text in texts]
            return torch.stack(features).mean(dim=0).to(self.text_projection.dtype)

        with self.untuned():
            kept = self._untuned_features.depend_on(self._text_parameters())
            of = (tuple(names), templates)
            return kept.get(of, lambda: self._once(("untuned", *of), make))

    def _class_features(self, state: ForwardState) -> Tensor:
        text = self._text_inputs.make(state)
        if text is not None:
            return F.normalize(self._run_text(text, state), dim=-1)
        features = []
        for template in self.templates:
            x = self._run_text(self._texts([template.format(n) for n in state.class_names]), state)
            features.append(F.normalize(x, dim=-1))
        if len(features) == 1:
            return features[0]
        return F.normalize(torch.stack(features).mean(dim=0), dim=-1)

    def _run_text(self, text: TextInput, state: ForwardState, prompted: bool = True) -> Tensor:
        """Encode embedded texts in chunks: features (C, e), or (B, C, e) if each image has its own
        texts, not normalised.
        """
        (*images, P, _), (C, K, _) = text.prefix.shape, text.rest.shape
        L = P + K
        if L > self.context_length:
            raise InputError(
                f"a text with its prompts has {L} tokens, but the context has"
                f" {self.context_length}: use fewer prompts or shorter class names"
            )
        prefix = text.prefix + self.positional_embedding[:P]
        prefix = prefix if images else prefix.unsqueeze(0)
        rest = text.rest + self.positional_embedding[P:L]
        # After the common tokens a text has one more than the index of its end; without any it is
        # padded.
        own_tokens = len(prefix) * (C + int(text.ends.sum()) if P else C * K)
        chunk = max(1, C * self.token_chunk // own_tokens)
        run = self._with_present_values(
            _TextChunk(self, self._text_blocks if prompted else (), state)
        )
        recompute = torch.is_grad_enabled() and C > chunk
        chunks = [slice(first, min(first + chunk, C)) for first in range(0, C, chunk)]
        with self.encoder_precision("text"):
            parts = [
                checkpoint(run, prefix, rest[part], text.ends[part], part, use_reentrant=False)
                if recompute
                else run(prefix, rest[part], text.ends[part], part)
                for part in chunks
            ]
        features = torch.cat(parts, dim=1).reshape(*images, C, -1)
        return self._pooled_text.change(features) if prompted else features


class _TextChunk:
    """The text tower on G groups of c texts.

    It takes the prefix of each group (G, P, d), the rest of the texts (c, K, d), the index of each
    end token in the rest (c,), and the slice of all texts that these are. It returns features
    (G, c, e).
    """

    def __init__(
        self, host: ClassTextsMixin, seams: Sequence[TextPartSeams], state: ForwardState
    ) -> None:
        self.host, self.seams, self.state = host, seams, state

    def __call__(self, prefix: Tensor, rest: Tensor, ends: Tensor, chunk: slice) -> Tensor:
        host, state = self.host, replace(self.state, chunk=chunk)
        x = text_blocks(host.transformer.resblocks, prefix, rest, ends, self.seams, state)
        return pool(x, host.ln_final, host.text_projection)
