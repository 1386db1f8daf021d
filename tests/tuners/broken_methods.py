"""A method that keeps every promise of the contract, and methods that break one each."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.tuners import Tuner


class Shift(Tuner):
    """A method that keeps every promise: a learned offset of the text features."""

    needs = ("text_features",)
    place: ClassVar[str] = "text_features"
    zero_init: ClassVar[bool] = True

    def __init__(self, *, seams, frozen: bool = False, init_cfg: dict | None = None) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        (point,) = seams[self.place]
        self.width = point.widths["width"]
        self.offset = nn.Parameter(torch.zeros(self.width))
        point.connect(self, self.shift)

    def shift(self, seam, features: Any) -> Any:
        return {**features, "hidden": features["hidden"] + self.change(features["hidden"])}

    def change(self, hidden: Tensor) -> Tensor:
        return self.offset

    def config(self) -> dict:
        return dict(width=self.width)

    def num_trainable(self) -> int:
        return self.width


class ShiftPooledText(Shift):
    """The same on a host that compares pooled features."""

    needs = ("pooled_text",)
    place = "pooled_text"

    def shift(self, seam, features: Tensor) -> Tensor:
        return features + self.change(features)


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


# ---------------------------------------------------------------------- hosts that classify


class OverflowsInFp16(ShiftPooledText):
    def change(self, hidden):
        large = torch.mm(torch.ones(1, 2), torch.full((2, 1), 60000.0))
        return self.offset * (large - large.detach())


class ForgetsWhatItWasTrainedFor(ShiftPooledText):
    """Keeps a change of the features that was computed with other parameters."""

    kept: Tensor | None = None

    def change(self, hidden):
        if self.kept is None or torch.is_grad_enabled():
            self.kept = 2 * self.offset
        return self.kept


class KeepsClassesAside(ShiftPooledText):
    """Has a row for each of the classes that it saw first."""

    rows: int | None = None

    def change(self, hidden):
        self.rows = self.rows or len(hidden)
        return self.offset.expand(self.rows, -1)


class CountsRecomputations(ShiftPooledText):
    """Depends on how often its place was passed."""

    needs = ("text_block_inputs",)
    place = "text_block_inputs"
    passes = 0

    def __init__(self, *, seams, **kwargs) -> None:
        Tuner.__init__(self, seams=seams, **kwargs)
        self.point = seams["text_block_inputs"][1]
        self.width = self.point.widths["width"]
        self.offset = nn.Parameter(torch.zeros(self.width))
        self.point.connect(self, self.shift_tokens)

    def shift_tokens(self, seam, x, state):
        self.passes += 1
        return x + self.offset * (1 + self.passes)


class ClaimsThatTextsDependOnImages(ShiftPooledText):
    text_depends_on_image = True


class ClaimsThatItsTextsAreForAll(ShiftPooledText):
    needs = ("pooled_text", "pooled_image")

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        kwargs["seams"]["pooled_image"][0].connect(self, self.look)

    def look(self, seam, features):
        self.seen = features.mean(dim=0).detach()
        return features

    def change(self, hidden):
        return self.offset + 0.01 * self.seen


class SharesItsCopysParameters(ShiftPooledText):
    def __deepcopy__(self, memo):
        return self
