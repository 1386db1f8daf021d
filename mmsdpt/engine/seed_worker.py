"""Seeds of data-loading workers."""

from __future__ import annotations

import random

import numpy as np
import torch

from mmsdpt.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, num_workers: int, rank: int, seed: int, **_) -> None:
    """Seed Python and NumPy from torch's per-worker seed.

    MMEngine's default gives workers the same seed in every epoch, so that augmentation repeats
    unless workers persist. torch derives the seed from the loader's generator, which differs by
    epoch and can be restored.

    Args:
        worker_id: Number of the worker.
        num_workers: Not used; handed over by MMEngine.
        rank: Rank of the process, so that processes differ.
        seed: Not used; the loader's generator already follows from it.
    """
    value = (torch.initial_seed() + 1_000_003 * rank) % 2**32
    np.random.seed(value)
    random.seed(value)
