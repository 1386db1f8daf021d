"""Metrics. Importing this package registers ``mmsdpt.AlignmentMetric``, ``mmsdpt.JsonResults`` and
``mmsdpt.LVISMetric``.
"""

from .alignment import AlignmentMetric
from .json_results import JsonResults
from .lvis import LVISMetric

__all__ = ["AlignmentMetric", "JsonResults", "LVISMetric"]
