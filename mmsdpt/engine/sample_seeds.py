"""Seeds for training samples, independent of the worker that loads them; seeds of workers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmsdpt.registry import FUNCTIONS

from .state import random_state, set_random_state

if TYPE_CHECKING:
    from .views import Views


class SampleIndex(int):
    """A dataset index that carries the seed of the sample to the process that loads it.

    Attributes:
        seed: Seed of its random numbers.
        view: Image and view number, if views are fixed (:mod:`mmsdpt.engine.views`).
        shape: Shape of its pixels, if these need not be loaded.
    """

    seed: tuple[int, ...]
    view: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None


class SeededFetch:
    """Loads samples, each under its own random state. PyTorch calls it as ``__getitems__``.

    Args:
        dataset: Map-style dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        if not all(isinstance(index, SampleIndex) for index in indices):
            return [self.dataset[index] for index in indices]  # indices of another sampler
        before = random_state(devices=False)
        try:
            return [self._sample(index) for index in indices]
        finally:
            set_random_state(before)

    def _sample(self, index: SampleIndex) -> Any:
        if index.shape is not None:  # a known view: only its identity is needed
            note = dict(view=(index.view, index.seed, False, True))
            # One byte in memory: batching needs only the shape.
            pixels = torch.zeros(1, dtype=torch.uint8).expand(index.shape)
            return dict(inputs=pixels, data_samples=BaseDataElement(metainfo=note))
        words = np.random.SeedSequence(index.seed).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        # Not torch.manual_seed, which would also seed the GPUs.
        torch.default_generator.manual_seed(int(words[2]))
        if index.view is None:
            return self.dataset[int(index)]
        start = _generators()
        item = self.dataset[int(index)]
        if isinstance(item, Mapping) and "data_samples" in item:
            note = (index.view, index.seed, start != _generators(), False)
            item["data_samples"].set_metainfo(dict(view=note))
        return item


def _generators() -> tuple:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def seed_samples(loader: DataLoader, runner: Runner, views: Views | None = None) -> None:
    """Seed every sample of a training loader by the run's seed, the epoch and its position.

    Augmentation is then the same with any number of workers, persistent or not, and with any number
    of processes that share a batch; a resumed run draws the same as an uninterrupted one. A sample
    that is repeated within an epoch is augmented differently each time.

    The sampler attaches the seeds to its indices (:class:`SampleIndex`), as persistent workers get
    the epoch in no other way. Transforms that remember earlier samples, such as a mosaic with a
    cache, still depend on the worker.

    Args:
        loader: A loader with a map-style dataset and batches; others are not changed.
        runner: Its ``seed``, ``epoch``, ``rank`` and ``world_size`` are read when a sample is
            drawn.
        views: Fixed views to draw samples from.
    """
    sampler = getattr(loader.batch_sampler, "sampler", None)
    plain = isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__dict__")
    if plain or sampler is None:  # a stream, or a plain list without augmentation
        return

    def present_epoch() -> int:
        loop = runner._train_loop  # some loops draw samples while they are built
        return loop.epoch if isinstance(loop, BaseLoop) else 0

    # An attribute of the instance, so that the dataset keeps its class.
    loader.dataset.__getitems__ = SeededFetch(loader.dataset)
    kind = type(sampler)

    class Stamping(kind):
        """The sampler with seeds in its indices."""

        _epoch, _place = -1, 0

        def __iter__(self) -> Iterator[SampleIndex]:
            if self._epoch != (epoch := present_epoch()):  # stays 0 in loops over iterations
                self._epoch, self._place = epoch, 0
            for index in super().__iter__():
                stamped = SampleIndex(index)
                place = self._place * runner.world_size + runner.rank
                stamped.seed = (runner.seed, self._epoch, place)
                self._place += 1
                if views is not None:
                    views.stamp(stamped)
                yield stamped

        if hasattr(kind, "skip"):

            def skip(self, num_samples: int) -> None:
                super().skip(num_samples)
                self._epoch, self._place = present_epoch(), num_samples

    Stamping.__name__, Stamping.__qualname__ = kind.__name__, kind.__qualname__
    sampler.__class__ = Stamping


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed Python and NumPy from torch's per-worker seed.

    MMEngine's default gives workers the same seed in every epoch, so augmentation repeats unless
    workers persist. torch derives the seed from the loader's generator, which
    :class:`mmsdpt.TunerCheckpointHook` seeds by run, epoch and process.
    """
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
