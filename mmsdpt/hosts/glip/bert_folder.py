"""Load a BERT from the folder that :mod:`mmsdpt.utils.language_models` finds."""

from __future__ import annotations

import logging
from typing import Literal, cast

from mmengine.logging import print_log
from transformers import BertConfig
from transformers import BertModel as HFBertModel

from mmsdpt.utils.language_models import (
    ADVICE,
    LanguageModelNotFoundError,
    has_weights,
    language_model_folder,
)


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
    if not pretrained or not has_weights(folder):
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
            f" '{missing[0]}'; {ADVICE}."
        )
    return model
