"""Find the files of a BERT: the package's mini BERT, a folder, or a model of the hub."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import huggingface_hub

from .downloads import CHECKPOINTS, how_to_get_bert
from .errors import InputError
from .texts import read_json

MINI_BERT = "mmsdpt://mini_bert"
_TEXT_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# In order of preference; the index files list the parts of a split checkpoint.
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADVICE = (
    "give a folder with config.json, vocab.txt and weights (model.safetensors or"
    " pytorch_model.bin): set lang_model_name in the config, or pass --cfg-options"
    " lang_model_name=PATH"
)


class LanguageModelNotFoundError(FileNotFoundError, InputError):
    """A BERT that is neither a folder nor available on the hub."""


def mini_bert_folder() -> str:
    """Folder of the mini BERT's config and vocabulary inside the installed package."""
    return str(importlib.resources.files("mmsdpt") / "assets" / "mini_bert")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: It cannot be read, or is not an object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def weight_file(folder: Path) -> Path | None:
    """The weight file of a folder, or the index of several; None if there is none."""
    return next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)


def _is_text_folder(folder: Path) -> bool:
    tokenizer = any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json"))
    return tokenizer and (folder / "config.json").is_file()


def _from_hub(name: str, weights: bool) -> Path:
    """Folder of the hub model ``name`` in the local cache; missing files are downloaded."""
    wanted = [*_TEXT_FILES, *(["model.safetensors"] if weights else [])]

    def is_complete(folder: Path) -> bool:
        return _is_text_folder(folder) and (not weights or weight_file(folder) is not None)

    folder, reason = None, ""
    # The cache first, so that a downloaded model needs no network and causes no timeouts.
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
        f" could not be downloaded ({reason}); {how_to_get_bert(name)}, or name"
        " another folder with --cfg-options lang_model_name=PATH."
    )


def language_model_folder(name: str, weights: bool = False) -> Path:
    """Resolve the name of a BERT to a folder with at least ``config.json`` and a vocabulary.

    Args:
        name: ``mmsdpt://mini_bert``, a local folder, or the name of a model on the Hugging Face
            hub. For the last, ``checkpoints/NAME`` and the local cache are tried first, and the hub
            only if files are missing and offline mode (``HF_HUB_OFFLINE``) is not set.
        weights: Whether to download the weights, too. The folder may still lack them.

    Raises:
        LanguageModelNotFoundError: With the paths that were tried and how to provide the model.
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
                f"The language model folder '{name}' does not exist; {ADVICE}."
            )
        local = CHECKPOINTS / name
        return local if _is_text_folder(local) else _from_hub(name, weights)
    if not _is_text_folder(folder):
        lacks = "vocab.txt" if (folder / "config.json").is_file() else "config.json"
        raise LanguageModelNotFoundError(
            f"The language model folder '{folder}' has no {lacks}; {ADVICE}."
        )
    return folder
