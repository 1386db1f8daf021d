"""tools/feature_cache.py lists and clears what runs have kept."""

import pytest
import torch

from mmsdpt.utils.feature_store import FeatureStore, Space
from tests.run_tools import run


@pytest.fixture
def tool(monkeypatch, capsys):
    def call(*args):
        monkeypatch.setenv("COLUMNS", "200")
        return run("feature_cache.py", *args), capsys.readouterr()

    return call


def test_what_is_kept_is_listed_and_cleared(tool, tmp_path):
    about = dict(what="image features of GLIP", computed="cpu, float32", kept="as computed")
    store = FeatureStore(0, tmp_path)
    store.put(Space("0" * 32, about), {"a": (torch.ones(250_000),), "b": (torch.ones(250_000),)})
    code, said = tool("list", tmp_path)
    assert code == 0
    assert "image features of GLIP" in said.out and "2.0" in said.out
    assert tool("clear", tmp_path, "--unused-days", "1")[1].out == "removed 0 files, 0.0 MB\n"
    assert tool("clear", tmp_path)[1].out == "removed 2 files, 2.0 MB\n"
    code, said = tool("list", tmp_path / "nowhere")
    assert code == 2 and "is not a folder: give the folder set as feature_cache.folder" in said.err
