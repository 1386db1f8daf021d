"""Hooks: what trains and its table, checkpoints of what trains, alternating phases, class names,
pictures of predictions."""

from .alternating_phases import AlternatingPhasesHook
from .class_names import ClassNamesHook
from .early_stopping import EarlyStoppingHook
from .set_classes import SetClassesHook
from .trainable_table import TrainableTableHook
from .tuner_checkpoint import TunerCheckpointHook
from .validate_first import ValidateFirstHook
from .visualization import VisualizationHook

__all__ = [
    "AlternatingPhasesHook",
    "ClassNamesHook",
    "EarlyStoppingHook",
    "SetClassesHook",
    "TrainableTableHook",
    "TunerCheckpointHook",
    "ValidateFirstHook",
    "VisualizationHook",
]
