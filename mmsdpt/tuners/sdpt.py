r"""SDPT: Synchronous Dual Prompt Tuning (Zhou et al., ECCV 2024).

For every fusion layer one set of k prototype tokens Z (k x E) in the joint space of the two
modalities. Inverse projections, computed from the frozen weights, send the same tokens to both
sides:

    P_v = (Z - b_v) (W_v^T)^+        P_l = (Z - b_l) (W_l^T)^+        (W^T)^+ = W (W^T W)^{-1}

They are appended to the layer-normed image and text features as extra keys and values of X-MHA;
their own outputs are dropped, so tokens do not travel between layers. Only Z trains: n k E
parameters, 163,840 on GLIP-L with k = 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import FusionSeam, FusionTokens
from mmsdpt.registry import MODELS
from mmsdpt.utils.memo import Memo

from .base import Seams, Tuner
from .layers.common import part_class, positive_integer

SIDES = ("image", "text")
INITS = ("uniform", "normal", "zeros")
PROJECTIONS = dict(inverse="mmsdpt.InverseProjection", learnable="mmsdpt.LearnableProjection")
# Bounds on the squared condition number of a projection's weight, see _pseudo_inverse: float64's
# rounding times the first is 1e-10, and the second's square still is 1e-12.
REFINE_ABOVE, DECOMPOSE_ABOVE = 1e6, 1e10


@MODELS.register_module()
class PrototypeTokens(BaseModule):
    """One set of k tokens of joint width E per fusion layer.

    Args:
        num_layers: Number of layers n that have tokens.
        num_tokens: k.
        width: E.
        init: ``uniform`` draws from U(-scale, scale) (SDPT), ``normal`` from N(0, scale^2),
            ``zeros``.
        init_scale: See ``init``.

    Shape:
        ``forward(i)`` gives the i-th layer's (k, E).
    """

    def __init__(
        self,
        num_layers: int,
        num_tokens: int,
        width: int,
        init: str = "uniform",
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        positive_integer("num_tokens", num_tokens)
        positive_integer("num_layers", num_layers)
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        if init_scale <= 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        self.weight = nn.Parameter(torch.zeros(num_layers, num_tokens, width))
        if init == "uniform":
            nn.init.uniform_(self.weight, -init_scale, init_scale)
        elif init == "normal":
            nn.init.normal_(self.weight, std=init_scale)

    def forward(self, layer: int) -> Tensor:
        return self.weight[layer]


@MODELS.register_module()
class InverseProjection(BaseModule):
    """P = (Z - b) (W^T)^+, the inverse projection of one linear layer, kept current as the layer's
    weights change.

    It is an inverse only on the image of the projection, the least-squares solution: projecting P
    back gives the component of Z - b in the row space of W^T (rank D of E), plus b, and not Z.

    The pseudo-inverse is computed once in float64, at the first use after the weights are loaded,
    and again whenever they change: it is a constant of the base model, no state of the tuner.

    Args:
        in_features: E, width of the joint space.
        out_features: D, width of the modality.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if in_features < out_features:
            raise ValueError(
                f"a projection from width {out_features} into width {in_features} has no inverse"
                " projection: the joint width must be at least the modality's"
            )
        self.in_features, self.out_features = in_features, out_features
        self._pinv: Memo[Tensor] = Memo()

    def forward(self, tokens: Tensor, projection: nn.Linear) -> Tensor:
        """Send joint tokens to a modality.

        Args:
            tokens: (k, E).
            projection: The modality's layer into the joint space, weight (E, D).

        Returns:
            (k, D), differentiable in ``tokens``.

        Raises:
            ValueError: if the weight does not have full rank D.
        """
        if tokens.is_meta:  # without values there is nothing to invert, but there is a shape
            return torch.matmul(tokens, tokens.new_empty(self.in_features, self.out_features))
        pinv, bias = self.pinv(projection, tokens.dtype), projection.bias.detach().to(tokens.dtype)
        # A least-squares solution is no place for 8 bits.
        with torch.autocast(tokens.device.type, enabled=False):
            return torch.matmul(tokens - bias, pinv)

    def pinv(self, projection: nn.Linear, dtype: torch.dtype) -> Tensor:
        """(W^T)^+ of the layer's present weight, (E, D)."""
        weight = projection.weight
        return self._pinv.depend_on([weight]).get(dtype, lambda: _pseudo_inverse(weight).to(dtype))


