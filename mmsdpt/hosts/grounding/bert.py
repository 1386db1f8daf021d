"""BERT with seams: a loop over its layers.

    x = LN(word + position + type)                                          embeddings
    a = LN(x + f(Dropout(W_o Attention(x)))),   x' = LN(a + g(Dropout(W_2 gelu(W_1 a))))   layer

x is the caption's tokens with the rows of tuners after them (``text_embeddings``,
``text_blocks``), f and g are the handlers of ``text_attention_outputs`` and ``text_ffn_outputs``.

Shapes: B captions, L tokens of the longest one (special tokens included), d the width, p rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.recompute import recompute
from mmsdpt.hosts.rows import join, split
from mmsdpt.hosts.seams import (
    BlockSeam,
    FeatureSeam,
    ForwardState,
    PromptRows,
    Rows,
    RunBlock,
    Seam,
)
from mmsdpt.utils.bert_tokenizer import BertTokenizer

from .bert_folder import bert_config, load_bert
from .bert_modules import Attention


class AttentionMasks:
    """Additive masks, 0 at valid keys and the dtype's minimum elsewhere, for any number of rows.

    Rows are valid keys for every query. As queries they see all real tokens and all rows.

    Args:
        mask: 1 at valid keys: (B, L), or (B, L, L) with a row per query.
        token_mask: (B, L), 1 at real tokens.
    """

    def __init__(self, mask: Tensor, token_mask: Tensor, dtype: torch.dtype) -> None:
        self.mask, self.token_mask = mask.to(dtype), token_mask.to(dtype)
        # Attention has faster kernels without a mask.
        self.all_valid = bool(mask.all() & token_mask.all())
        self._made: dict[int, Tensor] = {}

    def with_rows(self, count: int) -> Tensor | None:
        """Mask (B, 1, L + p, L + p) for ``count`` = p rows; None if all keys are valid."""
        if self.all_valid:
            return None
        if count not in self._made:
            keys = F.pad(self.token_mask, (0, count), value=1).unsqueeze(1)  # (B, 1, L + p)
            valid = keys
            if self.mask.dim() == 3:
                tokens = F.pad(self.mask, (0, count), value=1)  # (B, L, L + p)
                valid = torch.cat([tokens, keys.expand(-1, count, -1)], dim=1)
            added = (1 - valid.unsqueeze(1)) * torch.finfo(valid.dtype).min
            self._made[count] = added.expand(-1, -1, keys.shape[-1], -1)
        return self._made[count]


class TextProgress:
    """A batch between two layers of the encoder.

    Attributes:
        rows: Rows that go into the next layer.
        outputs: Outputs of the layers so far, each (B, L, d).
        first: Index of the layer that :meth:`BertEncoder.run_block` counts from.
    """

    def __init__(self, inputs: dict[str, Any], state: ForwardState, x: Tensor, rows: Rows) -> None:
        self.inputs, self.state, self.rows = inputs, state, rows
        self.attention = AttentionMasks(inputs["attention_mask"], self.mask, x.dtype)
        self.outputs: list[Tensor] = []
        self.first = 0
        self._embeddings = x

    @property
    def mask(self) -> Tensor:
        """(B, L), 1 at real tokens."""
        return self.inputs["token_mask"]

    @property
    def x(self) -> Tensor:
        """(B, L, d), the next layer's input. Set it to the output of each layer, exactly once."""
        return self.outputs[-1] if self.outputs else self._embeddings

    @x.setter
    def x(self, output: Tensor) -> None:
        self.outputs.append(output)


