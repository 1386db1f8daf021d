"""GLIP's text side: find a BERT (package, folder or hub), encode captions, and cache what cannot
change.

Shapes: B captions, L tokens of the longest one (special tokens included), d the width of BERT.
"""

from __future__ import annotations

import importlib.resources
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import huggingface_hub
import torch
from mmdet.models.language_models import BertModel as MMDetBertModel
from mmdet.models.language_models.bert import generate_masks_with_special_tokens_and_transfer_map
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig
from transformers import BertModel as HFBertModel

from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.versions import autocast_dtype, tensor_versions

MINI_BERT = "mmsdpt://mini_bert"
_TEXT_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# In the order of preference; the index files name the parts of a checkpoint that is split.
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_ADVICE = (
    "give a folder with config.json, vocab.txt and weights (model.safetensors or"
    " pytorch_model.bin): set lang_model_name in the config, or pass --cfg-options"
    " lang_model_name=PATH"
)


class LanguageModelNotFoundError(FileNotFoundError, InputError):
    """A BERT that is neither a folder nor to be had from the hub; the tools print the sentence."""


def mini_bert_folder() -> str:
    """Folder of the mini BERT's config and vocabulary inside the installed package."""
    return str(importlib.resources.files("mmsdpt") / "assets" / "mini_bert")


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _WEIGHT_FILES)


def _is_text_folder(folder: Path) -> bool:
    tokenizer = any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json"))
    return tokenizer and (folder / "config.json").is_file()


def _from_hub(name: str, weights: bool) -> Path:
    """Folder of the hub model ``name`` in the local cache, filled from the hub where files are
    missing.
    """
    wanted = [*_TEXT_FILES, *(["model.safetensors"] if weights else [])]

    def is_complete(folder: Path) -> bool:
        return _is_text_folder(folder) and (not weights or _has_weights(folder))

    folder, reason = None, ""
    # The cache first: what was fetched once needs no network, nor the seconds that a failing one
    # takes.
    for local_only in (True, False):
        if not local_only and huggingface_hub.constants.HF_HUB_OFFLINE:
            reason = "offline mode is set"
            break
        try:
            folder = Path(
                huggingface_hub.snapshot_download(
                    name, allow_patterns=wanted, local_files_only=local_only
                )
            )
            if not local_only and not is_complete(folder):  # an old model, without safetensors
                huggingface_hub.snapshot_download(name, allow_patterns=["pytorch_model.bin"])
        except (OSError, ValueError) as error:  # no network, no such model, not a valid name
            reason = type(error).__name__
            continue
        if is_complete(folder):
            return folder
    if folder is not None and _is_text_folder(folder):
        return folder
    raise LanguageModelNotFoundError(
        f"The language model '{name}' is neither a folder nor in the local Hugging Face cache, and"
        f" could not be downloaded ({reason}); {_ADVICE}."
    )


def language_model_folder(name: str, weights: bool = False) -> Path:
    """Resolve the name of a BERT to a folder with at least ``config.json`` and a vocabulary.

    Args:
        name: ``mmsdpt://mini_bert``, a local folder, or the name of a model on the Hugging Face
            hub. For the last, the local cache is asked first, and the hub only where files are
            missing and offline mode (``HF_HUB_OFFLINE``) is not set.
        weights: Whether to ask the hub for the weights too. The folder may still lack them.

    Raises:
        LanguageModelNotFoundError: Says what was looked for and how to provide it.
    """
    if name.startswith("mmsdpt://"):
        if name != MINI_BERT:
            raise LanguageModelNotFoundError(
                f"'{name}' is not part of mmsdpt, which has '{MINI_BERT}' only."
            )
        return Path(mini_bert_folder())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if (
            name.startswith(("/", ".", "~")) or name.count("/") > 1
        ):  # no name on the hub looks like this
            raise LanguageModelNotFoundError(
                f"The language model folder '{name}' does not exist; {_ADVICE}."
            )
        return _from_hub(name, weights)
    if not _is_text_folder(folder):
        lacks = "vocab.txt" if (folder / "config.json").is_file() else "config.json"
        raise LanguageModelNotFoundError(
            f"The language model folder '{folder}' has no {lacks}; {_ADVICE}."
        )
    return folder


