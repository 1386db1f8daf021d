"""Write the predictions of a test as a pickle, in MMDetection's format."""

from __future__ import annotations

import pickle

from mmdet.evaluation import DumpDetResults

from mmsdpt.registry import METRICS
from mmsdpt.utils.atomic import write_atomically


@METRICS.register_module()
class PickledResults(DumpDetResults):
    """MMDetection's ``DumpDetResults``, but the file is written atomically.

    Args:
        out_file_path: File to write, ``.pkl`` or ``.pickle``.
    """

    default_prefix = "pickle"  # MMEngine warns if there is none

    def compute_metrics(self, results: list) -> dict:
        """Write the file."""
        write_atomically(self.out_file_path, pickle.dumps(results))
        return {}
