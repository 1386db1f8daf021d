"""A small BERT with dropout whose parameters all matter, and a tuner for each kind of seam."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mmsdpt.hosts.grounding.bert_modules import Bert
from mmsdpt.hosts.grounding.seams import WordSeam
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.hosts.seams import BlockSeam, FeatureSeam, ForwardState, PromptRows, Rows
from mmsdpt.tuners.base import Tuner
from tests.hosts.full_size import VOCABULARY, bert_folder
from tests.shake import shake

CAPTIONS = ["striped blue star. red circle", "raccoon", "a cow that is brown. penguin"]
WIDTH, HEADS, DEPTH, POSITIONS, DROPOUT = 24, 3, 3, 40, 0.2


def small_bert_folder(folder: Path) -> Path:
    return bert_folder(
        folder,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=40,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        initializer_range=0.3,
    )


def small_bert(folder: Path, **kwargs) -> BertModel:
    """In float64 and eval mode; biases are not zero, nor norms one."""
    torch.manual_seed(1)
    model = BertModel(name=str(folder), max_tokens=24, pretrained=False, **kwargs)
    shake(model, 0.1)
    return model.double().eval()


def bert(model: BertModel) -> Bert:
    return model.language_backbone.body.model


def close(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def draw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


class Words(Tuner):
    """CoOp's mechanism: word vectors after the caption."""

    def __init__(self, *, count: int = 2, keep: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.words = draw(count, WIDTH)
        self.states: list[ForwardState] = []
        kwargs["seams"]["text_embeddings"][0].connect(self, self.rows)

    def rows(self, seam: WordSeam, state: ForwardState) -> Rows:
        self.states.append(state)
        return {self: PromptRows(self.words, keep=self.keep)}


class CaptionWords(Words):
    """Word vectors that depend on the caption, (B, p, d)."""

    def rows(self, seam: WordSeam, state: ForwardState) -> Rows:
        found = [seam.word_vectors(caption).mean(0) for caption in state.captions]
        values = self.words + torch.stack(found).unsqueeze(1)
        return {self: PromptRows(values, keep=self.keep)}


class Deep(Tuner):
    """Rows that are replaced in every layer from ``start`` on."""

    def __init__(self, *, count: int = 2, start: int = 0, keep: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.prompts = draw(DEPTH, count, WIDTH)
        self.seen: list[list] = []
        for seam in kwargs["seams"]["text_blocks"][start:]:
            seam.connect(self, self.run)

    def run(self, seam: BlockSeam, block, x: Tensor, rows: Rows, state: ForwardState):
        self.seen.append(list(rows))
        prompt = PromptRows(self.prompts[seam.widths["position"]], keep=self.keep)
        return block(x, {**rows, self: prompt})


class From(Deep):
    """Rows that join at one layer, without any norm, and travel on."""

    def run(self, seam: BlockSeam, block, x: Tensor, rows: Rows, state: ForwardState):
        if self in rows:
            assert rows[self].values.shape == (len(x), 2, WIDTH) and rows[self].keep
            return block(x, rows)
        return block(x, {**rows, self: PromptRows(self.prompts[0], keep=True)})


class Adapter(Tuner):
    """h + s h W, one W per place."""

    def __init__(self, *, kinds=("text_attention_outputs", "text_ffn_outputs"), **kwargs) -> None:
        super().__init__(**kwargs)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
        self.weights = nn.ParameterDict({kind: draw(DEPTH, WIDTH, WIDTH) for kind in kinds})
        self.shapes: list[tuple[int, ...]] = []
        for kind in kinds:
            for seam in kwargs["seams"][kind]:
                seam.connect(self, self.change)

    def change(self, seam: FeatureSeam, h: Tensor) -> Tensor:
        self.shapes.append(tuple(h.shape))
        return h + self.scale * self.drop(h) @ self.weights[seam.kind][seam.index]


class Offset(Tuner):
    """GLIP's prompt tuning: an offset of the language features."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        seam = kwargs["seams"]["text_features"][0]
        self.offset = draw(seam.widths["max_tokens"], seam.widths["width"])
        seam.connect(self, self.change)

    def change(self, seam: FeatureSeam, features: dict[str, Tensor]) -> dict[str, Tensor]:
        length = features["hidden"].shape[1]
        return {**features, "hidden": features["hidden"] + self.offset[:length]}


def attach(tuner: type[Tuner], model: BertModel, **kwargs) -> Tuner:
    return tuner(seams=model.seams(), **kwargs).eval()
