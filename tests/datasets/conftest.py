"""What tests of data share."""

import pytest

from tests.datasets.coco_splits import Data


@pytest.fixture
def data(tmp_path) -> Data:
    """The splits' contents; ``save`` writes them and ``prepare`` checks them as a run does."""
    return Data(tmp_path)
