r"""Learning without forgetting (Li and Hoiem, ECCV 2016) for grounding: while a tuner learns new
names, the outputs for captions that the detector knew before are kept close to the earlier ones.

Every image gets a second caption, with phrases from a list. z_nt is the logit of the tuned model at
position n for word t, and b_n are its box deltas there; z'_nt and b'_n are the same without the
tuners that train. With p = sigmoid(z), p' = sigmoid(z') and s_n = max_t p'_nt over the words of the
phrases:

    loss_retention     = w / S sum_nt KL(p'_nt || p_nt)      S = max(1, sum_n s_n)
    loss_retention_box = w / S sum_n s_n mean |b_n - b'_n|

with KL between two Bernoulli distributions. No images of the old data are needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from torch import Tensor

from mmsdpt.utils.class_names import as_read
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.memo import Memo

Outputs = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]
"""Per level: logits (B, h w, L), box deltas (B, 4, h, w), centerness (B, 1, h, w)."""


class Retention:
    """The captions and the losses.

    Args:
        phrases: What the detector must not forget: a list of phrases, or the name of an MMDetection
            dataset, for its classes (``"Objects365V1Dataset"``, ``"CocoDataset"``). Phrases that
            read as class names of the training images are left out.
        weight: w.
        phrases_per_caption: Number of phrases in each caption.
        num_captions: Number of captions. They are drawn once, so that a frozen text encoder encodes
            each only once.
        seed: Seed of this draw. The caption of an image is drawn from them at each step.

    Raises:
        InputError: if a value is invalid.
    """

    def __init__(
        self,
        phrases: Sequence[str] | str,
        weight: float = 0.3,
        phrases_per_caption: int = 6,
        num_captions: int = 64,
        seed: int = 0,
    ) -> None:
        if isinstance(phrases, str):
            found = DATASETS.get(phrases)
            known = getattr(found, "METAINFO", {}).get("classes")
            if known is None:
                raise InputError(
                    f"retention.phrases={phrases!r} is not a dataset of MMDetection with class"
                    " names: name one, such as 'CocoDataset', or give a list of phrases"
                )
            phrases = known
        if not phrases or not all(isinstance(each, str) for each in phrases):
            raise InputError("retention.phrases must be a list of phrases, or a data set's name")
        if not weight >= 0:
            raise InputError(f"retention.weight must be at least 0, got {weight!r}")
        for name, value in (
            ("phrases_per_caption", phrases_per_caption),
            ("num_captions", num_captions),
        ):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"retention.{name} must be a positive integer, got {value!r}")
        self.phrases, self.weight = tuple(dict.fromkeys(phrases)), weight
        self.phrases_per_caption, self.num_captions = phrases_per_caption, num_captions
        self.seed = seed
        self._drawn: Memo[list[tuple[str, ...]]] = Memo(64)

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any] | None) -> Retention | None:
        """Build it from ``model.retention``; None without this setting.

        Raises:
            InputError: if a setting is unknown or a value is invalid.
        """
        if cfg is None:
            return None
        try:
            return cls(**cfg)
        except TypeError as error:
            raise InputError(f"model.retention={dict(cfg)!r}: {error}") from None

    def samples(self, samples: Sequence[DetDataSample]) -> list[DetDataSample]:
        """For each sample a new one with the same image and a caption of old phrases."""
        found = []
        for sample in samples:
            captions = self._captions(sample.text)
            chosen = captions[int(torch.randint(len(captions), ()))]
            found.append(DetDataSample(metainfo={**sample.metainfo, "text": chosen}))
        return found

    def _captions(self, classes: Sequence[str] | str) -> list[tuple[str, ...]]:
        names = classes.split(". ") if isinstance(classes, str) else classes
        own = frozenset(as_read(name.strip(" .")).tokens for name in names)
        return self._drawn.get(own, lambda: self._draw(own))

    def _draw(self, own: frozenset[Hashable]) -> list[tuple[str, ...]]:
        phrases = [each for each in self.phrases if as_read(each).tokens not in own]
        if not phrases:
            raise InputError(
                "all phrases of model.retention are class names of the training data, so that"
                " nothing is left to keep: name others, or remove retention"
            )
        generator = torch.Generator().manual_seed(self.seed)
        count = min(self.phrases_per_caption, len(phrases))
        orders = (
            torch.randperm(len(phrases), generator=generator) for _ in range(self.num_captions)
        )
        return [tuple(phrases[i] for i in order[:count]) for order in orders]

    def losses(
        self, tuned: Outputs, before: Outputs, class_maps: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """``loss_retention`` and ``loss_retention_box``.

        Args:
            tuned: Outputs of the model as it is.
            before: Outputs without the tuners that train, for the same images and captions.
            class_maps: Per image (C, max_tokens), 1 where a token belongs to a phrase.
        """
        words = torch.stack([each.any(0) for each in class_maps])  # (B, max_tokens)
        length = min(words.shape[1], *(level.shape[2] for level in tuned[0]))
        words = words[:, None, :length].to(tuned[0][0].dtype)
        z, z0 = (torch.cat(list(x[0]), dim=1)[..., :length] for x in (tuned, before))
        p0 = z0.sigmoid()
        entropy = F.binary_cross_entropy_with_logits
        divergence = entropy(z, p0, reduction="none") - entropy(z0, p0, reduction="none")
        seen = (p0 * words).amax(-1)  # (B, N)
        total = seen.sum().clamp(min=1.0)
        b, b0 = (
            torch.cat([level.flatten(2).transpose(1, 2) for level in x[1]], dim=1)
            for x in (tuned, before)
        )
        boxes = ((b - b0).abs().mean(-1) * seen).sum()
        return dict(
            loss_retention=self.weight * (divergence * words).sum() / total,
            loss_retention_box=self.weight * boxes / total,
        )