def _pseudo_inverse(weight: Tensor) -> Tensor:
    """(W^T)^+ = W (W^T W)^-1 (E, D) of W (E, D), in float64, to 1e-9 of its largest entry.

    Cholesky's factor of the Gram matrix G = W^T W needs a ninth of a singular value decomposition's
    time, but its error grows with the square of W's condition number, which is at most
    ||G||_F ||G^-1||_F. The result is refined where that could be seen, and where even this would
    not help, or W could lack full rank, the decomposition decides.

    Raises:
        ValueError: if W does not have full rank D.
    """
    weight = weight.double()
    gram = _lower_gram(weight)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        return _decomposed_pseudo_inverse(weight)
    inverse = torch.cholesky_inverse(factor)
    condition = float(2**0.5 * gram.tril().norm() * inverse.norm())  # squared, from above
    if not condition < DECOMPOSE_ABOVE:
        return _decomposed_pseudo_inverse(weight)
    pinv = torch.matmul(weight, inverse)
    if condition > REFINE_ABOVE:  # Newton's step squares the distance of W^T pinv from 1
        pinv += torch.matmul(pinv, torch.eye(len(gram)).to(pinv) - torch.matmul(weight.T, pinv))
    return pinv


def _lower_gram(weight: Tensor, parts: int = 4) -> Tensor:
    """The lower triangle of W^T W, by blocks of columns; what is above them stays zero."""
    size = weight.shape[1]
    gram = weight.new_zeros(size, size)
    step = math.ceil(size / parts)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        gram[rows, : start + step] = torch.matmul(weight[:, rows].T, weight[:, : start + step])
    return gram


def _decomposed_pseudo_inverse(weight: Tensor) -> Tensor:
    """(W^T)^+ by singular value decomposition, which does not square the condition number."""
    rank = int(torch.linalg.matrix_rank(weight))
    if rank < weight.shape[1]:
        raise ValueError(
            f"the projection's weight {tuple(weight.shape)} has rank {rank}, so that its inverse"
            " projection is not unique: load the pre-trained weights (load_from) before the tuner"
            " is used, or use projection='learnable'"
        )
    return torch.linalg.pinv(weight.T).contiguous()


