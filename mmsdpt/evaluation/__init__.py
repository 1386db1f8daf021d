"""Metrics. Importing this package registers ``mmsdpt.AlignmentMetric``, ``mmsdpt.JsonResults``,
``mmsdpt.LVISMetric`` and ``mmsdpt.PickledResults``.
"""

from .alignment import AlignmentMetric
from .json_results import JsonResults
from .lvis import LVISMetric
from .pickled_results import PickledResults

__all__ = ["AlignmentMetric", "JsonResults", "LVISMetric", "PickledResults"]
