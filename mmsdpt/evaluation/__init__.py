"""Metrics. Importing this package registers ``mmsdpt.AlignmentMetric`` and
``mmsdpt.JsonResults``.
"""

from .alignment import AlignmentMetric
from .json_results import JsonResults

__all__ = ["AlignmentMetric", "JsonResults"]
