"""What reaches the text encoder, its weights, and ways to change them."""

from __future__ import annotations

import shutil
from functools import partial

import torch
from safetensors.torch import save_file
from torch import nn

from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.utils.language_models import mini_bert_folder


class Spy:
    """Counts the captions that reach the encoder."""

    def __init__(self, model: BertModel) -> None:
        self.encoded = 0
        model.language_backbone.register_forward_pre_hook(self._count)

    def _count(self, module, args) -> None:
        self.encoded += len(args[0]["input_ids"])


def first_weight(model: BertModel) -> nn.Parameter:
    return model.language_backbone.body.model.encoder.layer[0].attention.self.value.weight


def save_folder(model: BertModel, folder, safe: bool = True) -> None:
    state = model.language_backbone.body.model.state_dict()
    if safe:
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, f"{folder}/pytorch_model.bin")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(f"{mini_bert_folder()}/{name}", folder)


@torch.no_grad()
def in_place(module: nn.Module) -> None:
    next(module.parameters()).mul_(1.5)


def loaded(module: nn.Module, assign: bool = False) -> None:
    module.load_state_dict({k: v * 1.5 for k, v in module.state_dict().items()}, assign=assign)


def stepped(module: nn.Module) -> None:
    weight = next(module.parameters())
    weight.grad = torch.randn_like(weight)
    torch.optim.SGD([weight], lr=0.5).step()


CHANGES = (in_place, loaded, partial(loaded, assign=True), stepped)
