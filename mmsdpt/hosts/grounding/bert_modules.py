"""BERT's modules, with the parameter names of Hugging Face's ``BertModel``.

    x_0 = LN(word + position + type)
    a   = LN(x + W_o · softmax(QKᵀ/√d_h + m) V)        x' = LN(a + W_2 · act(W_1 a))

with m = 0 at valid keys and the dtype's minimum elsewhere, and dropout after the embeddings, on the
attention probabilities and before each residual (Devlin et al., arXiv:1810.04805). The layers run
in :class:`mmsdpt.hosts.grounding.bert.BertEncoder`, which has the seams. With ``clamp`` the parts
are those of GLIP's layer on fused text (:mod:`mmsdpt.hosts.glip.bert_layer`). Shapes: B captions, L
tokens, d the width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.utils.errors import InputError

from .cross_attention import MAX_CLAMP_VALUE

Change = Callable[[Tensor], Tensor]
Attention = Literal["sdpa", "eager"]
"""How attention is computed: with torch's kernels, or written out as a formula."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class BertConfig:
    """The settings of a BERT's ``config.json`` that are used; defaults are those of BERT-base.

    Raises:
        InputError: if a setting is invalid or not supported.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"
    is_decoder: bool = False

    def __post_init__(self) -> None:
        for name in (
            "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size"
            " max_position_embeddings type_vocab_size"
        ).split():
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"BERT's {name} is {value!r}, expected a positive integer")
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"BERT's hidden_size is {self.hidden_size}, expected a multiple of its"
                f" {self.num_attention_heads} heads"
            )
        if self.hidden_act not in _ACTIVATIONS:
            raise InputError(
                f"BERT's hidden_act is {self.hidden_act!r}, expected one of {sorted(_ACTIVATIONS)}"
            )
        if self.is_decoder or self.position_embedding_type != "absolute":
            raise InputError(
                f"BERT has is_decoder={self.is_decoder} and position_embedding_type="
                f"{self.position_embedding_type!r}, but a detector's BERT is an encoder with"
                " 'absolute' positions"
            )


class Embeddings(nn.Module):
    """Word, position and type vectors, normed."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Embed tokens.

        Args:
            input_ids: (B, L), or None if ``inputs_embeds`` is given.
            position_ids: (B, L) or (1, L); 0 to L - 1 if None.
            token_type_ids: (B, L); 0 if None.
            inputs_embeds: Word vectors (B, L, d) instead of ``input_ids``.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        length, device = inputs_embeds.shape[1], inputs_embeds.device
        if position_ids is None:
            position_ids = torch.arange(length, device=device).unsqueeze(0)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        x = inputs_embeds + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(x + self.position_embeddings(position_ids)))


class SelfAttention(nn.Module):
    """Attention of tokens to tokens, before its output projection.

    Args:
        clamp: Whether to clamp scores to GLIP's limits, which torch's kernels cannot do.
    """

    def __init__(self, config: BertConfig, kind: Attention = "sdpa", clamp: bool = False) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.written_out = clamp or kind == "eager"
        self.clamp = clamp

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, L, d/H)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, d) to (B, L, d), with an additive mask that broadcasts to (B, H, L, L)."""
        query, key, value = (self._heads(f(hidden)) for f in (self.query, self.key, self.value))
        if self.written_out:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, L, L)
            if self.clamp:
                scores = scores.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
            if mask is not None:
                scores = scores + mask
            out = self.dropout(scores.softmax(-1)) @ value
        else:
            rate = self.dropout.p if self.dropout.training else 0.0
            out = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=rate)
        return out.transpose(1, 2).flatten(2)


class Output(nn.Module):
    """LN(residual + dropout(dense(x))); tuners may change what is added to the residual."""

    def __init__(self, config: BertConfig, width: int, clamp: bool = False) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.clamp = clamp

    def forward(self, x: Tensor, residual: Tensor, changes: Sequence[Change] = ()) -> Tensor:
        x = self.dropout(self.dense(x))
        if self.clamp:
            x = x.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
        for change in changes:
            x = change(x)
        return self.LayerNorm(x + residual)


class AttentionBlock(nn.Module):
    """Attention with its output projection and residual."""

    def __init__(self, config: BertConfig, kind: Attention = "sdpa", clamp: bool = False) -> None:
        super().__init__()
        self.self = SelfAttention(config, kind, clamp)
        self.output = Output(config, config.hidden_size)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, changes: Sequence[Change] = ()
    ) -> Tensor:
        return self.output(self.self(hidden, mask), hidden, changes)


class Intermediate(nn.Module):
    """The first half of the MLP."""

    def __init__(self, config: BertConfig, clamp: bool = False) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = _ACTIVATIONS[config.hidden_act]
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(x)
        if self.clamp:
            x = x.clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)
        return self.activation(x)


class Layer(nn.Module):
    """One layer: attention and MLP."""

    def __init__(self, config: BertConfig, kind: Attention = "sdpa", clamp: bool = False) -> None:
        super().__init__()
        self.attention = AttentionBlock(config, kind, clamp)
        self.intermediate = Intermediate(config, clamp)
        self.output = Output(config, config.intermediate_size, clamp)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        after_attention: Sequence[Change] = (),
        after_ffn: Sequence[Change] = (),
    ) -> Tensor:
        """(B, L, d) to (B, L, d), with an additive mask that broadcasts to (B, H, L, L).
        ``after_attention`` and ``after_ffn`` change the outputs of the attention and the MLP before
        the residual.
        """
        attended = self.attention(hidden, mask, after_attention)
        return self.output(self.intermediate(attended), attended, after_ffn)


class _Encoder(nn.Module):
    def __init__(self, config: BertConfig, kind: Attention) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, kind) for _ in range(config.num_hidden_layers))


class _Pooler(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)


class Bert(nn.Module):
    """All parameters of Hugging Face's ``BertModel`` under its names, with its initial values.

    Args:
        add_pooling_layer: Whether to have the parameters of the pooling layer, which no detector
            uses.
    """

    def __init__(
        self, config: BertConfig, add_pooling_layer: bool = False, attention: Attention = "sdpa"
    ) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = _Encoder(config, attention)
        if add_pooling_layer:
            self.pooler = _Pooler(config)
        self.apply(self._initialize)

    @torch.no_grad()
    def _initialize(self, module: nn.Module) -> None:
        """Normal weights, zero biases and a zero padding vector; norms start as in torch."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Linear):
            module.bias.zero_()
        elif isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
