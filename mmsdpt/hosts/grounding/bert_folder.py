"""Load a BERT from the folder that :mod:`mmsdpt.utils.language_models` finds."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal, cast

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmsdpt.utils.base_weights import read_checkpoint
from mmsdpt.utils.errors import CheckpointError, InputError
from mmsdpt.utils.language_models import (
    ADVICE,
    LanguageModelNotFoundError,
    language_model_folder,
    read_object,
    weight_file,
)

from .bert_modules import Attention, Bert, BertConfig


def bert_config(name: str) -> BertConfig:
    """Configuration of the BERT called ``name``.

    Raises:
        LanguageModelNotFoundError: if the model cannot be found.
        InputError: if it is not a BERT, or one that is not supported.
    """
    content = read_object(language_model_folder(name) / "config.json")
    kind = content.get("model_type", "bert")
    if kind != "bert":
        raise InputError(
            f"the language model '{name}' is of type '{kind}', but the detectors need type 'bert'"
        )
    known = {field.name for field in dataclasses.fields(BertConfig)}
    try:
        return BertConfig(**{key: value for key, value in content.items() if key in known})
    except InputError as error:
        raise InputError(f"the language model '{name}' cannot be used: {error}") from None


def load_bert(
    name: str,
    config: BertConfig,
    pretrained: bool | Literal["auto"],
    add_pooling_layer: bool,
    attention: Attention,
) -> Bert:
    """BERT from a folder; arguments as in :class:`~mmsdpt.hosts.grounding.text.BertModel`.

    Raises:
        ValueError: if ``pretrained`` has another value.
        LanguageModelNotFoundError: if the model, or weights that are required, cannot be found.
        CheckpointError: if the weights cannot be read or do not fit.
    """
    if pretrained not in (True, False, "auto"):
        raise ValueError(f"pretrained must be True, False or 'auto', but it is {pretrained!r}.")
    folder = language_model_folder(name, weights=bool(pretrained))
    file = weight_file(folder) if pretrained else None
    if file is not None:
        return _with_weights(file, config, add_pooling_layer, attention)
    if pretrained is True:
        raise LanguageModelNotFoundError(
            f"The language model folder '{folder}' has no weights; {ADVICE}."
        )
    if pretrained == "auto":
        print_log(
            f"The language model '{name}' comes without weights: the text encoder is random"
            " until a checkpoint that includes it is loaded (load_from).",
            logger="current",
            level=logging.WARNING,
        )
    return Bert(config, add_pooling_layer, attention)


def _with_weights(
    file: Path, config: BertConfig, add_pooling_layer: bool, attention: Attention
) -> Bert:
    """BERT with the weights of ``file``, in float32."""
    with torch.device("meta"):  # draws no random values, which would be replaced
        bert = Bert(config, add_pooling_layer, attention)
    found = {_current_name(key): value for key, value in _read_weights(file).items()}
    state: dict[str, Tensor] = {}
    missing = []
    for key, wanted in bert.state_dict().items():
        value = found.get(key)
        if value is None and key.startswith("pooler."):  # nothing reads it
            value = torch.zeros(wanted.shape)
        if value is None:
            missing.append(key)
        elif value.shape != wanted.shape:
            raise CheckpointError(
                f"The weights in '{file.parent}' do not fit its config.json: '{key}' has shape"
                f" {tuple(value.shape)} instead of {tuple(wanted.shape)}; {ADVICE}."
            )
        else:
            state[key] = value.float().contiguous()
    if missing:
        raise CheckpointError(
            f"The weights in '{file.parent}' lack {len(missing)} of BERT's parameters, first"
            f" '{missing[0]}'; {ADVICE}."
        )
    bert.load_state_dict(state, assign=True)
    return bert


def _current_name(key: str) -> str:
    """The current name of a parameter. Models with a head on BERT add the prefix ``bert.``; early
    files, such as that of bert-base-uncased, have ``gamma`` and ``beta``.
    """
    start, _, end = key.removeprefix("bert.").rpartition(".")
    return f"{start}.{dict(gamma='weight', beta='bias').get(end, end)}"


def _read_weights(file: Path) -> dict[str, Tensor]:
    """State dict of a file, or of all files that an index lists."""
    if file.suffix != ".json":
        return cast(dict[str, Tensor], read_checkpoint(str(file))["state_dict"])
    parts = read_object(file).get("weight_map")
    if not isinstance(parts, dict) or not all(
        isinstance(part, str) and Path(part).name == part for part in parts.values()
    ):
        raise CheckpointError(f"{file} does not name the files beside it that hold the weights")
    state: dict[str, Tensor] = {}
    for part in sorted(set(parts.values())):
        state |= read_checkpoint(str(file.parent / part))["state_dict"]
    return state
