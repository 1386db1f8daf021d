r"""Attention maps of GLIP's X-MHA and of CLIP, and evidence maps for classes.

Letters: B images, N image positions, T text tokens, k prototype tokens, H heads, R rows of maps
(classes, then prototype tokens), C classes, (h, w) the grid of a map.

The host computes X-MHA re-associated (:mod:`mmsdpt.hosts.grounding.fusion`), without the attention
weights that are shown here. So a recording pass computes the weights in the plain way, from the
inputs of each layer. The layer's own forward pass does not change:

    S = (x W_q^T + b_q) (l W_k^T + b_k)^T / sqrt(d),    image to text: softmax over the T + k
    tokens,    text to image: softmax over the N positions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.clip import CLIP
from mmsdpt.hosts.grounding.cross_attention import MAX_CLAMP_VALUE
from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention, restricted
from mmsdpt.hosts.grounding.seams import OwnWords
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.utils.errors import InputError

PROTOTYPES = "prototype tokens"
CLASS_TOKEN = "class token"
XMHA_INPUTS = ("vision", "lang", "attention_mask_v", "attention_mask_l", "own_words")
DIRECTIONS = ("text_to_image", "image_to_text")
_BEST_PLACES = 10


class XMHAWeights(NamedTuple):
    """The weights of one X-MHA layer, with k more rows or columns if tokens are appended.

    Attributes:
        image_to_text: (B, H, N, T + k), sums to 1 over the last dimension.
        text_to_image: (B, H, T + k, N + k), sums to 1 over the last dimension. The rows of appended
            tokens show what they would attend to, but the layer drops their outputs.
    """

    image_to_text: Tensor
    text_to_image: Tensor


def xmha_weights(
    layer: BiMultiHeadAttention,
    vision: Tensor,
    lang: Tensor,
    attention_mask_v: Tensor | None = None,
    attention_mask_l: Tensor | None = None,
    own_words: OwnWords | None = None,
) -> XMHAWeights:
    """The attention weights of a layer, computed in the plain way.

    The arguments are those of the layer's ``forward``.
    """
    tokens = layer.seam.tokens(own_words)

    def heads(x: Tensor, extra: Tensor | None, linear: nn.Linear) -> Tensor:
        if extra is not None:
            x = torch.cat([x, extra.to(x.dtype).expand(len(x), -1, -1)], dim=1)
        return linear(x).unflatten(-1, (layer.num_heads, layer.head_dim)).transpose(1, 2)

    queries = heads(vision, tokens.image, layer.v_proj) * layer.scale
    keys = heads(lang, tokens.text, layer.l_proj)
    scores = (queries @ keys.transpose(-1, -2)).clamp(-MAX_CLAMP_VALUE, MAX_CLAMP_VALUE)

    def hide(scores: Tensor, hidden: Tensor | None) -> Tensor:
        """Mask the hidden columns (B, n); appended columns stay visible."""
        if hidden is None:
            return scores
        hidden = F.pad(hidden, (0, scores.shape[-1] - hidden.shape[1]), value=False)
        return scores.masked_fill(hidden[:, None, None], float("-inf"))

    padding = None if attention_mask_l is None else attention_mask_l == 0
    of_image, of_text = scores[:, :, : vision.shape[1]], scores.transpose(-1, -2)
    if tokens.groups:
        num_words = lang.shape[1]
        of_image, of_words = restricted(
            of_image.transpose(1, 2),
            scores[..., :num_words].transpose(1, 2),
            tokens,
            attention_mask_l,
        )
        of_image = of_image.transpose(1, 2)
        of_text = torch.cat([of_words.permute(0, 2, 3, 1), of_text[:, :, num_words:]], dim=2)
    return XMHAWeights(
        hide(of_image, padding).softmax(-1), hide(of_text, attention_mask_v).softmax(-1)
    )


@dataclass(frozen=True)
class Look:
    """The maps of one model for one image. All maps (h, w) cover the model's input image.

    Attributes:
        rows: R names, one for each row of the attention maps.
        attention: (layers, H, R, h, w), not negative.
        classes: The C classes of ``evidence``.
        evidence: (C, h, w): Grad-CAM for a detector; for a classifier, the similarity of patches to
            the class's text.
        scores: Score of every class in the model's class list.
        valid: (h, w), the share of each cell that belongs to the image, not to padding.
    """

    rows: tuple[str, ...]
    attention: Tensor
    classes: tuple[str, ...]
    evidence: Tensor
    scores: dict[str, float]
    valid: Tensor

    def maps_of(self, row: str) -> Tensor:
        """The attention maps of a row, (layers, H, h, w)."""
        return self.attention[:, :, self.rows.index(row)]

    def shown_rows(self) -> list[str]:
        """The rows of the chosen classes, and rows that are not classes."""
        return [row for row in self.rows if row in self.classes or row not in self.scores]


def share_inside(maps: Tensor, inside: Tensor, valid: Tensor) -> Tensor:
    """Share of each map's weight inside a region.

    Args:
        maps: (..., h, w), not negative.
        inside: (h, w), the share of each cell that belongs to the region.
        valid: (h, w), see :class:`Look`.

    Returns:
        (...), between 0 and 1; nan if a map is zero everywhere.
    """
    return (maps * inside).sum((-1, -2)) / (maps * valid).sum((-1, -2))


def cover(boxes: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Share of each cell of a grid that boxes cover.

    Args:
        boxes: (n, 4) xyxy, in pixels.
        size: Height and width of the area of the grid, in pixels.
        grid: (h, w).
    """
    mask = torch.zeros(1, 1, *size)
    for x1, y1, x2, y2 in boxes.clamp(min=0).round().int().tolist():
        mask[..., y1:y2, x1:x2] = 1
    return F.adaptive_avg_pool2d(mask, grid)[0, 0]


