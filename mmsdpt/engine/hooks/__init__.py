"""Hooks: what trains and its table, checkpoints of what trains, alternating phases."""

from .alternating_phases import AlternatingPhasesHook
from .trainable_table import TrainableTableHook
from .tuner_checkpoint import TunerCheckpointHook

__all__ = ["AlternatingPhasesHook", "TrainableTableHook", "TunerCheckpointHook"]
