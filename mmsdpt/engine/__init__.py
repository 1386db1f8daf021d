"""Runner, hooks and optimizer construction."""

from mmsdpt.utils.base_weights import CheckpointError

from . import hooks
from .amp import CPUAmpOptimWrapper
from .build import build_runner
from .optim import TrainableOptimWrapperConstructor
from .runner import TunerRunner
from .seed_worker import seed_worker

__all__ = [
    "CPUAmpOptimWrapper",
    "CheckpointError",
    "TrainableOptimWrapperConstructor",
    "TunerRunner",
    "build_runner",
    "hooks",
    "seed_worker",
]