@contextmanager
def _hooks(pairs: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Forward hooks, removed at the end of the context; they also get the keyword arguments."""
    with ExitStack() as stack:
        for module, hook in pairs:
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield


# ---------------------------------------------------------------------- detectors


def look_of_detector(
    host: nn.Module,
    images: Tensor,
    sample: Any,
    choose: Callable[[dict[str, float]], Sequence[str]],
    direction: str = "text_to_image",
) -> Look:
    """Attention of each class's words and of prototype tokens, and Grad-CAM of the backbone.

    Args:
        host: A detector, in eval mode.
        images: (1, 3, H, W), normalised and padded.
        sample: The image's data sample with ``text``, its class names, and optionally
            ``caption_prompt``.
        choose: Selects the classes for Grad-CAM by their scores.
        direction: ``text_to_image``: where a word attends, the mean over its tokens.
            ``image_to_text``: how much each place attends to the word, the sum over its tokens.

    Raises:
        InputError: if the head has no X-MHA.
    """
    layers = [m for m in host.modules() if isinstance(m, BiMultiHeadAttention)]
    if not layers:
        raise InputError(
            f"{type(host).__name__} has no fusion layers (X-MHA) whose attention shows"
        )
    classes = tuple(sample.text)
    _, class_map = host.class_prompt(classes, sample.get("caption_prompt", None))
    recorded: dict[nn.Module, Tensor] = {}
    stages: list[Tensor] = []
    sizes: list[tuple[int, int]] = []

    def record(layer: BiMultiHeadAttention, args: tuple, kwargs: dict, out: Any) -> None:
        if layer in recorded:  # recomputed in the backward pass
            return
        with torch.no_grad():
            inputs = dict(zip(XMHA_INPUTS, args, strict=False)) | kwargs
            words, positions = inputs["lang"].shape[1], inputs["vision"].shape[1]
            weights = xmha_weights(layer, **inputs)
            recorded[layer] = _rows(weights, class_map, words, positions, direction)

    def keep(neck: nn.Module, args: tuple, kwargs: dict, out: Sequence[Tensor]) -> Any:
        # Leaf tensors: Grad-CAM needs no gradient of the backbone, which runs frozen.
        stages.extend(stage.detach().requires_grad_() for stage in args[0])
        sizes.extend(tuple(level.shape[-2:]) for level in out)
        with torch.enable_grad():
            return neck.forward(tuple(stages))

    hooks = [(layer, record) for layer in layers] + [(host.neck, keep)]
    with torch.enable_grad(), _hooks(hooks):
        logits = host.token_logits(images, [sample])[0]  # (N, L)
        of_class = class_map[:, : logits.shape[1]].to(logits)
        by_class = (logits @ of_class.t() / of_class.sum(1)).sigmoid()  # (N, C)
        best = by_class.max(dim=0).values.tolist()
        scores = dict(zip(classes, best, strict=True))
        chosen = tuple(choose(scores))
        best_places = by_class.topk(min(_BEST_PLACES, len(by_class)), dim=0).values.sum(0)
        evidence = [
            _grad_cam(stages, sizes[0], best_places[classes.index(name)], i < len(chosen) - 1)
            for i, name in enumerate(chosen)
        ]
    spread = partial(_spread, sizes=sizes, mass=direction == "text_to_image")
    attention = torch.stack([spread(maps) for maps in recorded.values()])
    height, width = sample.img_shape[:2]
    whole = torch.tensor([[0.0, 0.0, width, height]])
    rows = classes + ((PROTOTYPES,) if attention.shape[2] > len(classes) else ())
    valid = cover(whole, tuple(images.shape[-2:]), sizes[0])
    return Look(rows, attention, chosen, torch.stack(evidence), scores, valid)


def _rows(
    weights: XMHAWeights, class_map: Tensor, words: int, positions: int, direction: str
) -> Tensor:
    """(H, R, N): the weights of one layer between image positions and each class; the last row is
    for all appended tokens together.
    """
    if direction == "text_to_image":
        found = weights.text_to_image[0, :, :, :positions]  # (H, T + k, N)
    else:
        found = weights.image_to_text[0].transpose(1, 2)
    of_class = class_map[:, :words].to(found)
    parts = [of_class @ found[:, :words]]
    if found.shape[1] > words:
        parts.append(found[:, words:].sum(1, keepdim=True))
    if direction == "text_to_image":
        counts = [of_class.sum(1)] + [of_class.new_full((1,), found.shape[1] - words)]
        return torch.cat(parts, dim=1) / torch.cat(counts[: len(parts)])[:, None]
    return torch.cat(parts, dim=1)


def _spread(maps: Tensor, sizes: Sequence[tuple[int, int]], mass: bool) -> Tensor:
    """Combine maps (..., N) over the positions of a pyramid into one map (..., h, w) on its finest
    grid.

    Args:
        maps: Not negative.
        sizes: Grid of each level, the finest one first.
        mass: Whether values are shares of a whole; a coarse position then spreads its value over
            its cells. Otherwise the levels are averaged.
    """
    parts = maps.detach().split([h * w for h, w in sizes], dim=-1)
    total = torch.zeros(*maps.shape[:-1], *sizes[0], device=maps.device, dtype=maps.dtype)
    for part, (h, w) in zip(parts, sizes, strict=True):
        level = part.unflatten(-1, (h, w)).flatten(0, -3)[:, None]
        fine = F.interpolate(level, sizes[0], mode="bilinear", align_corners=False)
        if mass:
            fine = (
                fine * (level.sum((-1, -2)) / fine.sum((-1, -2)).clamp(min=1e-30))[..., None, None]
            )
        else:
            fine = fine / len(sizes)
        total += fine.view_as(total)
    return total.cpu()


def _grad_cam(stages: Sequence[Tensor], grid: tuple[int, int], score: Tensor, more: bool) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the backbone's stages F (1, c, h', w'):
    relu(sum_c (sum_hw dscore/dF_c) F_c), summed over the stages on a grid (h, w).
    """
    total = torch.zeros(grid)
    grads = torch.autograd.grad(score, stages, retain_graph=more)
    for stage, grad in zip(stages, grads, strict=True):
        # Sums, not means: a stage's contribution must not depend on its number of positions.
        cam = (grad.sum((-1, -2), keepdim=True) * stage).sum(1, keepdim=True).relu()
        total += F.interpolate(cam.detach(), grid, mode="bilinear")[0, 0].cpu()
    return total


# ---------------------------------------------------------------------- classifiers


def class_token_weights(block: nn.Module, normed: Tensor) -> Tensor:
    """Attention weights of the class token in a ViT block, (B, H, 1 + N + P): to itself, then to
    patches, then to the rows of tuners.

    Args:
        block: MMPreTrain's ``TransformerEncoderLayer``.
        normed: (B, 1 + N + P, d), the output of its first norm.
    """
    attention = block.attn
    q, k, _ = F.linear(normed, attention.qkv.weight, attention.qkv.bias).chunk(3, dim=-1)
    q, k = (x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (q[:, :1], k))
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)[:, :, 0]


