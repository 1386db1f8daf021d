"""A text encoder of few parameters, as a host of its own, for methods that act on the text."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.grounding.bert_modules import Bert
from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.hosts.seams import ForwardState, SeamMap
from tests.hosts.full_size import VOCABULARY, bert_folder
from tests.shake import shake

WIDTH, DEPTH, MAX_TOKENS, POSITIONS = 12, 2, 24, 40
CAPTIONS = ["striped blue star. red circle", "raccoon", "a cow that is brown. penguin"]


def make_folder(folder: Path) -> Path:
    return bert_folder(
        folder,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
    )


class TextHost(TunableMixin, nn.Module):
    """The text encoder in float64, with weights that all matter.

    Args:
        folder: See :func:`make_folder`.
        tuner: Config of one tuner.
        tuners: Configs of several.
    """

    def __init__(self, folder: Path, tuner=None, tuners=None) -> None:
        super().__init__()
        self.language_model = BertModel(name=str(folder), max_tokens=MAX_TOKENS, pretrained=False)
        torch.manual_seed(1)
        shake(self, 0.1)
        self._attach_tuners(tuner, tuners, None)
        self.double().eval()

    @property
    def bert(self) -> Bert:
        """The encoder's modules."""
        return self.language_model.language_backbone.body.model

    def parameter_group(self, name: str) -> str:
        return "text" if name.startswith("language_model.") else super().parameter_group(name)

    def seams(self) -> SeamMap:
        return SeamMap(
            "TextHost", {**self.language_model.seams(), "parameters": self._parameter_seams}
        )

    def forward(self, captions) -> dict[str, torch.Tensor]:
        with self.tuned():
            return self.language_model(captions, state=ForwardState(captions=captions))

    def tokens(self, captions) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of the captions, each (B, L)."""
        found = self.language_model.tokenizer(list(captions), padding=True, return_tensors="pt")
        return found.input_ids, found.attention_mask


def assert_same_text(found, expected, mask) -> None:
    """Equal at real tokens."""
    for a, b in zip(found[mask.bool()], expected[mask.bool()], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
