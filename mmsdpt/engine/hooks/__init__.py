"""Hooks: table, average and checkpoints of the trainable parameters, alternating phases, class
names, pictures of predictions."""

from .alternating_phases import AlternatingPhasesHook
from .class_names import ClassNamesHook
from .early_stopping import EarlyStoppingHook
from .gaussian_average import GaussianAverageHook
from .set_classes import SetClassesHook
from .tip_adapter import TipAdapterHook
from .trainable_table import TrainableTableHook
from .tuner_checkpoint import TunerCheckpointHook
from .validate_first import ValidateFirstHook
from .visualization import VisualizationHook

__all__ = [
    "AlternatingPhasesHook",
    "ClassNamesHook",
    "EarlyStoppingHook",
    "GaussianAverageHook",
    "SetClassesHook",
    "TipAdapterHook",
    "TrainableTableHook",
    "TunerCheckpointHook",
    "ValidateFirstHook",
    "VisualizationHook",
]
