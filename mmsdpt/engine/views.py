"""Fixed views of images, so that cached features can be reused.

A view is one random result of the pipeline for an image, such as a flip or a crop. With K views
per image, drawn once by a seed, augmented images repeat, and so do their features. A sample whose
features are cached is neither read from disk nor augmented again.
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

_MOST = 20_000  # number of samples kept in memory, some kB each


@dataclass
class KnownView:
    """Data kept for one view of one image.

    Attributes:
        shape: Shape of the pipeline's output, (3, H, W).
        sample: Output of the pipeline besides the pixels.
        digests: Digests of the preprocessed pixels, by their shape.
    """

    shape: tuple[int, ...]
    sample: Any
    digests: dict[tuple[int, ...], str] = field(default_factory=dict)


class View:
    """A known view that can be loaded again.

    Args:
        known: The data kept for it.
        load: Returns its preprocessed pixels (3, H, W) without padding.
    """

    def __init__(self, known: KnownView, load: Callable[[], Tensor]) -> None:
        self.digests, self._load = known.digests, load

    def __deepcopy__(self, memo: dict) -> View:
        return self  # samples that refer to it are copied often

    def pixels(self, shape: Sequence[int]) -> Tensor:
        """The preprocessed pixels (3, H, W).

        Args:
            shape: Padded shape in the batch.
        """
        pixels = self._load()
        missing = [wanted - has for wanted, has in zip(shape, pixels.shape, strict=True)]
        return F.pad(pixels, (0, missing[2], 0, missing[1])) if any(missing) else pixels


class Views:
    """The views of a training set.

    Args:
        loader: The training loader.
        count: K views of each image. None: the pipeline is not random, so there is one.
        seed: Seed of the views.
        preprocess: Converts a batch to the host's input pixels, (B, 3, H, W); None: pixels are
            always loaded, because the result depends on the batch.
        wanted: Whether image features are currently cached; None: never.
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
        """Set the view of an index, given the seed of its position in the run."""
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
        """Identity of an image, the same in every selection: its file name, else its index."""
        info = getattr(self.loader.dataset, "get_data_info", lambda index: {})(index)
        path = info.get("img_path") if isinstance(info, Mapping) else None
        if not isinstance(path, str):
            return (index,)
        name = hashlib.blake2b(path.rpartition("/")[2].encode(), digest_size=8).digest()
        return tuple(np.frombuffer(name, dtype=np.uint32).tolist())

    # ------------------------------------------------------------------ where batches arrive

    def recognise(self, batch: Any) -> bool:
        """Assign views to the samples of a batch, and restore the parts that were left out.

        Args:
            batch: From the loader; changed in place.

        Returns:
            Whether the samples are reproducible: False if a pipeline that should not be random has
            drawn random numbers.
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
        """The preprocessed pixels of a view, (3, H, W), without padding."""
        assert self.preprocess is not None
        stamped = SampleIndex(index)
        stamped.seed = seed
        samples = SeededFetch(self.loader.dataset)([stamped])
        return self.preprocess(self.loader.collate_fn(samples))[0]
