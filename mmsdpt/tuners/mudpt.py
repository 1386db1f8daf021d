r"""MuDPT: multi-modal deep-symphysis prompt tuning (Miao et al., ICME 2023).

Both towers learn deep prompts, and at each depth the prompts of one tower are mapped and added to
those of the other. With the learned ctx (n, d_t), T (m, n, d_t), V_0 (n, d_v) and V (m, n, d_v),
m = D - 1:

    text          = [start] ctx NAME . [end]
    image shallow = V_0 + E(ctx)
    image deep    = V + A(T)
    text deep     = T + B(V)

Nothing is added to ctx. The maps are linear, one for all depths (E is separate), or injection
transformers (then E = A); see :mod:`mmsdpt.tuners.layers.injection`. On ViT-B/16 with n = 2, D = 9:

================================================================================  ==========
``injection="linear"`` (the authors' code)                                         1,204,736
``injection="transformer"`` (the paper's injection model)                         11,056,128
the same, ``direction="text_to_image", learn_image_prompts=False``                 3,557,632
``injection="transformer", variant="figure"``                                     11,053,568
================================================================================  ==========
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.registry import MODELS

from .base import Seams
from .layers.common import part_class, positive_integer
from .layers.deep_prompts import IMAGE_SEAMS, INIT_WORDS, TEXT_SEAMS, DeepPrompts, Prompts
from .layers.injection import PerDepth

SHORT_NAMES = dict(linear="mmsdpt.InjectionLinear", transformer="mmsdpt.InjectionTransformer")
# Maps the names of a direction in configs, of which t2v and v2t are older, to those in tuner files.
DIRECTIONS = dict(text_to_image="t2v", image_to_text="v2t", both="both", t2v="t2v", v2t="v2t")


@MODELS.register_module()
class MuDPT(DeepPrompts):
    """Deep prompts in both towers, with injections between them.

    The paper's figure differs from the authors' code. With ``variant="figure"`` the depth counts
    only the deep prompts, m = D, in the blocks 1 ... D; nothing is added to the shallow image
    prompts, image shallow = V_0; and the injection transformers' blocks have their norms after the
    residuals, without the two outer norms of the code.

    Args:
        num_tokens: n of both towers.
        num_text_tokens: n of the text tower, if it differs. 0: no text prompts.
        num_image_tokens: n of the image tower, if it differs. 0: no image prompts. An injection
            needs the same n in both.
        depth: D; None: 9, or all blocks if a tower has fewer.
        injection: ``linear``, ``transformer``, ``none``, or the config of a registered module, such
            as ``dict(type="mmsdpt.InjectionTransformer", num_layers=2)``.
        direction: ``text_to_image``: the text prompts are added to the image prompts;
            ``image_to_text``: the reverse; ``both``. The older names t2v and v2t also work.
        share: Whether all depths of a direction share one linear map, or each depth has its own.
        injection_layers: Number of blocks of ``injection="transformer"``.
        learn_image_prompts: Whether V_0 and V are learned; otherwise they are 0.
        variant: ``code`` or ``figure``, see above.
        outer_norms: Keep the two outer norms in ``variant="figure"``, as versions before 0.2 did
            (11,058,688 parameters). Their files need it.
        keep_words: Keep "of a" as fixed words after a context of two tokens, as MaPLe does and
            MuDPT did before version 0.2. A tuner file sets this in the model that loads it.
        settings: ``init_words``, ``init_std`` and ``regularisation`` of :class:`DeepPrompts`.

    Raises:
        ValueError: if settings are unknown or contradict each other.
    """

    needs = (*TEXT_SEAMS, *IMAGE_SEAMS)
    usual_depth = 9

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 2,
        num_text_tokens: int | None = None,
        num_image_tokens: int | None = None,
        depth: int | None = None,
        injection: str | Mapping[str, Any] = "linear",
        direction: str = "both",
        share: bool = True,
        injection_layers: int = 1,
        learn_image_prompts: bool = True,
        variant: str = "code",
        outer_norms: bool = False,
        keep_words: bool = False,
        **settings: Any,
    ) -> None:
        _one_of("direction", direction, list(DIRECTIONS)[:3], DIRECTIONS)
        _one_of("variant", variant, ("code", "figure"))
        super().__init__(
            seams=seams,
            num_text_tokens=num_tokens if num_text_tokens is None else num_text_tokens,
            num_image_tokens=num_tokens if num_image_tokens is None else num_image_tokens,
            depth=depth,
            learn_image_prompts=learn_image_prompts,
            more_depths=int(variant == "figure"),
            keep_words=keep_words,
            **settings,
        )
        self.injection = injection if isinstance(injection, str) else dict(injection)
        self.direction, self.variant, self.share = DIRECTIONS[direction], variant, share
        self.learn_image_prompts, self.outer_norms = learn_image_prompts, outer_norms
        self.injection_layers = positive_integer("injection_layers", injection_layers)
        self._module = self._injection_module()
        apart = self._module is not None and getattr(
            part_class("injection", self._module), "own_shallow", False
        )
        self._check_settings(apart)
        self._e, self._a, self._b = self._flows(apart)
        for name in dict.fromkeys((self._e, self._a, self._b)):
            if name is not None:
                self.add_module(name, self._make_map(name))

    def _injection_module(self) -> dict[str, Any] | None:
        """Config of a map, without its widths; None if there are no maps."""
        if isinstance(self.injection, dict):
            return self.injection
        _one_of("injection", self.injection, ("none", *SHORT_NAMES))
        if self.injection == "none":
            return None
        module: dict[str, Any] = dict(type=SHORT_NAMES[self.injection])
        if self.injection == "transformer":
            module["num_layers"] = self.injection_layers
            if self.variant == "figure":
                module.update(post_norm=True, outer_norms=self.outer_norms)
        return module

    def _check_settings(self, apart: bool) -> None:
        """Refuse settings that contradict each other, or that would have no effect."""
        maps, one_way = self._module is not None, (self.direction, self.variant) == ("t2v", "code")
        counts = self.num_text_tokens, self.num_image_tokens
        refused = (
            (
                not maps and not self.learn_image_prompts,
                "learn_image_prompts=False leaves the image without prompts, as injection='none'"
                " makes none from the text: set num_image_tokens=0, or choose an injection",
            ),
            (
                maps and counts[0] != counts[1],
                "an injection maps each prompt of a tower to one of the other, so both need the"
                f" same number, got num_text_tokens={counts[0]} and num_image_tokens={counts[1]}:"
                " set num_tokens, or injection='none'",
            ),
            (
                maps and not self.learn_image_prompts and not one_way,
                "learn_image_prompts=False needs direction='text_to_image' and variant='code',"
                " where every image prompt is made from a text prompt",
            ),
            (
                maps and self.direction == "v2t" and counts[0] > 0 and not self.num_deep,
                "direction='image_to_text' has no effect at depth=1, as nothing flows into the"
                " shallow text prompts: use depth=2 or more, or direction='text_to_image'",
            ),
            (
                not self.share and not apart,
                "share=False, a map for each depth, is for injection='linear'",
            ),
            (
                self.injection_layers != 1 and self.injection != "transformer",
                f"injection_layers={self.injection_layers} is for injection='transformer'",
            ),
            (
                self.outer_norms and (self.injection, self.variant) != ("transformer", "figure"),
                "outer_norms=True is for injection='transformer' with variant='figure'",
            ),
        )
        for wrong, message in refused:
            if wrong:
                raise ValueError(f"{message}; got injection={self.injection!r}")

    def _flows(self, apart: bool) -> tuple[str | None, str | None, str | None]:
        """Names of the maps E, A and B; None for a map that is not used."""
        if self._module is None or not self.num_text_tokens:
            return None, None, None
        to_image, to_text = self.direction != "v2t", self.direction != "t2v"
        deep = self.num_deep > 0
        return (
            ("t2i_shallow" if apart else "t2i") if to_image and self.variant == "code" else None,
            ("t2i_deep" if apart else "t2i") if to_image and deep else None,
            ("i2t_deep" if apart else "i2t") if to_text and deep else None,
        )

    def _make_map(self, name: str) -> nn.Module:
        widths = (self.text_width, self.image_width)[:: 1 if name.startswith("t2i") else -1]
        config = dict(self._module or {}, d_in=widths[0], d_out=widths[1])
        if name == self._e or self.share:
            return MODELS.build(config)
        return PerDepth(MODELS.build(config) for _ in range(self.num_deep))

    def prompts(self) -> Prompts:
        """The learned prompts, each plus the mapped prompts of the other tower."""
        return Prompts(
            ctx=self.ctx,
            text_deep=self._sum(self.text_deep, self._b, self.image_deep),
            image_shallow=self._sum(self.image_shallow, self._e, self.ctx),
            image_deep=self._sum(self.image_deep, self._a, self.text_deep),
        )

    def _sum(self, own: Tensor | None, name: str | None, other: Tensor | None) -> Tensor | None:
        if name is None:
            return own
        injected = self.get_submodule(name)(other)
        return injected if own is None else own + injected

    def config(self) -> dict[str, Any]:
        settings = dict(super().config(), variant=self.variant, injection=self.injection)
        if self._module is not None:
            settings.update(
                direction=self.direction,
                share=self.share,
                injection_layers=self.injection_layers,
                learn_image_prompts=self.learn_image_prompts,
            )
        if (self.injection, self.variant) == ("transformer", "figure"):
            settings["outer_norms"] = self.outer_norms
        return settings

    def reconcile(self, config: Mapping[str, Any]) -> dict[str, Any]:
        own, found, words = self.config(), dict(config), self._words_of(config)
        if words == "" or isinstance(words, str) and self._is_longer(words):
            found["fixed_words"] = own["fixed_words"]
        if "outer_norms" in own:
            found.setdefault("outer_norms", True)  # version 0.1 always had them
        return found

    def _words_of(self, config: Mapping[str, Any]) -> Any:
        """The fixed words of a file's texts; the oldest files do not contain this setting."""
        return config.get("fixed_words", INIT_WORDS if self._is_longer(INIT_WORDS) else "")

    def _is_longer(self, words: str) -> bool:
        """Whether some of the words stay after the context."""
        return self.ctx is not None and self._context.seam.count(words) > len(self.ctx)

    def adopt(self, config: Mapping[str, Any]) -> None:
        """Use the fixed words that the file was trained with."""
        words = self._words_of(config)
        if self.ctx is not None and words != self._context.fixed_words:
            self._context.fixed_words = words
            kept = f"of {words!r} the words after the context" if words else "no fixed words"
            print_log(
                f"The file was trained with {kept}; the model now uses the same", logger="current"
            )


def _one_of(name: str, value: str, shown: Iterable[str], known: Iterable[str] = ()) -> None:
    if value not in (known or shown):
        raise ValueError(f"{name} must be one of {', '.join(shown)}, got {value!r}")
