"""Models of full size without memory for them, and folders of BERTs without weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from mmsdpt.utils.language_models import mini_bert_folder

VOCABULARY = len(Path(mini_bert_folder(), "vocab.txt").read_text().splitlines())


@contextmanager
def on_meta() -> Iterator[None]:
    """What is built meanwhile has shapes alone. The toolboxes read rates of stochastic depth off a
    linspace, which must hold numbers.
    """
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
        yield


def bert_folder(folder: Path, **sizes: object) -> Path:
    """A BERT of any sizes, by default those of bert-base-uncased, with the mini BERT's words."""
    (folder / "config.json").write_text(json.dumps(dict(model_type="bert", **sizes)))
    shutil.copy(Path(mini_bert_folder()) / "vocab.txt", folder)
    return folder
