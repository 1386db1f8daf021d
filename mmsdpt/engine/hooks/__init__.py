"""Hooks: what trains and its table, checkpoints of what trains, alternating phases, class names."""

from .alternating_phases import AlternatingPhasesHook
from .box_pictures import BoxPicturesHook
from .class_names import ClassNamesHook
from .prediction_pictures import PredictionPicturesHook
from .set_classes import SetClassesHook
from .stop_on_plateau import StopOnPlateauHook
from .trainable_table import TrainableTableHook
from .tuner_checkpoint import TunerCheckpointHook
from .validate_first import ValidateFirstHook

__all__ = [
    "AlternatingPhasesHook",
    "BoxPicturesHook",
    "ClassNamesHook",
    "PredictionPicturesHook",
    "SetClassesHook",
    "StopOnPlateauHook",
    "TrainableTableHook",
    "TunerCheckpointHook",
    "ValidateFirstHook",
]
