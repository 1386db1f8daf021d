"""What reaches the text encoder."""

from __future__ import annotations

from mmsdpt.hosts.grounding.text import BertModel


class Spy:
    """Counts the captions that reach the encoder."""

    def __init__(self, model: BertModel) -> None:
        self.encoded = 0
        model.language_backbone.register_forward_pre_hook(self._count)

    def _count(self, module, args) -> None:
        self.encoded += len(args[0]["input_ids"])
