r"""MMRL: multi-modal representation learning (Guo and Gu, CVPR 2025, section 3), on CLIP.

K tokens R (K x w), shared by both towers, enter the last J blocks through maps for each block b:

    image: before the first of them, rows Lin_v,b(R) are appended to the class token and patches;
           before each later one, Lin_v,b(R) replace these rows
    text:  the same with Lin_t,b(R), after the start token, so the texts are K tokens longer

They get no position embedding, and image rows do not pass ``pre_norm``. A second image feature r
comes from the K rows after the last norm, with its own projection P (d_v x e). f and g are the
usual features, f0 and g0 those of the untuned CLIP:

    r    = mean_k(row_k) P
    a    = exp(s) cos(f, g),    a_r = exp(s) cos(r, g)
    loss = 0.7 CE(a) + 0.3 CE(a_r) + lambda (1 - mean cos(f, f0)) + lambda (1 - mean cos(g, g0))

Predictions use 0.7 a + 0.3 a_r for trained classes, and only a for other classes, because r is
fitted to the trained classes. The texts and g0 use the data set's template.

K w + J (w + 1) (d_t + d_v) + d_v e parameters: 4,992,256 on ViT-B/16 with K = 5, w = 512, J = 7.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import LogitsSeam, TeacherSeam, TokenSeam
from mmsdpt.hosts.seams import BlockSeam, ForwardState, LossSeam, PromptRows, Rows, RunBlock
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import chosen_depth, cosine_distance, drawn, positive_integer

USUAL_DEPTH = 7


@MODELS.register_module()
class MMRL(Tuner):
    """Tokens shared by the last blocks of both towers, and a second image feature made from them.

    A tuner file contains the names of the trained classes. If the model has any other class, the
    second feature is not used in the predictions.

    Args:
        num_tokens: K.
        token_width: w.
        depth: J; None: 7, or all blocks if a tower has fewer.
        ratio: Weight of the usual logits, 0.7 above, in the loss and the predictions.
        weight: lambda. The authors use 7 for Cars, 6 for Aircraft, SUN397 and DTD, 5 for Food, 4
            for Flowers, 3 for UCF101, 0.5 for ImageNet and Caltech, 0.2 for Pets and for transfer
            between data sets, 0.01 for EuroSAT.
        use_tokens: False: all predictions use only a. The authors also do this for trained classes
            under a shift of the images, such as ImageNetV2, which the class names do not reveal.

    Attributes:
        tokens: R (K, w), drawn from N(0, 0.02^2).
        text_maps, image_maps: Lin of each of the J blocks; all maps of a tower start equal.
        projection: P (d_v, e), drawn with variance 1 / d_v.

    Raises:
        ValueError: if the towers do not have that depth, or the ratio is not in [0, 1].
    """

    needs = ("text_block_inputs", "image_blocks", "logits", "losses", "teacher")
    settings = ("num_tokens", "token_width", "depth", "ratio")
    remembers_classes = True

    def __init__(
        self,
        *,
        seams: Seams,
        num_tokens: int = 5,
        token_width: int = 512,
        depth: int | None = None,
        ratio: float = 0.7,
        weight: float = 0.5,
        use_tokens: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_tokens = positive_integer("num_tokens", num_tokens)
        self.token_width = positive_integer("token_width", token_width)
        texts = cast(Sequence[TokenSeam], seams["text_block_inputs"])
        images = cast(Sequence[BlockSeam], seams["image_blocks"])
        self._teacher = cast(TeacherSeam, seams["teacher"][0])
        most = min(len(texts), len(images))
        self.depth = chosen_depth(depth, USUAL_DEPTH, most, " on this host")
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio must be from 0 to 1, got {ratio}")
        self.ratio, self.weight, self.use_tokens = float(ratio), weight, use_tokens
        text_width, image_width = texts[0].widths["width"], images[0].widths["width"]
        self.tokens = drawn(num_tokens, token_width)
        self.text_maps = _copies(nn.Linear(token_width, text_width), self.depth)
        self.image_maps = _copies(nn.Linear(token_width, image_width), self.depth)
        self.projection = drawn(image_width, self._teacher.widths["width"], std=image_width**-0.5)
        self._first_text, self._first_image = len(texts) - self.depth, len(images) - self.depth
        for text in texts[self._first_text :]:
            text.connect(self, self._text, exclusive=True)
        for image in images[self._first_image :]:
            image.connect(self, self._image)
        seams["logits"][0].connect(self, self._mixed)
        seams["losses"][0].connect(self, self._losses)

    def _text(self, seam: TokenSeam, x: Tensor, state: ForwardState) -> Tensor:
        i = seam.index - self._first_text
        own = self.text_maps[i](self.tokens).to(x.dtype).expand(x.shape[0], -1, -1)
        return torch.cat([x[:, :1], own, x[:, 1 + (self.num_tokens if i else 0) :]], dim=1)

    def _image(
        self, seam: BlockSeam, run: RunBlock, x: Tensor, rows: Rows, state: ForwardState
    ) -> tuple[Tensor, Rows]:
        own = self.image_maps[seam.index - self._first_image](self.tokens)
        return run(x, {**rows, self: PromptRows(own, keep=True, output=True)})

    def _of_tokens(self, state: ForwardState) -> Tensor:
        """a_r, (B, C)."""
        rows = state.image_rows[self].mean(dim=1)  # (B, d_v)
        r = rows.to(self.projection.dtype) @ self.projection
        g = cast(Tensor, state.text_features)
        return self._teacher.compare(r, g.to(r.dtype))

    def _mixed(self, seam: LogitsSeam, logits: Tensor, state: ForwardState) -> Tensor:
        if not self.trained_classes and self.training:
            self.trained_classes = tuple(state.class_names)
        a_r = self._of_tokens(state)
        state.memo[self] = logits, a_r  # for the loss
        known = not self.trained_classes or set(state.class_names) <= set(self.trained_classes)
        if not (known and self.use_tokens):
            return logits
        return self.ratio * logits + (1 - self.ratio) * a_r.to(logits.dtype)

    def _losses(self, seam: LossSeam, state: ForwardState) -> dict[str, Tensor]:
        if self.frozen:
            return {}
        f0 = self._teacher.encode_images(state.images)
        g0 = self._teacher.encode_classes(state.class_names)
        a, a_r = (x.to(f0.dtype) for x in state.memo[self])
        f, g = cast(Tensor, state.image_features), cast(Tensor, state.text_features)
        labels = cast(Tensor, state.labels)
        a_part, r_part = F.cross_entropy(a, labels), F.cross_entropy(a_r, labels)
        return dict(
            loss=self.ratio * a_part + (1 - self.ratio) * r_part,
            loss_image=self.weight * cosine_distance(f, f0),
            loss_text=self.weight * cosine_distance(g, g0),
        )


def _copies(linear: nn.Linear, count: int) -> nn.ModuleList:
    return nn.ModuleList(copy.deepcopy(linear) for _ in range(count))
