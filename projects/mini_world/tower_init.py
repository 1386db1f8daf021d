"""Initialisation for training GLIP's head from scratch."""

from __future__ import annotations

import torch
from mmengine.model import BaseInit
from torch import nn

from mmsdpt.hosts.glip.dyconv import DyConv
from mmsdpt.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class IdentityTowerInit(BaseInit):
    """Let every dynamic convolution pass its own level on.

    The convolutions of GLIP's head have no residual connection. Drawn at random, three of them
    halve what a linear probe reads of an object's colour. Here the convolution over the own level
    starts as the identity plus noise, and the neighbouring levels' share starts small. A small
    learning rate on these convolutions must keep that until words are grounded: at the rate of the
    rest, finding objects wipes out within a hundred steps what tells them apart.

    Args:
        std: Standard deviation of the noise.
        neighbours: Initial scale of the neighbouring levels' normalised features.
    """

    def __init__(self, std: float = 0.02, neighbours: float = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.std = std
        self.neighbours = neighbours

    def __call__(self, module: nn.Module) -> None:
        for part in module.modules():
            if isinstance(part, DyConv):
                self._initialise(part)

    @torch.no_grad()
    def _initialise(self, block: DyConv) -> None:
        for conv in block.dyconvs:
            conv.conv.weight.normal_(std=self.std)
        own = block.dyconvs[1].conv.weight  # (O, C, 3, 3)
        height, width = own.shape[2] // 2, own.shape[3] // 2
        own[:, :, height, width] += torch.eye(*own.shape[:2])
        for neighbour in (block.dyconvs[0], block.dyconvs[2]):
            if neighbour.bn is not None:
                neighbour.bn.weight.fill_(self.neighbours)
