r"""MuDPT: multi-modal deep-symphysis prompt tuning (Miao et al., ICME 2023).

Both towers learn deep prompts, and at each depth those of one tower flow into the other's. With the
learned ctx (n, d_t), T (m, n, d_t), V_0 (n, d_v) and V (m, n, d_v), m = D - 1:

    image shallow = V_0 + E(ctx)
    image deep    = V + A(T)
    text deep     = T + B(V)

Nothing flows into ctx. The maps are linear, shared over the depths (E has its own), or injection
transformers (then E = A); see :mod:`mmsdpt.tuners.layers.injection`. On ViT-B/16 with n = 2, D = 9:

================================================================  ==========
``injection="linear"`` (the authors' code)                         1,204,736
``injection="transformer"`` (the paper's injection model)         11,056,128
the same, ``direction="t2v", learn_image_prompts=False``           3,557,632
================================================================  ==========
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmsdpt.hosts.seams import Seam
from mmsdpt.registry import MODELS
from mmsdpt.tuners.layers.checks import whole_number
from mmsdpt.tuners.layers.class_context import INIT_STD
from mmsdpt.tuners.layers.injection import InjectionTransformer, LinearPerDepth, count_linear

from .deep_prompts import IMAGE_SEAMS, INIT_WORDS, TEXT_SEAMS, DeepPrompts, Prompts

# Names of the maps E, A and B.
MAPS = dict(
    none=(None, None, None),
    linear=("t2i_shallow", "t2i_deep", "i2t_deep"),
    transformer=("t2i", "t2i", "i2t"),
)
DIRECTIONS = ("t2v", "v2t", "both")
VARIANTS = ("code", "figure")


@MODELS.register_module()
class MuDPT(DeepPrompts):
    """Deep prompts in both towers, with injections between them.

    The paper's figure differs from the authors' code. With ``variant="figure"`` the depth counts
    the deep prompts alone, m = D, in the blocks 1 ... D; the shallow prompts are not fused, image
    shallow = V_0; and the injection transformers' blocks have their norms behind the residuals.

    Args:
        num_tokens: n of both towers.
        num_text_tokens: n of the text tower, where it is another one. 0: no text prompts.
        num_image_tokens: n of the image tower, where it is another one. 0: no image prompts. An
            injection needs the same n in both.
        depth: D; None: 9, or all blocks where a tower has fewer.
        injection: ``linear``, ``transformer`` or ``none``.
        direction: ``t2v``: the text prompts flow into the image prompts; ``v2t``: the reverse;
            ``both``.
        share: One linear map for all deep prompts of a direction, or one for each depth.
        injection_layers: Blocks of an injection transformer.
        learn_image_prompts: Whether V_0 and V are learned, or 0.
        variant: ``code`` or ``figure``, see above.
        init_words: Words whose vectors ctx starts from, see :class:`ClassContext`; None: noise.
        init_std: All other prompts are drawn from N(0, init_std^2).
        seams: See :class:`Tuner`.
        frozen: See :class:`Tuner`.

    Raises:
        ValueError: for settings that make no sense, or not together.
    """

    needs = (*TEXT_SEAMS, *IMAGE_SEAMS)
    usual_depth = 9

    def __init__(
        self,
        *,
        seams: Mapping[str, Sequence[Seam]],
        num_tokens: int = 2,
        num_text_tokens: int | None = None,
        num_image_tokens: int | None = None,
        depth: int | None = None,
        injection: str = "linear",
        direction: str = "both",
        share: bool = True,
        injection_layers: int = 1,
        learn_image_prompts: bool = True,
        variant: str = "code",
        init_words: str | None = INIT_WORDS,
        init_std: float = INIT_STD,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        _one_of("injection", injection, MAPS)
        _one_of("direction", direction, DIRECTIONS)
        _one_of("variant", variant, VARIANTS)
        super().__init__(
            seams=seams,
            num_text_tokens=num_tokens if num_text_tokens is None else num_text_tokens,
            num_image_tokens=num_tokens if num_image_tokens is None else num_image_tokens,
            depth=depth,
            init_words=init_words,
            init_std=init_std,
            learn_image_prompts=learn_image_prompts,
            more_depths=int(variant == "figure"),
            frozen=frozen,
            init_cfg=init_cfg,
        )
        self.injection, self.direction, self.variant = injection, direction, variant
        self.share, self.learn_image_prompts = share, learn_image_prompts
        self.injection_layers = whole_number("injection_layers", injection_layers)
        self._check_settings()
        self._e, self._a, self._b = self._flows()
        for name in self._map_names():
            self.add_module(name, self._make_map(name))

    def _check_settings(self) -> None:
        """Refuse settings that exclude each other, or that would have no effect."""
        if self.injection == "none":
            if not self.learn_image_prompts:
                raise ValueError(
                    "learn_image_prompts=False leaves the image without prompts, as"
                    " injection='none' makes none from the text: set num_image_tokens=0, or choose"
                    " an injection"
                )
        elif self.num_text_tokens != self.num_image_tokens:
            raise ValueError(
                "an injection maps each prompt of a tower to one of the other, so both need the"
                f" same number, got num_text_tokens={self.num_text_tokens} and"
                f" num_image_tokens={self.num_image_tokens}: set num_tokens, or injection='none'"
            )
        elif not self.learn_image_prompts and (self.direction, self.variant) != ("t2v", "code"):
            raise ValueError(
                "learn_image_prompts=False goes with direction='t2v' and variant='code', where"
                " every image prompt is made from a text prompt, got"
                f" direction={self.direction!r} and variant={self.variant!r}"
            )
        elif self.direction == "v2t" and self.num_text_tokens and not self.num_deep:
            raise ValueError(
                "direction='v2t' has no effect at depth=1, as nothing flows into the shallow text"
                " prompts: use depth=2 or more, or direction='t2v'"
            )
        if not self.share and self.injection != "linear":
            raise ValueError(
                "share=False, a map for each depth, is for injection='linear', got"
                f" injection={self.injection!r}"
            )
        if self.injection_layers != 1 and self.injection != "transformer":
            raise ValueError(
                f"injection_layers={self.injection_layers} is for injection='transformer', got"
                f" injection={self.injection!r}"
            )

    def _flows(self) -> tuple[str | None, str | None, str | None]:
        """Names of the maps E, A and B that there are."""
        e, a, b = MAPS[self.injection]
        prompts, deep = self.num_text_tokens > 0, self.num_deep > 0
        to_image, to_text = self.direction != "v2t", self.direction != "t2v"
        return (
            e if prompts and to_image and self.variant == "code" else None,
            a if prompts and to_image and deep else None,
            b if prompts and to_text and deep else None,
        )

    def _map_names(self) -> list[str]:
        return [name for name in dict.fromkeys((self._e, self._a, self._b)) if name is not None]

    def _widths(self, name: str) -> tuple[int, int]:
        text, image = self.text_width, self.image_width
        return (text, image) if name.startswith("t2i") else (image, text)

    def _make_map(self, name: str) -> nn.Module:
        if self.injection == "transformer":
            return InjectionTransformer(
                *self._widths(name), self.injection_layers, post_norm=self.variant == "figure"
            )
        if name == self._e or self.share:
            return nn.Linear(*self._widths(name))
        return LinearPerDepth(*self._widths(name), self.num_deep)

    def prompts(self) -> Prompts:
        """The learned prompts, each with what the other tower's inject."""
        return Prompts(
            ctx=self.ctx,
            text_deep=_sum(self.text_deep, self._inject(self._b, self.image_deep)),
            image_shallow=_sum(self.image_shallow, self._inject(self._e, self.ctx)),
            image_deep=_sum(self.image_deep, self._inject(self._a, self.text_deep)),
        )

    def _inject(self, name: str | None, prompts: Tensor | None) -> Tensor | None:
        return None if name is None else self.get_submodule(name)(prompts)

    def config(self) -> dict[str, Any]:
        settings = dict(super().config(), variant=self.variant, injection=self.injection)
        if self.injection != "none":
            settings.update(
                direction=self.direction,
                share=self.share,
                injection_layers=self.injection_layers,
                learn_image_prompts=self.learn_image_prompts,
            )
        return settings

    def num_trainable(self) -> int:
        """(1 + m) n (d_t + d_v), less d_v without image prompts of their own, and the maps':
        (d_in + 1) d_out for a linear one, m of them without ``share``, or
        :meth:`InjectionTransformer.count`.
        """
        found = super().num_trainable()
        for name in self._map_names():
            if self.injection == "transformer":
                found += InjectionTransformer.count(*self._widths(name), self.injection_layers)
            else:
                maps = 1 if name == self._e or self.share else self.num_deep
                found += maps * count_linear(*self._widths(name))
        return found


def _sum(own: Tensor | None, injected: Tensor | None) -> Tensor | None:
    if own is None or injected is None:
        return injected if own is None else own
    return own + injected


def _one_of(name: str, value: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
