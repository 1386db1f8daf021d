"""A method that keeps every promise of the contract, and methods that break one each."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.tuners import Tuner


class Shift(Tuner):
    """A method that keeps every promise: a learned offset of the text features."""

    needs = ("text_features",)
    zero_init: ClassVar[bool] = True

    def __init__(self, *, seams, frozen: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        (point,) = seams["text_features"]
        self.width = point.widths["width"]
        self.offset = nn.Parameter(torch.zeros(self.width))
        point.connect(self, self.shift)

    def shift(self, seam, features: dict) -> dict:
        return {**features, "hidden": features["hidden"] + self.change(features["hidden"])}

    def change(self, hidden: Tensor) -> Tensor:
        return self.offset

    def config(self) -> dict:
        return dict(width=self.width)

    def num_trainable(self) -> int:
        return self.width


class TrainsTheHost(Shift):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.host = [seam.value() for seam in kwargs["seams"]["parameters"][-1:]]

    def change(self, hidden):
        if self.training:
            self.host[0].data.add_(1e-3)
        return super().change(hidden)


class HasAnIdleParameter(Shift):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.idle = nn.Parameter(torch.zeros(1))

    def num_trainable(self):
        return self.width + 1


class Climbs(Shift):
    def change(self, hidden):
        return 2 * self.offset.detach() - self.offset


class CountsStepsAside(Shift):
    steps = 0

    def change(self, hidden):
        self.steps += self.training
        return self.offset * (1 + self.steps)


class OverflowsInBf16(Shift):
    def change(self, hidden):
        small = torch.mm(torch.ones(1, 1), torch.full((1, 1), 1.001)) - 1
        return self.offset / small


class ClaimsToStartAtTheBase(Shift):
    def change(self, hidden):
        return self.offset + 1e-3


class StartsAtTheBaseWithoutSaying(Shift):
    zero_init = False


class StaysWhenSwitchedOff(Shift):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        kwargs["seams"]["text_features"][0].connect(_AlwaysOn(), self.shift)


class _AlwaysOn:
    enabled, frozen, training = True, False, False


class ClaimsThatImagesDependOnText(Shift):
    image_depends_on_text = True


class MixesTheBatch(Shift):
    def change(self, hidden):
        return self.offset * hidden.mean()


class KeepsAStateAside(Shift):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.direction = torch.randn(self.width)

    def change(self, hidden):
        return self.offset * self.direction


class ConnectsALambda(Shift):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.point = kwargs["seams"]["text_features"][0]
        self.point.connect(self, lambda seam, features: features)


class CountsForOneHost(Shift):
    def num_trainable(self):
        return 128


class Miscounts(Shift):
    def num_trainable(self):
        return 1


class NeedsMoreThanItSays(Shift):
    def __init__(self, *, seams, **kwargs) -> None:
        super().__init__(seams=seams, **kwargs)
        self.point = seams["fusion"][0]


class NeedsNothing(Shift):
    needs = ()


class MergesNothing(Shift):
    mergeable = True

    def merge(self):
        self.enabled = False


class DropsOutWhenFrozen(Shift):
    def change(self, hidden):
        return F.dropout(self.offset, training=self.frozen or self.training)
