"""Fixtures for the tests of the hosts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import atss_vlfusion_head as mmdet_head
from mmdet.models.language_models import bert as mmdet_bert
from torch import nn

from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.utils.language_models import MINI_BERT
from projects.benchmark.plain_form import PlainDyConv
from tests.hosts.full_size import bert_folder
from tests.hosts.mmdet_bert import skip_without_mmdetections_bert
from tests.hosts.small_glip import make_text_folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of the width that MMDetection's GLIP needs, one layer, with weights."""
    return make_text_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def mini_bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(name=MINI_BERT, pretrained=False).eval().requires_grad_(False)


@pytest.fixture
def bert_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of BERT-base that MMDetection's own text encoder takes as it is."""
    skip_without_mmdetections_bert()
    bert = mmdet_bert.HFBertModel

    def from_config(name: str, config: object, add_pooling_layer: bool) -> nn.Module:
        return bert(config, add_pooling_layer=add_pooling_layer)

    monkeypatch.setattr(mmdet_bert, "HFBertModel", SimpleNamespace(from_pretrained=from_config))
    return str(bert_folder(tmp_path))


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """MMDetection's own GLIP as GLIP was trained: the installed DyConv may resize by nearest
    neighbour, and its deformable convolution needs compiled operators.
    """
    monkeypatch.setattr(mmdet_head.DyConv, "forward", PlainDyConv.forward)
