"""Fixed views of images, so that features that are kept serve again.

A view is one draw of an image by its pipeline: flipped or not, this crop or that. With K views of
each image, drawn once by a seed, an augmented image comes back, and with it its features. A sample
whose features are kept is not read from disk again, nor augmented.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from .sample_seeds import SampleIndex, SeededFetch

_MOST = 20_000  # samples that are remembered, some kB each


@dataclass
class KnownView:
    """What is remembered of one view of one image.

    Attributes:
        shape: Of what the pipeline gives, (3, H, W).
        sample: What the pipeline gives beside the pixels.
        digests: Of the pixels as the host gets them, by their shape.
    """

    shape: tuple[int, ...]
    sample: Any
    digests: dict[tuple[int, ...], str] = field(default_factory=dict)


class View:
    """A known view in a run, which can load it again.

    Args:
        known: What is known of it.
        load: Gives its pixels (3, H, W) as the host gets them without padding.
    """

    def __init__(self, known: KnownView, load: Callable[[], Tensor]) -> None:
        self.digests, self._load = known.digests, load

    def __deepcopy__(self, memo: dict) -> View:
        return self  # a sample that refers to it is copied often

    def pixels(self, shape: Sequence[int]) -> Tensor:
        """The pixels (3, H, W) as the host gets them.

        Args:
            shape: As they are padded in their batch.
        """
        pixels = self._load()
        missing = [wanted - has for wanted, has in zip(shape, pixels.shape, strict=True)]
        return F.pad(pixels, (0, missing[2], 0, missing[1])) if any(missing) else pixels


class Views:
    """The views of a training set.

    Args:
        loader: Of the training.
        count: K views of each image. None: the pipeline draws nothing, so there is one.
        seed: Of the views.
        preprocess: Makes of a batch the pixels that the host gets, (B, 3, H, W); None: pixels are
            always loaded, because the batch decides what becomes of them.
        wanted: Whether features of images are kept at present; None: they never are.
    """

    def __init__(
        self,
        loader: DataLoader,
        count: int | None,
        seed: int,
        preprocess: Callable[[dict], Tensor] | None,
        wanted: Callable[[], bool] | None,
    ) -> None:
        self.loader, self.count, self.seed = loader, count, seed
        self.preprocess, self.wanted = preprocess, wanted
        self.known: dict[tuple[int, int], KnownView] = {}

    # ------------------------------------------------------------------ where samples are drawn

    def stamp(self, index: SampleIndex) -> None:
        """Say of an index, which has the seed of its place in the run, which view it is."""
        number = 0
        if self.count is not None:
            words = np.random.SeedSequence((*index.seed, 1)).generate_state(1)
            number = int(words[0]) % self.count
            index.seed = (self.seed, *self._identity(int(index)), number)
        index.view = (int(index), number)
        view = self.known.get(index.view)
        if view is not None and self.preprocess and self.wanted and self.wanted():
            index.shape = view.shape

    def _identity(self, index: int) -> tuple[int, ...]:
        """Of an image, the same in every selection: its file's name, else its place."""
        info = getattr(self.loader.dataset, "get_data_info", lambda index: {})(index)
        path = info.get("img_path") if isinstance(info, Mapping) else None
        if not isinstance(path, str):
            return (index,)
        name = hashlib.blake2b(path.rpartition("/")[2].encode(), digest_size=8).digest()
        return tuple(np.frombuffer(name, dtype=np.uint32).tolist())

    # ------------------------------------------------------------------ where batches arrive

    def recognise(self, batch: Any) -> bool:
        """Give the samples of a batch their views, and back what was left out of them.

        Args:
            batch: As the loader gives it; changed in place.

        Returns:
            Whether every sample is the same each time: False where a pipeline that should draw
            nothing has drawn random numbers.
        """
        samples = batch.get("data_samples") if isinstance(batch, Mapping) else None
        same = True
        for i, sample in enumerate(samples or ()):
            note = sample.pop("view", None)
            if note is None or self.wanted is None:
                continue
            place, seed, moved, left_out = note
            if left_out:
                samples[i] = sample = copy.deepcopy(self.known[place].sample)
            elif self.count is None and moved:
                same = False
                continue
            elif place not in self.known and len(self.known) < _MOST:
                shape = tuple(batch["inputs"][i].shape)
                self.known[place] = KnownView(shape, copy.deepcopy(sample))
            if place in self.known:
                view = View(self.known[place], partial(self._load, place[0], seed))
                sample.set_metainfo(dict(view=(view, left_out)))
        return same

    def _load(self, index: int, seed: tuple[int, ...]) -> Tensor:
        """The pixels of a view, (3, H, W) as the host gets them without padding."""
        assert self.preprocess is not None
        stamped = SampleIndex(index)
        stamped.seed = seed
        samples = SeededFetch(self.loader.dataset)([stamped])
        return self.preprocess(self.loader.collate_fn(samples))[0]
