"""Metrics. Importing this package registers ``mmsdpt.AlignmentMetric``."""

from .alignment import AlignmentMetric

__all__ = ["AlignmentMetric"]
