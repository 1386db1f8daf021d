"""Runner, hooks and optimizer construction."""

from mmsdpt.utils.base_weights import CheckpointError

from . import hooks
from .optim import CPUAmpOptimWrapper, TrainableOptimWrapperConstructor
from .runner import TunerRunner, build_runner
from .sample_seeds import seed_worker

__all__ = [
    "CPUAmpOptimWrapper",
    "CheckpointError",
    "TrainableOptimWrapperConstructor",
    "TunerRunner",
    "build_runner",
    "hooks",
    "seed_worker",
]
