"""Find and load a BERT: the package's mini BERT, a folder, or a model of the Hugging Face hub."""

from __future__ import annotations

import importlib.resources
import logging
from pathlib import Path
from typing import Literal, cast

import huggingface_hub
from mmengine.logging import print_log
from transformers import BertConfig
from transformers import BertModel as HFBertModel

from mmsdpt.utils.errors import InputError

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


def load_bert(
    name: str, config: BertConfig, pretrained: bool | Literal["auto"], add_pooling_layer: bool
) -> HFBertModel:
    """BERT of a folder, in eval mode where its weights were loaded, else in training mode.

    Args:
        name: See :func:`language_model_folder`.
        config: See :func:`bert_config`.
        pretrained: True: the folder must hold weights. 'auto': load them if they are there, else
            build BERT from ``config.json`` and warn. False: build from ``config.json``.
        add_pooling_layer: Whether BERT has its pooling layer.

    Raises:
        LanguageModelNotFoundError: The model, or weights that are asked for, cannot be found.
        ValueError: The weights lack parameters.
    """
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
