"""Whether MMDetection's own BERT, and with it its GLIP, can be built to compare with."""

from importlib.metadata import version

import pytest
from packaging.version import Version

WORKS = Version(version("transformers")) < Version("4.54")
_REASON = "MMDetection's BERT needs transformers below 4.54 (make test-transformers has it)"
needs_mmdetections_bert = pytest.mark.skipif(not WORKS, reason=_REASON)


def skip_without_mmdetections_bert() -> None:
    if not WORKS:
        pytest.skip(_REASON)
