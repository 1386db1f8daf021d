"""Fixtures for the tests of the methods."""

from __future__ import annotations

import pytest
from torch import nn

from tests.tuners.contract_clip import CLIPHost


@pytest.fixture(scope="session")
def clip_b16(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """CLIP ViT-B/16 on the meta device, for counts."""
    return CLIPHost.large(tmp_path_factory.mktemp("clip_b16"))
