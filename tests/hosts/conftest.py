"""Fixtures for the tests of the hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_glip import correct_mmdetection
from small_glip import make_text_folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of the width that MMDetection's GLIP needs, one layer, with weights."""
    return make_text_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """MMDetection's own GLIP as GLIP was trained; see :func:`plain_glip.correct_mmdetection`."""
    correct_mmdetection(monkeypatch)
