r"""SDPT: Synchronous Dual Prompt Tuning (Zhou et al., ECCV 2024).

Every fusion layer has one set of k prototype tokens Z (k x E) in the joint space of the two
modalities. Inverse projections, computed from the frozen weights, map the same tokens to both
sides:

    P_v = (Z - b_v) (W_v^T)^+        P_l = (Z - b_l) (W_l^T)^+        (W^T)^+ = W (W^T W)^{-1}

P_v and P_l are appended to the layer-normed image and text features as extra keys and values of
X-MHA. Their own outputs are dropped, so tokens do not pass from layer to layer. Only Z trains:
n k E parameters, 163,840 on GLIP-L with k = 10.
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
# Bounds on the squared condition number of a projection's weight, see _pseudo_inverse. Float64's
# rounding error (about 1e-16) times the first is 1e-10; times the second it is 1e-6, whose square
# is 1e-12.
REFINE_ABOVE, DECOMPOSE_ABOVE = 1e6, 1e10
_ROWS = 512  # of a pseudo-inverse that are computed at a time


@MODELS.register_module()
class PrototypeTokens(BaseModule):
    """One set of k tokens of width E (the joint space) per fusion layer.

    Args:
        num_layers: n, number of layers with tokens.
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
    """P = (Z - b) (W^T)^+, the inverse projection of one linear layer, recomputed when the layer's
    weights change.

    P is the least-squares solution, an exact inverse only on the image of the projection:
    projecting P back gives the component of Z - b in the row space of W^T (rank D of E), plus b,
    not Z.

    The pseudo-inverse is computed once in float64, at the first use after the weights are loaded,
    and again whenever they change. It is a constant of the base model, not part of the tuner's
    state.

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
        """Map tokens of the joint space to a modality.

        Args:
            tokens: (k, E).
            projection: The modality's layer into the joint space, weight (E, D).

        Returns:
            (k, D), differentiable in ``tokens``.

        Raises:
            ValueError: if the weight does not have full rank D.
        """
        if tokens.is_meta:  # no values to invert, but the shape is known
            return torch.matmul(tokens, tokens.new_empty(self.in_features, self.out_features))
        pinv, bias = self.pinv(projection, tokens.dtype), projection.bias.detach().to(tokens.dtype)
        # The 8 bits of bfloat16 are too few for a least-squares solution.
        with torch.autocast(tokens.device.type, enabled=False):
            return torch.matmul(tokens - bias, pinv)

    def pinv(self, projection: nn.Linear, dtype: torch.dtype) -> Tensor:
        """(W^T)^+ of the layer's current weight, (E, D)."""
        weight = projection.weight
        return self._pinv.depend_on([weight]).get(dtype, lambda: _pseudo_inverse(weight, dtype))


def _pseudo_inverse(weight: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """(W^T)^+ = W (W^T W)^-1 (E, D) of W (E, D), computed in float64 to 1e-9 of its largest entry.

    The Cholesky factor of the Gram matrix G = W^T W takes a ninth of the time of a singular value
    decomposition. But its error grows with the square of W's condition number, which is at most
    ||G||_F ||G^-1||_F. If this bound is large, the result is refined with one Newton step. If it is
    so large that this does not help, or W may not have full rank, the decomposition is used.

    Raises:
        ValueError: if W does not have full rank D.
    """
    weight = weight.double()
    gram = _lower_gram(weight)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        return _decomposed_pseudo_inverse(weight).to(dtype)
    inverse = torch.cholesky_inverse(factor)
    condition = float(2**0.5 * gram.tril().norm() * inverse.norm())  # upper bound of its square
    if not condition < DECOMPOSE_ABOVE:
        return _decomposed_pseudo_inverse(weight).to(dtype)
    if condition > REFINE_ABOVE:  # a Newton step squares the distance of W^T pinv from 1
        pinv = torch.matmul(weight, inverse)
        pinv += torch.matmul(pinv, torch.eye(len(gram)).to(pinv) - torch.matmul(weight.T, pinv))
        return pinv.to(dtype)
    pinv = weight.new_empty(weight.shape, dtype=dtype)
    # By rows, because the system takes long to provide memory for all of them in float64.
    for rows, found in zip(weight.split(_ROWS), pinv.split(_ROWS), strict=True):
        found.copy_(torch.matmul(rows, inverse))
    return pinv


def _lower_gram(weight: Tensor) -> Tensor:
    """The lower triangle of W^T W, in four blocks; those above the diagonal stay zero."""
    size = weight.shape[1]
    gram = weight.new_zeros(size, size)
    step = math.ceil(size / 4)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        torch.mm(weight[:, rows].T, weight[:, : start + step], out=gram[rows, : start + step])
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
        share: One Z for both sides (the method) or one for each ("unshared prototype tokens" on the
            poster).
        projection: ``inverse`` (the method), ``learnable``, or the config of your own registered
            module. It is built with ``in_features=E, out_features=D`` for each layer and side, and
            called like :meth:`InverseProjection.forward`.
        init: How Z is drawn, see :class:`PrototypeTokens`.
        init_scale: See ``init``.
        tokens: Config of your own registered module in place of :class:`PrototypeTokens`, built
            with ``num_layers``, ``num_tokens`` and ``width``; it draws its own initial values.
        own_words_only: Let the tokens act only for the words of the classes that they were trained
            on ("own words"). If the caption has none of them, the output equals that of the model
            without tokens, bit for bit. A text row of another word does not see the tokens. An
            image row sees them in proportion to its attention to own words, see
            :func:`mmsdpt.hosts.grounding.fusion.restricted`. This is not in the paper. There the
            tokens act for every caption, and the model forgets more.
        mask_text_tokens: Hide the text's tokens from the image queries, as the authors' released
            code does. Then the text's tokens have no effect at all, so this equals
            ``sides='image'``. The paper's method is False.

    Raises:
        ValueError: if a setting is unknown or out of range, or part of the tokens could not train.
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
        """Let only the gradients of these sides reach the tokens (the asynchronous ablation).
        Without arguments, both sides again.
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
        """Tokens of the i-th chosen layer for both sides. Without gradients they are constant and
        computed only once.
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
