r"""Tip-Adapter and Tip-Adapter-F (Zhang et al., ECCV 2022, section 3), on CLIP.

A cache of the training images votes in addition to the class texts. With the normalised image
feature f (e), the cache's keys (N x e), N = C K, and their one-hot labels V (N x C):

    logits = exp(s) cos(f, g) + alpha exp(-beta (1 - f keys^T)) V

A key is the image's feature, averaged over several augmented passes and then normalised;
:class:`mmsdpt.TipAdapterHook` fills the cache and searches alpha and beta. Features and logits are
those of CLIP, including other tuners if there are any. Tip-Adapter trains nothing. Tip-Adapter-F
trains the keys, starting from these values, and does not normalise them again: C K e parameters,
8,192,000 on ViT-B/16 and ImageNet with K = 16.

alpha and beta are named as in the paper; early code of the authors swaps them. The authors keep the
epoch that is best on the test images, and on ImageNet they also search on the test images. Here the
last epoch is kept, and the search uses only the few validation images, so expect lower results than
theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import LogitsSeam
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError, listed, printable

from .base import Seams, Tuner
from .layers.common import positive_integer

STEPS = 200, 20  # for beta and alpha


@MODELS.register_module()
class TipAdapter(Tuner):
    """A cache of training images. Its keys train (Tip-Adapter-F), or not if the slot is ``frozen``
    (Tip-Adapter).

    Before it is filled, all keys are zero, and every class gets the same votes. It votes only for
    its own classes, in any order; for others nothing is added to the zero-shot logits, which a
    warning says once for each class list.

    Args:
        num_classes: C.
        shots: K. If a class has fewer images, some keys stay unused.
        alpha: Weight of the votes; the search replaces it.
        beta: How fast a vote decreases with the distance; the search replaces it.

    Attributes:
        keys: (C K, e).
        labels: (C K,), -1 for an unused key.
        strengths: (2,), alpha and beta.

    Raises:
        ValueError: if ``num_classes`` or ``shots`` is not a positive integer.
    """

    needs = ("logits",)
    settings = ("num_classes", "shots")
    remembers_classes = True
    labels: Tensor
    strengths: Tensor

    def __init__(
        self,
        *,
        seams: Seams,
        num_classes: int,
        shots: int = 16,
        alpha: float = 1.0,
        beta: float = 1.0,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        self.num_classes = positive_integer("num_classes", num_classes)
        self.shots = positive_integer("shots", shots)
        (seam,) = seams["logits"]
        self.width = seam.widths["width"]
        self.keys = nn.Parameter(torch.zeros(num_classes * shots, self.width))
        rows = torch.arange(num_classes).repeat_interleave(shots)
        self.register_buffer("labels", rows)
        self.register_buffer("strengths", torch.tensor([alpha, beta], dtype=torch.float32))
        self._checked: set[tuple[str, ...]] = set()  # class lists
        seam.connect(self, self._vote)

    @property
    def is_empty(self) -> bool:
        """Whether no image is in the cache."""
        return not bool(self.keys.any())

    def votes(self, similarity: Tensor, beta: Tensor | float, names: Sequence[str]) -> Tensor:
        """exp(-beta (1 - f keys^T)) V, (B, C), of f keys^T (B, N) for these classes."""
        votes = torch.exp(-beta * (1 - similarity)) * (self.labels >= 0)
        # The keys of a class lie side by side, so the product with V is a sum of K columns.
        own = votes.unflatten(-1, (self.num_classes, self.shots)).sum(-1)
        known = self.trained_classes
        if not known or tuple(names) == known:
            return own
        place = {name: i for i, name in enumerate(known)}
        columns = [place.get(name, self.num_classes) for name in names]  # last: unknown
        return F.pad(own, (0, 1))[:, columns]

    def _similarity(self, f: Tensor) -> Tensor:
        """f keys^T, (B, N), of normalised features (B, e)."""
        return f.to(self.keys.dtype) @ self.keys.t()

    def _vote(self, seam: LogitsSeam, logits: Tensor, state: ForwardState) -> Tensor:
        names = tuple(state.class_names)
        if not self.trained_classes:
            if len(names) != self.num_classes:
                raise InputError(
                    f"TipAdapter has num_classes={self.num_classes}, but the model has {len(names)}"
                    " classes: set num_classes, and fill the cache with their images"
                )
            self.trained_classes = names if self.training else ()
        self._warn_of_others(names)
        alpha, beta = self.strengths
        with torch.autocast(logits.device.type, enabled=False):  # beta multiplies rounding errors
            similarity = self._similarity(cast(Tensor, state.image_features))
            votes = self.votes(similarity, beta, names)
        return logits + (alpha * votes).to(logits.dtype)

    def _warn_of_others(self, names: tuple[str, ...]) -> None:
        """Say once for each class list which of its classes get no votes."""
        known = self.trained_classes
        if not known or names == known or names in self._checked:
            return
        self._checked.add(names)
        own = set(known)
        if others := [name for name in names if name not in own]:
            all_of_them = len(others) == len(names)
            print_log(
                f"{type(self).__name__} has images of {listed(map(repr, known))}, but none of"
                f" {listed(map(repr, others))}: "
                + ("the model acts as without it" if all_of_them else "these get no votes"),
                "current",
                logging.WARNING,
            )

    @torch.no_grad()
    def fill(self, features: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
        """Put images into the cache.

        Args:
            features: (M, e), not normalised.
            labels: (M,), from 0 to C - 1.
            class_names: The C names.

        Raises:
            InputError: if the number of classes differs, or a class has more than K images.
        """
        if len(class_names) != self.num_classes:
            raise InputError(
                f"TipAdapter has num_classes={self.num_classes}, but the training images have"
                f" {len(class_names)} classes: set its number"
            )
        counts = labels.bincount(minlength=self.num_classes)
        if (most := int(counts.max())) > self.shots:
            raise InputError(
                f"TipAdapter has shots={self.shots}, but the class"
                f" {printable(class_names[int(counts.argmax())])!r} has {most} training images: set"
                f" shots={most} of the tuner, or draw fewer with"
                f" train_dataloader.dataset.shots={self.shots}"
            )
        self.keys.zero_()
        self.labels.fill_(-1)
        for c in range(self.num_classes):
            own = F.normalize(features[labels == c], dim=-1)
            rows = slice(c * self.shots, c * self.shots + len(own))
            self.keys[rows], self.labels[rows] = own.to(self.keys), c
        self.trained_classes = tuple(class_names)

    @torch.no_grad()
    def search(
        self, features: Tensor, logits: Tensor, labels: Tensor, most: tuple[float, float]
    ) -> float:
        """Set alpha and beta to the first best pair of a grid on validation images.

        Args:
            features: (M, e), of validation images.
            logits: (M, C), zero-shot logits in the order of the trained classes.
            labels: (M,).
            most: Upper ends (b, a) of the grid, not included: beta_i = 0.1 + i (b - 0.1) / 200 and
                alpha_j = 0.1 + j (a - 0.1) / 20, with beta in the outer loop.

        Returns:
            The accuracy of this pair, from 0 to 1.
        """
        similarity, best = self._similarity(F.normalize(features, dim=-1)), -1.0
        betas, alphas = (
            [0.1 + i * (end - 0.1) / steps for i in range(steps)]
            for end, steps in zip(most, STEPS, strict=True)
        )
        for beta in betas:
            votes = self.votes(similarity, beta, self.trained_classes)
            for alpha in alphas:
                right = ((logits + alpha * votes).argmax(-1) == labels).double().mean().item()
                if right > best:
                    best = right
                    self.strengths.copy_(torch.tensor([alpha, beta]))
        return best
