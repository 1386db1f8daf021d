"""Closed formulas of the parameters that each method trains, in its settings and the host's widths.

Letters as at the head of each method's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmsdpt.tuners.base import Tuner


def expected_count(tuner: Tuner) -> int:
    """What the formula of a tuner's class, or of the next one that it inherits from, says; every
    method of the package has one.
    """
    for kind in type(tuner).__mro__:
        if kind.__name__ in FORMULAS:
            return FORMULAS[kind.__name__](tuner)
    assert not type(tuner).__module__.startswith("mmsdpt."), f"add {type(tuner).__name__}"
    return tuner.num_trainable()


def bottleneck(d: int, m: int) -> int:
    """2 d m + m + d."""
    return 2 * d * m + m + d


def adapter(t: Any) -> int:
    """A bottleneck and a norm after both dense outputs of each layer; the embeddings' norm."""
    widths = [width for kind in t.widths.values() for width in kind]
    norms = 2 * sum(widths) * t.layer_norms + 2 * widths[0] * t.embedding_norm
    return sum(bottleneck(d, t.bottleneck) for d in widths) + norms


def apollo(t: Any) -> int:
    """MaPLe's, and for each modality a bottleneck, two attentions of 4 m^2, norms of 4 m."""
    m, branches = t.bottleneck, (t.adapter.image, t.adapter.text)
    sides = sum(bottleneck(b.down.in_features, m) + 8 * m * m + 4 * m for b in branches)
    return coupled_prompts(t.prompts) + sides


def cocoop(t: Any) -> int:
    if not t.num_tokens:
        return 0
    e, h = t.meta_net.linear1.in_features, t.meta_net.linear1.out_features
    return t.num_tokens * t.width + (e + 1) * h + (h + 1) * t.width


def coupled_prompts(prompts: Any) -> int:
    """J n d_text + sum over the image blocks of (d_text + 1) d_image."""
    depth, count, width = prompts.text.shape
    return depth * count * width + sum((width + 1) * c.out_features for c in prompts.couplings)


def deep_prompts(t: Any) -> int:
    """(1 + m) n d of every tower that learns prompts."""
    text = 0 if t.ctx is None else t.num_text_tokens * t.text_width
    image = 0 if t.image_shallow is None else t.num_image_tokens * t.image_width
    return (1 + t.num_deep) * (text + image)


def clip_maple(t: Any) -> int:
    maps = 0 if t.ctx is None else t.depth * (t.text_width + 1) * t.image_width
    return deep_prompts(t) + maps


def mudpt(t: Any) -> int:
    """Deep prompts, and what the maps have: tests/tuners/test_counts.py has the numbers."""
    names = {t._e, t._a, t._b} - {None}
    return deep_prompts(t) + sum(
        p.numel() for name in names for p in t.get_submodule(name).parameters()
    )


def dpt(t: Any) -> int:
    total = t.num_context * t.text_width + t.num_visual * sum(t.early.values())
    for d in t.late.values():
        total += (
            (t.text_width + 1) * d + (2 * t.key_width + d) * d + t.num_class_prompts * d + 4 * d
        )
    return total


def mma(t: Any) -> int:
    r, widths = t.rank, sum(t.widths.values())
    return t.depth * (2 * r * widths + widths + 2 * r + r**2 + r)


def mmrl(t: Any) -> int:
    w, (image, e) = t.token_width, t.projection.shape
    text = t.text_maps[0].out_features
    return t.num_tokens * w + t.depth * (w + 1) * (text + image) + image * e


def mona(t: Any) -> int:
    """Two adapters for each block: d (2 m + 5) + m (m + 1) + 4 m + m (3^2 + 5^2 + 7^2)."""
    m = t.bottleneck
    return 2 * sum(d * (2 * m + 5) + m * (m + 1 + 4 + 83) for d in t.widths)


def pmf(t: Any) -> int:
    """Per layer and modality the prompts, and the MLP to the other modality of width d'."""
    total = 0
    for layer in t.layers.values():
        widths = {side: layer[side]["prompts"]["query"].shape[1] for side in ("image", "text")}
        for side, other in (("image", "text"), ("text", "image")):
            d, h = widths[side], t.hidden_width or widths[side] // 2
            total += sum(t.counts.values()) * d + (d + 1) * h + (h + 1) * widths[other]
    return total


def sdpt(t: Any) -> int:
    """n k E for shared tokens, twice that unshared; learnable projections add n (E + 1) D per side;
    modules of a user's own are counted.
    """
    count = len(t.layers) * t.num_tokens * t.joint * (1 if t.share else 2)
    if t._tokens_config is not None:
        count = sum(p.numel() for p in t.tokens.parameters())
    if t.projection == "learnable":
        return count + sum((t.joint + 1) * w[side] for w in t.widths for side in t.used_sides)
    own = t.projections.parameters() if t.projection != "inverse" else ()
    return count + sum(p.numel() for p in own)


def tcp(t: Any) -> int:
    out, linear = t.num_tokens * t.width, t.class_net.linear1
    e, h = linear.in_features, linear.out_features
    return out + (e + 1) * h + (h + 1) * out


def upt(t: Any) -> int:
    d = t.width
    transformer = 6 * d * (d + 1) + 4 * d
    return 2 * t.num_tokens * d + transformer + (d + 1) * sum(t.stage_widths.values())


FORMULAS: dict[str, Callable[[Any], int]] = {
    "Adapter": adapter,
    "AdaptFormer": lambda t: sum(bottleneck(d, t.bottleneck) for d in t.widths),
    "Apollo": apollo,
    "CLIPAdapter": lambda t: 2 * t.down.in_features * t.down.out_features,
    "CLIPCoOp": lambda t: t.num_tokens * t.width * (t.num_classes or 1),
    "CLIPLinearProbe": lambda t: t.num_classes * (t.width + 1),
    "CLIPLoRA": lambda t: sum(6 * t.rank * seam.shape[1] for seam in t.chosen),
    "CLIPMaPLe": clip_maple,
    "CoCoOp": cocoop,
    "CoOp": lambda t: t.num_tokens * t.width,
    "DeepPrompts": deep_prompts,
    "DoRA": lambda t: sum(t.rank * sum(s.shape) + s.shape[0] for s in t.chosen),
    "DPT": dpt,
    "GLIPPrompt": lambda t: t.offset.shape[0] * t.offset.shape[1],
    "HostParameters": lambda t: sum(seam.value().numel() for seam in t.chosen),
    "LoRA": lambda t: t.rank * sum(sum(seam.shape) for seam in t.chosen),
    "MaPLe": lambda t: coupled_prompts(t.prompts),
    "MMA": mma,
    "MMRL": mmrl,
    "Mona": mona,
    "MuDPT": mudpt,
    "PMF": pmf,
    "SDPT": sdpt,
    "SSF": lambda t: sum(seam.shape[0] for seam in t.chosen),
    "TCP": tcp,
    "TipAdapter": lambda t: t.num_classes * t.shots * t.width,
    "UPT": upt,
    "VPT": lambda t: t.num_tokens * sum(t.widths),
}
