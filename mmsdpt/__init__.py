"""Parameter-efficient tuning of fusion-based vision-language models on OpenMMLab.

Importing the package checks the versions of what it builds on, and has MMDetection work where MMCV
was installed without its compiled extension (see :mod:`mmsdpt.compat`). Nothing else happens at
import: PyTorch and the toolboxes are imported by the modules that need them.
"""

from .compat import check_versions, mend_toolboxes
from .version import __version__

check_versions()
mend_toolboxes()

__all__ = ["__version__"]