class BertEncoder(nn.Module):
    """BERT under the name ``model``, returning GLIP's language dict.

    Args: see :class:`~mmsdpt.hosts.grounding.text.BertModel`.
    """

    def __init__(
        self,
        name: str,
        tokenizer: BertTokenizer,
        pretrained: bool | Literal["auto"] = "auto",
        add_pooling_layer: bool = False,
        num_layers_of_embedded: int = 1,
        use_checkpoint: bool = False,
        attn_implementation: Attention = "sdpa",
    ) -> None:
        super().__init__()
        config = bert_config(name)
        self.model = load_bert(name, config, pretrained, add_pooling_layer, attn_implementation)
        self.tokenizer = tokenizer
        self.use_checkpoint = use_checkpoint
        self.language_dim = config.hidden_size
        self.num_layers_of_embedded = num_layers_of_embedded

        width, depth = {"width": config.hidden_size}, config.num_hidden_layers
        self.row_seam = WordSeam(0, width, self.word_vectors, kind="text_embeddings")
        self.block_seams: list[BlockSeam] = []
        self.attention_seams: list[FeatureSeam] = []
        self.ffn_seams: list[FeatureSeam] = []
        for i in range(depth):
            place = {"stage": 0, "depth": depth, "position": i}
            block = {"heads": config.num_attention_heads, **place}
            self.block_seams.append(BlockSeam(i, {**width, **block}, kind="text_blocks"))
            self.attention_seams.append(FeatureSeam(i, width, kind="text_attention_outputs"))
            self.ffn_seams.append(FeatureSeam(i, width, kind="text_ffn_outputs"))

    def seams(self) -> dict[str, list[Seam]]:
        """Seams by kind, each from the input to the output."""
        return {
            "text_embeddings": [self.row_seam],
            "text_blocks": [*self.block_seams],
            "text_attention_outputs": [*self.attention_seams],
            "text_ffn_outputs": [*self.ffn_seams],
        }

    def word_vectors(self, text: str) -> Tensor:
        """Vectors (n, d) of the n tokens of ``text``, without special tokens and gradients."""
        weight = self.model.embeddings.word_embeddings.weight
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        return weight.detach()[torch.tensor(tokens, dtype=torch.long, device=weight.device)]

    def forward(self, x: dict[str, Any], state: ForwardState | None = None) -> dict[str, Tensor]:
        """Encode tokens: :meth:`begin` through all layers, and :meth:`finish`."""
        return self.finish(self.begin(x, state or ForwardState(), last=0))

    def begin(self, x: dict[str, Any], state: ForwardState, last: int) -> TextProgress:
        """Embed tokens and run all but the last layers.

        Args:
            x: ``input_ids`` (B, L), ``attention_mask`` (B, L) or (B, L, L), ``token_mask`` (B, L),
                1 at real tokens, and ``position_ids`` and ``token_type_ids``, (B, L) or None.
            last: Number of layers to leave to :meth:`run_block`, at most all.

        Raises:
            ValueError: if BERT has fewer positions than the tokens and the rows after them need.
        """
        depth = len(self.block_seams)
        progress = TextProgress(x, state, *self._embed(x, state))
        for i in range(depth - last):
            progress.x, progress.rows = self.run_block(progress, i)(progress.x, progress.rows)
        progress.first = depth - last
        return progress

    def run_block(self, progress: TextProgress, i: int) -> RunBlock:
        """The i-th layer that :meth:`begin` left, with the active handlers at its seams.

        The caller passes ``progress.rows`` on, and sets ``progress.x`` and ``progress.rows`` to the
        input of the next layer.
        """
        index = progress.first + i
        run = partial(self._run_layer, progress.attention, index)
        return partial(self._run_seam, index, run, progress.state)

    def finish(self, progress: TextProgress, x: Tensor | None = None) -> dict[str, Tensor]:
        """The language dict, once all layers have run.

        Args:
            x: (B, L, d), replaces the last layer's output.

        Returns:
            ``embedded`` (B, L, d), ``masks`` as given, ``hidden`` (B, L, d). For masks (B, L), both
            features are zero at padding. (In MMDetection ``hidden`` is not, but nothing valid
            depends on it.)
        """
        outputs = list(progress.outputs)
        if x is not None:
            outputs[-1] = x
        count = self.num_layers_of_embedded
        # GLIP was trained with this second division by the count.
        embedded = torch.stack(outputs[-count:], 1).mean(1) / count
        hidden, mask = outputs[-1], progress.inputs["attention_mask"]
        if mask.dim() == 2:
            valid = mask.unsqueeze(-1).to(hidden.dtype)
            embedded, hidden = embedded * valid, hidden * valid
        return {"embedded": embedded, "masks": mask, "hidden": hidden}

    def _embed(self, x: dict[str, Any], state: ForwardState) -> tuple[Tensor, Rows]:
        """Embeddings (B, L, d) of the tokens, and those of the rows that follow them.

        A caption's rows take the positions after its own last token, not after the padding, so that
        its features do not depend on the other captions of the batch.
        """
        embeddings = self.model.embeddings
        hidden = embeddings(
            input_ids=x["input_ids"],
            position_ids=x["position_ids"],
            token_type_ids=x["token_type_ids"],
        )
        rows = self.row_seam.rows(state)
        if not rows:
            return hidden, {}
        position = x["token_mask"].sum(dim=1, keepdim=True)  # (B, 1), the first free one
        dtype = embeddings.word_embeddings.weight.dtype
        vectors = {
            key: row.values.expand(len(hidden), -1, -1).to(dtype) for key, row in rows.items()
        }
        longest, added = int(position.max()), sum(v.shape[1] for v in vectors.values())
        limit = self.model.config.max_position_embeddings
        if longest + added > limit:
            raise ValueError(
                f"a caption of {longest} tokens with {added} prompt vectors after it needs"
                f" {longest + added} positions, but the text encoder has {limit}: use fewer prompt"
                " vectors or shorter captions"
            )
        embedded: Rows = {}
        for key, values in vectors.items():
            count = values.shape[1]
            positions = position + torch.arange(count, device=position.device)  # (B, p)
            out = embeddings(
                inputs_embeds=values,
                position_ids=positions,
                token_type_ids=torch.zeros_like(positions),
            )
            embedded[key] = PromptRows(out, keep=rows[key].keep)
            position = position + count
        return hidden, embedded

    def _run_seam(
        self, index: int, run: RunBlock, state: ForwardState, x: Tensor, rows: Rows
    ) -> tuple[Tensor, Rows]:
        return self.block_seams[index].run(run, x, rows, state)

    def _run_layer(
        self, masks: AttentionMasks, index: int, x: Tensor, rows: Rows
    ) -> tuple[Tensor, Rows]:
        """A layer without the handlers around it, on tokens (B, L, d) and rows."""
        layer = self.model.encoder.layer[index]
        changes = self.attention_seams[index].settled(), self.ffn_seams[index].settled()
        sequence = join(x, rows)
        mask = masks.with_rows(sequence.shape[1] - x.shape[1])
        if self.use_checkpoint and torch.is_grad_enabled():
            out = recompute(layer, sequence, mask, *changes)
        else:
            out = layer(sequence, mask, *changes)
        return split(out, rows)
