"""What tests of data share."""

import logging

import pytest
from mmengine.logging import MMLogger

from tests.datasets.coco_splits import Data


@pytest.fixture
def data(tmp_path) -> Data:
    """The splits' contents; ``save`` writes them and ``prepare`` checks them as a run does."""
    return Data(tmp_path)


@pytest.fixture
def log(caplog):
    """Records of MMEngine's logger, which does not hand them on to pytest's by itself."""
    logger = MMLogger.get_instance("classification_data_test")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