@torch.no_grad()
def look_of_classifier(
    host: CLIP, images: Tensor, sample: Any, choose: Callable[[dict[str, float]], Sequence[str]]
) -> Look:
    """The class token's attention, and the similarity of each patch to each class's text.

    A patch's feature is its value in the last block after the output projection, the last norm and
    CLIP's projection (MaskCLIP, Zhou et al., ECCV 2022). Queries and keys are not used, because
    with them the last block mixes the whole image into every patch.

    Args:
        host: CLIP with a ViT, in eval mode.
        images: (1, 3, H, W), normalised.
        sample: The image's data sample.
        choose: Selects the classes for similarity maps by their scores.

    Raises:
        InputError: if the image tower is not a ViT.
    """
    if "image_blocks" not in host.seams():
        raise InputError("attention maps need a Vision Transformer as CLIP's image tower")
    patch = host.visual.patch_embed.projection.kernel_size
    grid = (images.shape[-2] // patch[0], images.shape[-1] // patch[1])
    patches = grid[0] * grid[1]
    recorded: dict[nn.Module, Tensor] = {}
    values: list[Tensor] = []

    def record(block: nn.Module, norm: nn.Module, args: tuple, kwargs: dict, out: Tensor) -> None:
        recorded[block] = class_token_weights(block, out)[0, :, 1 : 1 + patches]
        if block is host.visual.layers[-1]:
            weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
            d = weight.shape[1]
            bias = None if bias is None else bias[2 * d :]
            value = block.attn.proj(F.linear(out[:, 1 : 1 + patches], weight[2 * d :], bias))
            values.append(host.visual.ln1(value) if host.visual.final_norm else value)

    hooks = [(block.ln1, partial(record, block)) for block in host.visual.layers]
    state = ForwardState(images=images, samples=[sample], class_names=host.class_names)
    with host.tuned(), _hooks(hooks):
        host.encode_image(images, state)
        host._compare(state)
        logits, text = cast(Tensor, state.logits), cast(Tensor, state.text_features)
        (feature,) = host.visual_proj(values[-1][0])
    scores = dict(zip(host.class_names, logits.softmax(-1)[0].tolist(), strict=True))
    chosen = tuple(choose(scores))
    text = text[0] if text.dim() == 3 else text
    of_class = text[[host.class_names.index(name) for name in chosen]]
    similarity = of_class @ F.normalize(feature, dim=-1).t()  # (C, N)
    attention = torch.stack(list(recorded.values())).view(len(recorded), -1, 1, *grid)
    return Look(
        (CLASS_TOKEN,),
        attention.cpu(),
        chosen,
        similarity.view(-1, *grid).cpu(),
        scores,
        torch.ones(grid),
    )
