"""Hugging Face's own BERT on the weights of ours."""

from __future__ import annotations

import dataclasses

import transformers
from torch import Tensor, nn

from mmsdpt.hosts.grounding.bert_modules import Bert


def hugging_face(ours: Bert) -> nn.Module:
    """``transformers.BertModel`` with the weights, precision and mode of ``ours``."""
    settings = dataclasses.asdict(ours.config)
    for name in ("position_embedding_type", "is_decoder"):  # always the default, gone in version 5
        del settings[name]
    kind = "eager" if ours.encoder.layer[0].attention.self.written_out else "sdpa"
    config = transformers.BertConfig(**settings, attn_implementation=kind)
    theirs = transformers.BertModel(config, add_pooling_layer=hasattr(ours, "pooler"))
    theirs.load_state_dict(ours.state_dict())
    some = next(ours.parameters())
    return theirs.to(some.dtype).train(ours.training).requires_grad_(some.requires_grad)


def run_layer(layer: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A layer of Hugging Face's, which returns a tuple before version 5."""
    out = layer(x, mask)
    return out if isinstance(out, Tensor) else out[0]
