"""Fixtures for the tests of the methods."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from torch import nn

from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_glip import GLIPHost
from tests.tuners.contract_grounding_dino import GroundingDINOHost


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nn.Module]:
    """The hosts of the papers by name, on the meta device: GLIP-L, Grounding DINO-T, ViT-B/16 and
    ViT-L/14.
    """
    detectors = {host.paper: host for host in (GLIPHost, GroundingDINOHost)}

    @functools.cache
    def of(name: str) -> nn.Module:
        host = detectors.get(name, CLIPHost)
        return host.large(tmp_path_factory.mktemp("large"), name)

    return of