@MODELS.register_module()
class LearnableProjection(nn.Linear):
    """A trained Linear from E to D in place of the inverse projection: (E + 1) D parameters."""

    def forward(self, tokens: Tensor, projection: nn.Linear) -> Tensor:
        """(k, E) to (k, D); ``projection`` is not used."""
        return super().forward(tokens)


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
        projection: ``inverse`` (the method), ``learnable``, or the config of a registered module of
            your own, which is built with ``in_features=E, out_features=D`` for each layer and side
            and called as :meth:`InverseProjection.forward` is.
        init: How Z is drawn, see :class:`PrototypeTokens`.
        init_scale: See ``init``.
        tokens: Config of a registered module of your own in place of :class:`PrototypeTokens`,
            built with ``num_layers``, ``num_tokens`` and ``width``; it draws its own first values.
        own_words_only: Let the tokens act for the words of the classes that they were trained on,
            and leave other words alone. Without such a word in the caption the model is the one
            without them, bit for bit. A text row of another word does not see the tokens; an image
            row sees them as far as it looks at own words, see
            :func:`mmsdpt.hosts.grounding.fusion.restricted`. Not in the paper, whose tokens act
            under every caption: those forget more of what the model knew.
        mask_text_tokens: Hide the text's tokens from the image queries, as the authors' released
            code does. What is left of them has no effect, so this equals ``sides='image'``; the
            paper's method is False.

    Raises:
        ValueError: on settings under which part of the tokens could not train.
    """

    needs = ("fusion",)
    settings = (
        "num_tokens",
        "layers",
        "sides",
        "share",
        "projection",
        "mask_text_tokens",
        "own_words_only",
    )

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 10,
        layers: Sequence[int] | None = None,
        sides: str = "dual",
        share: bool = True,
        projection: str | Mapping[str, Any] = "inverse",
        init: str = "uniform",
        init_scale: float = 1.0,
        tokens: Mapping[str, Any] | None = None,
        mask_text_tokens: bool = False,
        own_words_only: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        fusions = cast(Sequence[FusionSeam], seams["fusion"])
        self.layers = _resolve_layers(layers, len(fusions))
        self._check(sides, share, projection, mask_text_tokens)
        self.num_tokens, self.sides, self.share = num_tokens, sides, share
        self.projection = projection if isinstance(projection, str) else dict(projection)
        self.mask_text_tokens = mask_text_tokens
        self.own_words_only = self.remembers_classes = own_words_only
        self.used_sides: tuple[str, ...] = SIDES if sides == "dual" else (sides,)
        if mask_text_tokens:
            self.used_sides = ("image",)
        # Sides whose gradient reaches the tokens; see set_phase.
        self.synchronous_sides: tuple[str, ...] = SIDES

        self.widths = [fusions[layer].widths for layer in self.layers]
        self.joint = self.widths[0]["joint"]
        if any(widths["joint"] != self.joint for widths in self.widths):
            raise ValueError(
                "SDPT needs one joint width in all of its layers, got"
                f" {[widths['joint'] for widths in self.widths]}"
            )
        self._tokens_config = dict(tokens) if tokens is not None else None
        layer_of_tokens = dict(
            self._tokens_config
            or dict(type="mmsdpt.PrototypeTokens", init=init, init_scale=init_scale),
            num_layers=len(self.layers),
            num_tokens=num_tokens,
            width=self.joint,
        )
        part_class("tokens", layer_of_tokens)
        self.tokens = (
            MODELS.build(layer_of_tokens)
            if share
            else nn.ModuleDict({side: MODELS.build(layer_of_tokens) for side in SIDES})
        )
        module = self.projection
        module = dict(type=PROJECTIONS[module]) if isinstance(module, str) else module
        part_class("projection", module)
        self.projections = nn.ModuleDict(
            {
                side: nn.ModuleList(
                    MODELS.build(dict(module, in_features=w["joint"], out_features=w[side]))
                    for w in self.widths
                )
                for side in self.used_sides
            }
        )
        self._constants: list[Memo[FusionTokens]] = [Memo() for _ in self.layers]
        for i, layer in enumerate(self.layers):
            fusions[layer].connect(self, partial(self.fusion_tokens, i))

    @staticmethod
    def _check(sides: str, share: bool, projection: Any, mask_text_tokens: bool) -> None:
        if sides not in ("dual", *SIDES):
            raise ValueError(f"sides must be dual, image or text, got {sides!r}")
        if not isinstance(projection, Mapping) and projection not in PROJECTIONS:
            raise ValueError(
                "projection must be inverse, learnable or the config of a registered module, got"
                f" {projection!r}"
            )
        if mask_text_tokens and (sides == "text" or not share):
            raise ValueError(
                "mask_text_tokens=True leaves the text side's tokens without any gradient: use"
                " sides='image'"
            )
        if not share and sides != "dual":
            raise ValueError(
                f"share=False gives each side its own tokens and needs sides='dual', got {sides!r}"
            )

    def set_phase(self, *sides: str) -> None:
        """Let only these sides' gradients reach the tokens (the asynchronous ablation); both again
        without arguments.
        """
        unknown = set(sides) - set(SIDES)
        if unknown:
            raise ValueError(f"sides must be {' and '.join(SIDES)}, got {sorted(unknown)}")
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
        sources = [*self.parameters(), *self.buffers()]
        for linear in seam.projections.values():
            sources += linear.parameters()
        return self._constants[i].depend_on(sources).get("", partial(self._project, i, seam))

    def _project(self, i: int, seam: FusionSeam) -> FusionTokens:
        return FusionTokens(**{side: self._project_side(i, side, seam) for side in self.used_sides})

    def _project_side(self, i: int, side: str, seam: FusionSeam) -> Tensor:
        tokens = (self.tokens if self.share else self.tokens[side])(i)
        if side not in self.synchronous_sides:
            tokens = tokens.detach()
        return self.projections[side][i](tokens, seam.projections[side])

    def reconcile(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = {"own_words_only": False, **super().reconcile(config)}
        if isinstance(found["own_words_only"], bool):  # the file decides, see adopt
            found["own_words_only"] = self.own_words_only
        return found

    def adopt(self, config: Mapping[str, Any]) -> None:
        """Set ``own_words_only`` as in the training of the file."""
        own = bool(config.get("own_words_only", False))
        if own != self.own_words_only:
            self.own_words_only = self.remembers_classes = own
            where = "the words of its classes only" if own else "every caption"
            print_log(
                f"The file was trained to act for {where}; the model now does the same",
                logger="current",
            )

    def config(self) -> dict[str, Any]:
        own = {} if self._tokens_config is None else dict(tokens=self._tokens_config)
        return {**super().config(), **own}


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
