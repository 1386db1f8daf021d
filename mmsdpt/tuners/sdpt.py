r"""SDPT: Synchronous Dual Prompt Tuning (Zhou et al., ECCV 2024).

For every fusion layer one set of k prototype tokens Z (k x E) in the joint space of the two
modalities. Inverse projections, computed from the frozen weights, send the same tokens to both
sides:

    P_v = (Z - b_v) (W_v^T)^+        P_l = (Z - b_l) (W_l^T)^+

They are appended to the layer-normed image and text features as extra keys and values of X-MHA;
their own outputs are dropped, so tokens do not travel between layers. Only Z trains: n k E
parameters, 163,840 on GLIP-L with k = 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsdpt.hosts.seams import FusionSeam, FusionTokens, Seam
from mmsdpt.registry import MODELS
from mmsdpt.utils.versions import tensor_versions

from .base import Tuner
from .layers import InverseProjection, PrototypeTokens

SIDES = ("image", "text")


@MODELS.register_module()
class SDPT(Tuner):
    """Prototype tokens with inverse projections at the fusion layers.

    Args:
        num_tokens: k, tokens per layer.
        layers: Fusion layers that get tokens, by index; negative ones count from the last. None:
            all.
        sides: ``dual``, or only ``image`` or only ``text``: the branch that receives projected
            tokens.
        share: One Z for both sides (the method) or one for each (the poster's "unshared prototype
            tokens").
        projection: ``inverse`` (the method), or ``learnable``: a Linear E to D with bias per layer
            and side, trained.
        init: How Z is drawn: ``uniform`` U(-s, s), ``normal`` N(0, s^2) or ``zeros``, with s =
            ``init_scale``.
        init_scale: See ``init``.
        mask_text_tokens: Hide the text's tokens from the image queries, as the authors' released
            code does. What is left of them has no effect, so this equals ``sides='image'``; the
            paper's method is False.
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: on settings under which part of the tokens could not train.
    """

    needs = ("fusion",)

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 10,
        layers: Sequence[int] | None = None,
        sides: str = "dual",
        share: bool = True,
        projection: str = "inverse",
        init: str = "uniform",
        init_scale: float = 1.0,
        mask_text_tokens: bool = False,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(seams=seams, frozen=frozen, init_cfg=init_cfg)
        points = cast(Sequence[FusionSeam], seams["fusion"])
        self.layers = _resolve_layers(layers, len(points))
        if sides not in ("dual", *SIDES):
            raise ValueError(f"sides must be dual, image or text, got {sides!r}")
        if projection not in ("inverse", "learnable"):
            raise ValueError(f"projection must be inverse or learnable, got {projection!r}")
        if mask_text_tokens and (sides == "text" or not share):
            raise ValueError(
                "mask_text_tokens=True leaves the text side's tokens without any gradient: use"
                " sides='image'"
            )
        if not share and sides != "dual":
            raise ValueError(
                f"share=False gives each side its own tokens and needs sides='dual', got {sides!r}"
            )
        self.num_tokens, self.sides, self.share, self.projection = (
            num_tokens,
            sides,
            share,
            projection,
        )
        self.mask_text_tokens = mask_text_tokens
        self.synchronous_sides: tuple[str, ...] = (
            SIDES  # sides whose gradient reaches the tokens; see set_phase
        )

        self.widths = [points[layer].widths for layer in self.layers]
        self.joint = self.widths[0]["joint"]
        if any(widths["joint"] != self.joint for widths in self.widths):
            raise ValueError(
                "SDPT needs one joint width in all of its layers, got"
                f" {[widths['joint'] for widths in self.widths]}"
            )

        def make_tokens() -> PrototypeTokens:
            return PrototypeTokens(len(self.layers), num_tokens, self.joint, init, init_scale)

        if share:
            self.tokens = make_tokens()
        else:
            self.tokens = nn.ModuleDict({side: make_tokens() for side in SIDES})
        self.projections = nn.ModuleDict(
            {
                side: nn.ModuleList(self._make_projection(w, side) for w in self.widths)
                for side in self.used_sides
            }
        )
        self._constants: dict[int, tuple[tuple, FusionTokens]] = {}
        for i, layer in enumerate(self.layers):
            points[layer].connect(self, _LayerHandler(self, i))

    @property
    def used_sides(self) -> tuple[str, ...]:
        """Sides that receive tokens with an effect."""
        if self.sides == "dual" and not self.mask_text_tokens:
            return SIDES
        return (self.sides,) if self.sides != "dual" else ("image",)

    def _make_projection(self, widths: Mapping[str, int], side: str) -> nn.Module:
        if self.projection == "inverse":
            return InverseProjection(widths["joint"], widths[side])
        return nn.Linear(widths["joint"], widths[side])

    def set_phase(self, *sides: str) -> None:
        """Let only these sides' gradients reach the tokens (the asynchronous ablation); both again
        without arguments.
        """
        unknown = set(sides) - set(SIDES)
        if unknown:
            raise ValueError(f"sides are {' and '.join(SIDES)}, got {sorted(unknown)}")
        if sides and not set(sides) & set(self.used_sides):
            raise ValueError(
                f"nothing would train in the phase {' and '.join(sides)}: these tokens act on the"
                f" {' and '.join(self.used_sides)} side"
            )
        self.synchronous_sides = sides or SIDES

    def fusion_tokens(self, i: int, seam: FusionSeam) -> FusionTokens:
        """Tokens of the i-th chosen layer for both sides; without gradients they are constants,
        computed once.
        """
        if torch.is_grad_enabled():
            return self._project(i, seam)
        sources = [
            *self.parameters(),
            *(p for linear in seam.projections.values() for p in linear.parameters()),
        ]
        key = tensor_versions(sources)
        if i not in self._constants or self._constants[i][0] != key:
            self._constants[i] = (key, self._project(i, seam))
        return self._constants[i][1]

    def _project(self, i: int, seam: FusionSeam) -> FusionTokens:
        return FusionTokens(**{side: self._project_side(i, side, seam) for side in self.used_sides})

    def _project_side(self, i: int, side: str, seam: FusionSeam) -> Tensor:
        tokens = (self.tokens if self.share else self.tokens[side])(i)
        if side not in self.synchronous_sides:
            tokens = tokens.detach()
        projection = self.projections[side][i]
        return (
            projection(tokens, seam.projections[side])
            if self.projection == "inverse"
            else projection(tokens)
        )

    def config(self) -> dict[str, Any]:
        return dict(
            num_tokens=self.num_tokens,
            layers=list(self.layers),
            sides=self.sides,
            share=self.share,
            projection=self.projection,
            mask_text_tokens=self.mask_text_tokens,
        )

    def num_trainable(self) -> int:
        """n k E for shared tokens, twice that unshared; learnable projections add n (E + 1) D per
        side.
        """
        count = len(self.layers) * self.num_tokens * self.joint * (1 if self.share else 2)
        if self.projection == "learnable":
            for widths in self.widths:
                count += sum((self.joint + 1) * widths[side] for side in self.used_sides)
        return count


class _LayerHandler:
    """Callable that a seam keeps: a class and no closure, so that a model can be copied and
    pickled.
    """

    def __init__(self, tuner: SDPT, i: int) -> None:
        self.tuner, self.i = tuner, i

    def __call__(self, seam: FusionSeam) -> FusionTokens:
        return self.tuner.fusion_tokens(self.i, seam)


def _resolve_layers(layers: Sequence[int] | None, available: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(available))
    resolved = [layer + available if layer < 0 else layer for layer in layers]
    if (
        not resolved
        or len(set(resolved)) != len(resolved)
        or not all(0 <= layer < available for layer in resolved)
    ):
        raise ValueError(
            f"layers must be distinct indices into {available} fusion layers, got {list(layers)}"
        )
    return tuple(sorted(resolved))
