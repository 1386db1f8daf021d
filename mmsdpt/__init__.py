"""Parameter-efficient tuning of fusion-based vision-language models on OpenMMLab.

Importing the package checks the versions of what it builds on and makes MMDetection importable
where MMCV was installed without its compiled extension (see :mod:`mmsdpt.compat`). Nothing else
happens at import.
"""

from .compat import check_versions, ensure_mmcv_ext
from .version import __version__

check_versions()
ensure_mmcv_ext()

__all__ = ["__version__"]
