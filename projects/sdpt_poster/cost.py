"""The cost of one model: parameters, and multiply-adds of one image with one caption."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmsdpt.hosts.glip.deform_conv import ModulatedDeformConv2d
from mmsdpt.utils.errors import InputError

from .macs import REST, MacCounter
from .meta import MetaRun, build_on_meta
from .module_macs import ModuleCounter

_MAX_CLASSES = 80  # COCO's
_PARTS = {
    "VLFuse": "X-MHA",
    "BertEncoderLayer": "fused text layers",
    "DyConv": "dynamic convolution",
}


@dataclass(frozen=True)
class ModelCost:
    """What a model costs.

    Attributes:
        trainable: Parameters that train.
        total: Parameters in effect: of the host and of the methods. What takes a parameter's place
            is not counted twice.
        macs: Multiply-adds of the plain form: the published GLIP, plus what the methods add.
        poster_macs: The same as the poster counts it (:mod:`projects.sdpt_poster.module_macs`).
        executed_macs: Multiply-adds that our form executes; constants are computed before.
        parts: Multiply-adds of the plain form without methods, by part.
    """

    trainable: int
    total: int
    macs: int
    poster_macs: int
    executed_macs: int
    parts: Mapping[str, int] = field(repr=False)

    @property
    def share(self) -> float:
        """Trainable parameters of all, in percent."""
        return 100 * self.trainable / self.total


@dataclass(frozen=True)
class _Counts:
    macs: int
    poster_macs: int
    parts: Mapping[str, int]


class CostMeter:
    """Measures models of one image size and caption length.

    What models have in common, a host without methods, is counted once.

    Args:
        use_plain_fusion: Replaces the re-associated X-MHA of a model by the plain form, in place.
        size: Height and width of the image, pixels.
        tokens: Length of the caption, tokens.
    """

    def __init__(
        self,
        use_plain_fusion: Callable[[nn.Module], None],
        size: tuple[int, int] = (800, 800),
        tokens: int = 256,
    ) -> None:
        self.use_plain_fusion = use_plain_fusion
        self.size, self.tokens = size, tokens
        self._run = MetaRun()
        self._bases: dict[str, tuple[_Counts, _Counts]] = {}
        self._captions = itertools.count()

    def measure(self, config: Mapping[str, Any]) -> ModelCost:
        """Cost of a model.

        Args:
            config: Of the model, a GLIP with or without methods.

        Raises:
            InputError: if the caption is longer than the text encoder takes.
        """
        with self._run, torch.no_grad():
            model = self._build(config)
            trainable, total = count_parameters(model)
            _put_stand_ins(model)
            self._pass(model, (64, 64), tokens=4)  # what is computed once, is now
            executed = self._count(model)
            self.use_plain_fusion(model)
            tuned = self._count(model)
            plain, base = self._base(config)
        return ModelCost(
            trainable=trainable,
            total=total,
            macs=plain.macs + tuned.macs - base.macs,
            poster_macs=plain.poster_macs + tuned.poster_macs - base.poster_macs,
            executed_macs=executed.macs,
            parts=plain.parts,
        )

    def _base(self, config: Mapping[str, Any]) -> tuple[_Counts, _Counts]:
        """The published form, and our encoders with plain X-MHA; both without methods."""
        config = {k: v for k, v in config.items() if k not in ("tuner", "tuners", "trainable")}
        key = repr(config)
        if key not in self._bases:
            backbone = dict(config["backbone"])
            backbone["type"] = backbone["type"].rpartition(".")[2]  # the toolbox's own
            counts = []
            for one in ({**config, "backbone": backbone}, config):
                model = self._build(one)
                _put_stand_ins(model)
                self.use_plain_fusion(model)
                counts.append(self._count(model))
            self._bases[key] = (counts[0], counts[1])
        return self._bases[key]

    def _build(self, config: Mapping[str, Any]) -> nn.Module:
        settings = copy.deepcopy(dict(config))
        settings["language_model"] = {**settings["language_model"], "pretrained": False}
        model = build_on_meta(settings)
        limit = model.language_model.max_tokens
        if not 3 <= self.tokens <= limit:
            raise InputError(f"the caption must have 3 to {limit} tokens, got {self.tokens}")
        return model

    def _count(self, model: nn.Module) -> _Counts:
        with ModuleCounter(model) as modules, MacCounter(_parts(model)) as counter:
            self._pass(model, self.size, self.tokens)
        return _Counts(counter.total, modules.total, dict(counter.by_part))

    def _pass(self, model: nn.Module, size: tuple[int, int], tokens: int) -> None:
        # Every time other words: the features of a caption are remembered.
        names = class_names(model.language_model.tokenizer, tokens, next(self._captions))
        sample = DetDataSample(metainfo=dict(text=names, custom_entities=True, img_shape=size))
        images: Tensor = torch.empty(1, 3, *size, device="meta")
        model(images, [sample], mode="tensor")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable parameters, and all that are in effect: what a method replaces is not."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    replaced = sum(
        seam.value().numel()
        for seam in model.seams().get("parameters", ())
        if seam.replaced_in_training()
    )
    return trainable, total - replaced


def class_names(tokenizer: Any, tokens: int, variant: int = 0) -> tuple[str, ...]:
    """Class names whose caption has exactly ``tokens`` tokens; at most 80, as COCO has.

    Args:
        tokenizer: Of the text encoder.
        tokens: Length of the caption with its two special tokens.
        variant: Another word each time, as far as the vocabulary goes.
    """
    words = [
        word
        for word in sorted(tokenizer.get_vocab())
        if len(word) > 1 and word.isascii() and word.isalpha() and word.islower()
    ]
    word = words[variant % len(words)]
    count = min(_MAX_CLASSES, (tokens - 1) // 2)
    # The caption is [CLS] name . name . ... name [SEP].
    share, longer = divmod(tokens - 2 - (count - 1), count)
    names = tuple(" ".join([word] * (share + (i < longer))) for i in range(count))
    found = len(tokenizer(". ".join(names)).input_ids)
    if found != tokens:
        raise InputError(
            f"the tokenizer gives {found} tokens for a caption of {tokens} words and signs: it"
            f" splits the word {word!r}"
        )
    return names


def _parts(model: nn.Module) -> dict[nn.Module, str]:
    """Label by module."""
    found = {
        model.backbone: "image encoder",
        model.neck: "neck",
        model.language_model: "text encoder",
    }
    for layer in model.bbox_head.head.dyhead_tower:
        found[layer] = _PARTS.get(type(layer).__name__, REST)
    return found


class DeformableProduct(nn.Module):
    """A deformable convolution without its sampling, which has no products that count: most of
    the operations of a pass.
    """

    def __init__(self, conv: ModulatedDeformConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        conv = self.conv
        height, width = (
            (x.shape[2 + i] + 2 * conv.padding[i] - conv.kernel_size[i]) // conv.stride[i] + 1
            for i in (0, 1)
        )
        weight = conv.weight.flatten(1)
        samples = x.new_empty(len(x), height, width, weight.shape[1])
        return F.linear(samples, weight, conv.bias).permute(0, 3, 1, 2)


def _put_stand_ins(model: nn.Module) -> None:
    """Replace what takes long on the meta device, and has no products that count, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is ModulatedDeformConv2d:
                setattr(module, name, DeformableProduct(child))
