"""What a model costs: parameters and multiply-adds, counted without weights."""

from .cost import ModelCost, measure_cost
from .macs import MacCounter
from .meta import MetaRun, build_on_meta

__all__ = ["MacCounter", "MetaRun", "ModelCost", "build_on_meta", "measure_cost"]
