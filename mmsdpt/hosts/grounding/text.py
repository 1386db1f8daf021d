"""The text side of the detectors: captions to features, with seams for tuners and a cache.

Shapes: B captions, L tokens of the longest one (special tokens included), d the width of BERT.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmdet.models.language_models import BertModel as MMDetBertModel
from mmdet.models.language_models.bert import generate_masks_with_special_tokens_and_transfer_map
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmsdpt.hosts.seams import (
    FeatureSeam,
    ForwardState,
    RunBlock,
    Seam,
    SeamUser,
    acting_tuners,
)
from mmsdpt.registry import MODELS
from mmsdpt.utils.bert_tokenizer import BertTokenizer
from mmsdpt.utils.language_models import language_model_folder
from mmsdpt.utils.memo import Memo

from .bert import BertEncoder, TextProgress
from .bert_modules import Attention

CaptionFeatures = dict[str, Tensor]
"""``embedded`` and ``hidden`` of one caption without padding, each (L, d); with sub-sentences also
``masks`` (L, L) and ``position_ids`` (L)."""
Keep = Callable[[Any, Callable[[], tuple[Tensor, ...]]], tuple[Tensor, ...]]


class _Backbone(nn.Sequential):
    """The encoder under the name ``body``, as in MMDetection."""

    def forward(self, x: dict[str, Any], state: ForwardState | None = None) -> dict[str, Tensor]:
        return self.body(x, state)


@MODELS.register_module()
class BertModel(MMDetBertModel):
    """MMDetection's BERT language model, which also works offline and can cache captions.

    Parameter names are MMDetection's (``language_backbone.body.model.*``).

    Args:
        name: ``mmsdpt://mini_bert``, a local folder, or the name of a model on the Hugging Face
            hub.
        max_tokens: Longer captions are cut here.
        pad_to_max: Whether to pad captions to ``max_tokens`` instead of to the longest one of the
            batch. Trimming is exact: padding never influences a valid position.
        pretrained: True: the folder must hold weights. 'auto': load them if they are there, else
            build BERT from ``config.json`` and warn. False: build from ``config.json``.
        use_sub_sentence_represent: Whether tokens attend only within their sub-sentence (Grounding
            DINO).
        special_tokens_list: Tokens that end a sub-sentence.
        add_pooling_layer: Whether BERT has its pooling layer.
        num_layers_of_embedded: Number of last layers that ``embedded`` averages.
        use_checkpoint: Whether to recompute activations in the backward pass (non-reentrant).
        attn_implementation: 'sdpa' (torch's kernels) or 'eager' (written out).
        max_cached_captions: Number of captions in the cache; the least recently used one is removed
            first. One of 256 tokens takes 0.8 MB with BERT-base.
        **kwargs: ``init_cfg`` and ``data_preprocessor`` of :class:`mmengine.model.BaseModel`.
    """

    def __init__(
        self,
        name: str = "bert-base-uncased",
        max_tokens: int = 256,
        pad_to_max: bool = False,
        use_sub_sentence_represent: bool = False,
        special_tokens_list: list[str] | None = None,
        add_pooling_layer: bool = False,
        num_layers_of_embedded: int = 1,
        use_checkpoint: bool = False,
        pretrained: bool | Literal["auto"] = "auto",
        attn_implementation: Attention = "sdpa",
        max_cached_captions: int = 1024,
        **kwargs: Any,
    ) -> None:
        # Not MMDetBertModel.__init__: it requires weights from the hub.
        BaseModel.__init__(self, **kwargs)
        if use_sub_sentence_represent and special_tokens_list is None:
            raise ValueError(
                "use_sub_sentence_represent=True needs special_tokens_list, but it is None."
            )
        if max_cached_captions < 1:
            raise ValueError(
                f"max_cached_captions must be at least 1, but it is {max_cached_captions}."
            )
        self.max_tokens = max_tokens
        self.pad_to_max = pad_to_max
        if attn_implementation not in ("sdpa", "eager"):
            raise ValueError(
                f"attn_implementation must be 'sdpa' or 'eager', but it is {attn_implementation!r}."
            )
        self.tokenizer = BertTokenizer(language_model_folder(name))
        body = BertEncoder(
            name,
            self.tokenizer,
            pretrained=pretrained,
            add_pooling_layer=add_pooling_layer,
            num_layers_of_embedded=num_layers_of_embedded,
            use_checkpoint=use_checkpoint,
            attn_implementation=attn_implementation,
        )
        positions = body.model.config.max_position_embeddings
        if max_tokens > positions:
            raise ValueError(
                f"max_tokens is {max_tokens}, but the language model '{name}' takes {positions} at"
                " most."
            )
        self.language_backbone = _Backbone(OrderedDict(body=body))
        self.use_sub_sentence_represent = use_sub_sentence_represent
        if use_sub_sentence_represent:
            self.special_tokens = self.tokenizer.convert_tokens_to_ids(special_tokens_list or ())
        self.feature_seam = FeatureSeam(
            0, {"width": body.language_dim, "max_tokens": max_tokens}, kind="text_features"
        )
        self._captions: Memo[CaptionFeatures] = Memo(max_cached_captions)

    def seams(self) -> dict[str, list[Seam]]:
        """Seams by kind: the encoder's, and ``text_features``."""
        return {**self._body.seams(), "text_features": [self.feature_seam]}

    @property
    def _body(self) -> BertEncoder:
        return self.language_backbone.body

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        # A buffer (0, 1, 2, ...) of transformers until 4.30: public checkpoints may have it.
        state_dict.pop(f"{prefix}language_backbone.body.model.embeddings.position_ids", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(
        self,
        captions: Sequence[str],
        cache: bool = False,
        state: ForwardState | None = None,
        keep: Keep | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Encode captions.

        Args:
            captions: B captions.
            cache: Whether to encode each distinct caption only once, by itself, and cache the
                detached result. It is cached until a weight of the encoder changes, or a tuner
                inside the encoder is switched on or off or changes a parameter or buffer. The
                result then does not depend on the other captions of the batch. Only for a text side
                that is frozen and in eval mode. Handlers inside the encoder get a state with one
                caption and nothing else: their results may depend only on this caption and on the
                parameters and buffers of their tuner. The handlers of ``text_features`` act on the
                cached features.
            state: For the handlers.
            keep: With ``cache``: called with a caption's token ids (1, L) and a function that
                computes its tensors. It returns these tensors, new or stored ones.
            **kwargs: Ignored, as in MMDetection.

        Returns:
            ``embedded`` and ``hidden`` (B, L, d), both zero at padding, and ``masks`` (B, L),
            int64. With sub-sentences ``masks`` (B, L, L) is true where a token sees another one.
            ``text_token_mask`` (B, L), true at real tokens, and ``position_ids`` (B, L) are added,
            and features at padding are undefined. Every call returns a new dict of new tensors:
            changing them does not change the cache.

        Raises:
            TypeError: if ``captions`` is one string.
            ValueError: if ``cache`` is set, but the encoder or a tuner inside it is in training
                mode (dropout) or needs a gradient (the result is detached); or if a caption leaves
                no positions for the rows of tuners.
        """
        _check_captions(captions)
        if cache:
            features = self._encode_cached(captions, keep)
        else:
            features = self._encode(captions, state or ForwardState(captions=captions))
        return self.feature_seam.change(features)

    def begin(
        self, captions: Sequence[str], state: ForwardState | None = None, last: int = 1
    ) -> TextProgress:
        """Encode captions without the last layers, which the caller then runs.

        :meth:`forward` does the same as this, then for each i from 0 to ``last`` - 1
        ``p.x, p.rows = run_block(p, i)(p.x, p.rows)`` with the progress p, and :meth:`finish`.
        """
        _check_captions(captions)
        state = state or ForwardState(captions=captions)
        return self._body.begin(self._tokenize(captions), state, last)

    def run_block(self, progress: TextProgress, i: int) -> RunBlock:
        """See :meth:`BertEncoder.run_block`."""
        return self._body.run_block(progress, i)

    def finish(self, progress: TextProgress, x: Tensor | None = None) -> dict[str, Tensor]:
        """The result of :meth:`forward`, after all layers; see :meth:`BertEncoder.finish`."""
        features = self._body.finish(progress, x)
        return self.feature_seam.change(self._with_sub_sentences(features, progress.inputs))

    def _tokenize(self, captions: Sequence[str]) -> dict[str, Tensor | None]:
        """The inputs of the encoder."""
        device = next(self.language_backbone.parameters()).device
        tokenized = self.tokenizer(
            list(captions),
            max_length=self.max_tokens,
            padding="max_length" if self.pad_to_max else "longest",
            return_tensors="pt",
            truncation=True,
        ).to(device)
        x = {
            "input_ids": tokenized.input_ids,
            "attention_mask": tokenized.attention_mask,
            "token_mask": tokenized.attention_mask,
            "position_ids": None,
            "token_type_ids": None,
        }
        if self.use_sub_sentence_represent:
            x["attention_mask"], x["position_ids"] = (
                generate_masks_with_special_tokens_and_transfer_map(tokenized, self.special_tokens)
            )
            x["token_type_ids"] = tokenized["token_type_ids"]
        return x

    def _with_sub_sentences(
        self, features: dict[str, Tensor], x: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Add the entries that MMDetection's Grounding DINO needs for sub-sentences."""
        if self.use_sub_sentence_represent:
            features["position_ids"] = x["position_ids"]
            features["text_token_mask"] = x["token_mask"].bool()
        return features

    def _encode(self, captions: Sequence[str], state: ForwardState) -> dict[str, Tensor]:
        x = self._tokenize(captions)
        return self._with_sub_sentences(self.language_backbone(x, state), x)

    def _encode_alone(self, caption: str) -> CaptionFeatures:
        """Features of one caption without padding."""
        features = self._encode([caption], ForwardState(captions=[caption]))
        length = int(features.get("text_token_mask", features["masks"]).sum())
        # Copies: a view would keep the memory of a whole caption padded to the maximum.
        hidden = features["hidden"][0, :length].clone()
        embedded = features["embedded"][0, :length]
        # They are equal if ``embedded`` averages one layer, the usual case: keep one.
        embedded = hidden if torch.equal(embedded, hidden) else embedded.clone()
        found = {"embedded": embedded, "hidden": hidden}
        if self.use_sub_sentence_represent:
            found["masks"] = features["masks"][0, :length, :length].clone()
            found["position_ids"] = features["position_ids"][0, :length].clone()
        return found

    def _encode_once(self, caption: str, keep: Keep) -> CaptionFeatures:
        """As :meth:`_encode_alone`, through ``keep``."""

        def compute() -> tuple[Tensor, ...]:
            found = self._encode_alone(caption)
            same = found["embedded"] is found["hidden"]
            return tuple(x for name, x in found.items() if not (same and name == "embedded"))

        found = keep(self._tokenize([caption])["input_ids"], compute)
        names = ["embedded", "hidden"]
        names += ["masks", "position_ids"] if self.use_sub_sentence_represent else []
        if len(found) < len(names):
            found = (found[0], *found)
        return dict(zip(names, found, strict=True))

    def _encode_cached(
        self, captions: Sequence[str], keep: Keep | None = None
    ) -> dict[str, Tensor]:
        seams = [seam for kind in self._body.seams().values() for seam in kind]
        tensors, acting = _check_constant(self.language_backbone, seams)
        memo = self._captions.depend_on(tensors, *acting)
        encode = partial(self._encode_once, keep=keep) if keep else self._encode_alone
        features = [memo.get(caption, partial(encode, caption)) for caption in captions]
        length = self.max_tokens if self.pad_to_max else max(len(one["hidden"]) for one in features)
        return _join_captions(features, length)


def _check_captions(captions: Sequence[str]) -> None:
    if isinstance(captions, str):
        raise TypeError(f"captions must be a list of strings, but it is the string '{captions}'.")


def _check_constant(
    encoder: nn.Module, seams: Sequence[Seam]
) -> tuple[list[Tensor], tuple[tuple[str, int, SeamUser], ...]]:
    """Refuse to cache features that may be different the next time.

    Returns:
        All tensors that the features are computed from, and the tuners that act, with their places.

    Raises:
        ValueError: if the encoder or a tuner in it is in training mode or needs a gradient.
    """
    acting = tuple((seam.kind, seam.index, tuner) for seam in seams for tuner in seam.tuners())
    tensors = _tensors("the text encoder", encoder)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise ValueError(
            "cache=True would cut the gradient of the text encoder, whose parameters require"
            " one; freeze them, use torch.no_grad(), or pass cache=False."
        )
    for tuner in acting_tuners(seams):
        name = f"{type(tuner).__name__}, which acts in the text encoder,"
        if torch.is_grad_enabled() and not tuner.frozen:
            raise ValueError(
                f"cache=True would cut the gradient of {name} and is not frozen; use"
                " torch.no_grad(), or pass cache=False."
            )
        tensors += _tensors(name, tuner)
    return tensors, acting


def _tensors(name: str, side: nn.Module) -> list[Tensor]:
    """All buffers, and all parameters or the values of tuners in their place.

    Raises:
        ValueError: if a module is in training mode.
    """
    found: list[Tensor | None] = []
    for module in side.modules():
        if module.training:
            raise ValueError(
                f"cache=True would keep one draw of dropout: {name} is in training mode; call"
                " eval()."
            )
        found += module._parameters.values()
        found += module._buffers.values()
    return [tensor for tensor in found if tensor is not None]


def _join_captions(features: Sequence[CaptionFeatures], length: int) -> dict[str, Tensor]:
    """Pad B captions' features with zeros to ``length`` tokens.

    Returns:
        As from :meth:`BertModel.forward`, in new memory, so that in-place changes of the result do
        not change the cached features.
    """
    lengths = [len(one["hidden"]) for one in features]
    joined = {
        name: torch.stack(
            [
                F.pad(one[name], (0, 0, 0, length - n))
                for one, n in zip(features, lengths, strict=True)
            ]
        )
        for name in ("embedded", "hidden")
    }
    # Made from ones, not from a tensor of lengths, whose values are unknown on the meta device.
    ones = torch.ones(length, dtype=torch.long, device=joined["hidden"].device)
    real = torch.stack([F.pad(ones[:n], (0, length - n)) for n in lengths])
    if "masks" not in features[0]:
        return {**joined, "masks": real}
    # Padding as in MMDetection: a padding token sees only itself and has position 0.
    padding = torch.diag_embed(real == 0)
    masks = [
        F.pad(one["masks"], (0, length - n, 0, length - n))
        for one, n in zip(features, lengths, strict=True)
    ]
    positions = [
        F.pad(one["position_ids"], (0, length - n))
        for one, n in zip(features, lengths, strict=True)
    ]
    return {
        **joined,
        "masks": torch.stack(masks) | padding,
        "position_ids": torch.stack(positions),
        "text_token_mask": real.bool(),
    }