def bert_config(name: str, attn_implementation: str | None = None) -> BertConfig:
    """Configuration of the BERT called ``name``.

    Args:
        name: See :func:`language_model_folder`.
        attn_implementation: 'sdpa', 'eager' or None for transformers' own choice.

    Raises:
        LanguageModelNotFoundError: The model cannot be found.
        ValueError: It is not a BERT.
    """
    folder = language_model_folder(name)
    kind = BertConfig.get_config_dict(str(folder))[0].get("model_type", "bert")
    if kind != "bert":
        raise ValueError(
            f"The language model '{name}' is of type '{kind}', but GLIP needs type 'bert'."
        )
    # transformers annotates the base class here.
    return cast(
        BertConfig, BertConfig.from_pretrained(str(folder), attn_implementation=attn_implementation)
    )


class BertEncoder(nn.Module):
    """Hugging Face's BERT under the name ``model``, returning GLIP's language dict.

    Args:
        name: See :func:`language_model_folder`.
        pretrained: See :class:`BertModel`.
        add_pooling_layer: Whether BERT has its pooling layer.
        num_layers_of_embedded: Number of last layers that ``embedded`` averages.
        use_checkpoint: Whether to recompute activations in the backward pass (the non-reentrant
            form, which keeps the gradient where everything upstream is frozen).
        attn_implementation: See :func:`bert_config`.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | Literal["auto"] = "auto",
        add_pooling_layer: bool = False,
        num_layers_of_embedded: int = 1,
        use_checkpoint: bool = False,
        attn_implementation: str | None = None,
    ) -> None:
        super().__init__()
        config = bert_config(name, attn_implementation)
        self.model = self._build(name, config, pretrained, add_pooling_layer)
        # from_pretrained leaves it in eval mode, a new module is in training mode.
        self.model.train()
        if use_checkpoint:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.language_dim = config.hidden_size
        self.num_layers_of_embedded = num_layers_of_embedded

    @staticmethod
    def _build(
        name: str, config: BertConfig, pretrained: bool | Literal["auto"], add_pooling_layer: bool
    ) -> HFBertModel:
        if pretrained not in (True, False, "auto"):
            raise ValueError(f"pretrained must be True, False or 'auto', but it is {pretrained!r}.")
        folder = language_model_folder(name, weights=bool(pretrained))
        if not pretrained or not _has_weights(folder):
            if pretrained is True:
                raise LanguageModelNotFoundError(
                    f"The language model folder '{folder}' has no weights; {_ADVICE}."
                )
            if pretrained == "auto":
                print_log(
                    f"The language model '{name}' comes without weights: the text encoder is random"
                    " until a checkpoint that includes it is loaded (load_from).",
                    logger="current",
                    level=logging.WARNING,
                )
            return HFBertModel(config, add_pooling_layer=add_pooling_layer)
        # transformers takes safetensors first, and reads a .bin with weights_only.
        model, info = HFBertModel.from_pretrained(
            str(folder),
            config=config,
            add_pooling_layer=add_pooling_layer,
            output_loading_info=True,
        )
        missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
        if missing:
            raise ValueError(
                f"The weights in '{folder}' lack {len(missing)} of BERT's parameters, first"
                f" '{missing[0]}'; {_ADVICE}."
            )
        return model

    def forward(self, x: dict[str, Any]) -> dict[str, Tensor]:
        """Encode tokens.

        Args:
            x: ``input_ids`` (B, L), ``attention_mask`` (B, L) or (B, L, L), and ``position_ids``
                and ``token_type_ids``, (B, L) or None.

        Returns:
            ``embedded`` (B, L, d), ``masks`` as given, ``hidden`` (B, L, d). For masks (B, L), both
            features are zero at padding. (In MMDetection ``hidden`` is not, but nothing valid
            depends on it.)
        """
        mask = x["attention_mask"]
        layers = self.model(
            input_ids=x["input_ids"],
            attention_mask=mask,
            position_ids=x["position_ids"],
            token_type_ids=x["token_type_ids"],
            output_hidden_states=True,
        ).hidden_states[1:]
        count = self.num_layers_of_embedded
        # Dividing a mean by the count once more is what GLIP was trained with.
        embedded = torch.stack(layers[-count:], 1).mean(1) / count
        hidden = layers[-1]
        if mask.dim() == 2:
            valid = mask.unsqueeze(-1).to(hidden.dtype)
            embedded, hidden = embedded * valid, hidden * valid
        return {"embedded": embedded, "masks": mask, "hidden": hidden}


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
        attn_implementation: 'sdpa', 'eager' or None for transformers' own choice.
        max_cached_captions: Captions kept; the one unused for longest goes first. One of 256 tokens
            takes 0.8 MB with BERT-base.
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
        attn_implementation: str | None = None,
        max_cached_captions: int = 1024,
        **kwargs: Any,
    ) -> None:
        # Not MMDetBertModel.__init__: it insists on weights from the hub.
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
        self.max_cached_captions = max_cached_captions
        body = BertEncoder(
            name,
            pretrained=pretrained,
            add_pooling_layer=add_pooling_layer,
            num_layers_of_embedded=num_layers_of_embedded,
            use_checkpoint=use_checkpoint,
            attn_implementation=attn_implementation,
        )
        self.tokenizer = AutoTokenizer.from_pretrained(
            str(language_model_folder(name)), use_fast=True
        )
        if not self.tokenizer.is_fast:
            raise ValueError(
                f"The tokenizer of '{name}' cannot map characters to tokens, as GLIP needs; use a"
                " fast one."
            )
        positions = body.model.config.max_position_embeddings
        if max_tokens > positions:
            raise ValueError(
                f"max_tokens is {max_tokens}, but the language model '{name}' takes {positions} at"
                " most."
            )
        self.language_backbone = nn.Sequential(OrderedDict(body=body))
        self.use_sub_sentence_represent = use_sub_sentence_represent
        if use_sub_sentence_represent:
            self.special_tokens = self.tokenizer.convert_tokens_to_ids(special_tokens_list)
        self._cache: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._cache_state: tuple | None = None

    def clear_cache(self) -> None:
        """Forget all cached captions. Needed by hand only after writing through
        ``parameter.data``.
        """
        self._cache.clear()
        self._cache_state = None

    def _apply(self, fn, recurse: bool = True):
        # .to(), .half(), .cuda() ...: cached features do not move, and a new weight may get an old
        # address.
        self.clear_cache()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        self.clear_cache()
        # A buffer (0, 1, 2, ...) that transformers saved until 4.30, so public checkpoints may have
        # it.
        state_dict.pop(f"{prefix}language_backbone.body.model.embeddings.position_ids", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(
        self, captions: Sequence[str], cache: bool = False, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Encode captions.

        Args:
            captions: B captions.
            cache: Whether to encode each distinct caption only once, alone, and keep the detached
                result until a weight changes. The result then does not depend on the other captions
                of the batch. For text sides that are frozen, in eval mode, and altered by nothing
                else (a tuner's hook).
            **kwargs: Ignored, as in MMDetection.

        Returns:
            ``embedded`` and ``hidden`` (B, L, d), both zero at padding, and ``masks`` (B, L),
            int64. A new dict of new tensors in every call: nothing done to it reaches the cache.

        Raises:
            TypeError: ``captions`` is one string.
            ValueError: ``cache`` is set in training mode (dropout), with weights that take a
                gradient (the result is detached), or with ``use_sub_sentence_represent``.
        """
        if isinstance(captions, str):
            raise TypeError(
                f"captions must be a list of strings, but it is the string '{captions}'."
            )
        return self._forward_cached(captions) if cache else self._encode(captions)

    def _encode(self, captions: Sequence[str]) -> dict[str, Tensor]:
        device = next(self.language_backbone.parameters()).device
        tokenized = self.tokenizer(
            list(captions),
            max_length=self.max_tokens,
            padding="max_length" if self.pad_to_max else "longest",
            return_special_tokens_mask=True,
            return_tensors="pt",
            truncation=True,
        ).to(device)
        x = {
            "input_ids": tokenized.input_ids,
            "attention_mask": tokenized.attention_mask,
            "position_ids": None,
            "token_type_ids": None,
        }
        if not self.use_sub_sentence_represent:
            return self.language_backbone(x)
        x["attention_mask"], x["position_ids"] = (
            generate_masks_with_special_tokens_and_transfer_map(tokenized, self.special_tokens)
        )
        x["token_type_ids"] = tokenized["token_type_ids"]
        features = self.language_backbone(x)
        features["position_ids"] = x["position_ids"]
        features["text_token_mask"] = tokenized.attention_mask.bool()
        return features

    def _check_cacheable(self) -> list[Tensor]:
        """Refuse what must not be cached; otherwise return all tensors that the features depend
        on.
        """
        if self.use_sub_sentence_represent:
            raise ValueError(
                "cache=True is not possible with use_sub_sentence_represent=True; pass cache=False."
            )
        tensors: list[Tensor] = []
        training = self.training
        for module in self.language_backbone.modules():
            training = training or module.training
            tensors += [t for t in module._parameters.values() if t is not None]
            tensors += [t for t in module._buffers.values() if t is not None]
        if training:
            raise ValueError(
                "cache=True would keep one draw of dropout: the encoder is in training mode; call"
                " eval()."
            )
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            raise ValueError(
                "cache=True would cut the gradient of the text encoder, whose parameters require"
                " one; freeze them, use torch.no_grad(), or pass cache=False."
            )
        return tensors

    @torch.no_grad()
    def _encode_alone(self, caption: str) -> tuple[Tensor, Tensor]:
        """``embedded`` and ``hidden`` of one caption without padding, each (L, d)."""
        features = self._encode([caption])
        length = int(features["masks"].sum())
        # Copies, so that a caption padded to the maximum does not keep the whole.
        hidden = features["hidden"][0, :length].clone()
        embedded = features["embedded"][0, :length]
        # They are equal where ``embedded`` averages one layer, the usual case: keep one.
        return (hidden if torch.equal(embedded, hidden) else embedded.clone()), hidden

    def _forward_cached(self, captions: Sequence[str]) -> dict[str, Tensor]:
        tensors = self._check_cacheable()
        state = (tensor_versions(tensors), autocast_dtype(tensors[0].device))
        if state != self._cache_state:
            self.clear_cache()
            self._cache_state = state
        for caption in dict.fromkeys(captions):
            if caption not in self._cache:
                self._cache[caption] = self._encode_alone(caption)
            self._cache.move_to_end(caption)
        batch = [self._cache[caption] for caption in captions]
        while len(self._cache) > self.max_cached_captions:
            self._cache.popitem(last=False)

        length = self.max_tokens if self.pad_to_max else max(len(hidden) for _, hidden in batch)
        like = batch[0][1]
        shape = (len(batch), length, like.shape[-1])
        # New memory in every call: in-place work on the result cannot reach the cached features.
        embedded = torch.zeros(shape, dtype=like.dtype, device=like.device)
        hidden = torch.zeros_like(embedded)
        masks = torch.zeros(shape[:2], dtype=torch.long, device=like.device)
        for i, (one_embedded, one_hidden) in enumerate(batch):
            embedded[i, : len(one_embedded)] = one_embedded
            hidden[i, : len(one_hidden)] = one_hidden
            masks[i, : len(one_hidden)] = 1
        return {"embedded": embedded, "masks": masks, "hidden": hidden}
