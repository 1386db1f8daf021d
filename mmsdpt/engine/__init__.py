"""Runner, hooks and optimizer construction."""

from . import hooks
from .base_weights import CheckpointError
from .build import build_runner
from .optim import TrainableOptimWrapperConstructor
from .runner import TunerRunner
from .seed_worker import seed_worker

__all__ = [
    "CheckpointError",
    "TrainableOptimWrapperConstructor",
    "TunerRunner",
    "build_runner",
    "hooks",
    "seed_worker",
]
