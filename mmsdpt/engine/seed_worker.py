"""Seeds of data-loading workers."""

from __future__ import annotations

import random

import numpy as np
import torch

from mmsdpt.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed Python and NumPy from torch's per-worker seed.

    MMEngine's default gives workers the same seed in every epoch, so that augmentation repeats
    unless workers persist. torch derives the seed from the loader's generator, which
    :class:`mmsdpt.TunerCheckpointHook` seeds by run, epoch and process.
    """
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
