"""Parameter-efficient tuning of fusion-based vision-language models on OpenMMLab.

Importing the package checks the versions of its dependencies, and makes MMDetection work if MMCV
was installed without its compiled extension (see :mod:`mmsdpt.compat`). It also asks PyTorch for
large memory pages. Nothing else happens at import: PyTorch and the toolboxes are imported by the
modules that need them.
"""

import os

from .compat import check_versions, mend_toolboxes
from .version import __version__

# Tensors of 2 MB and more lie on pages of 2 MB, on Linux. With pages of 4 kB, page faults are a
# quarter of a step on a large image (docs/performance.md). PyTorch reads it at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
check_versions()
mend_toolboxes()

__all__ = ["__version__"]
