"""A BERT-base folder without weights, for measurements that do not depend on them."""

from __future__ import annotations

import dataclasses
import json
import re
import string
from pathlib import Path


def make_bert(folder: str | Path) -> None:
    """Write a folder that passes for bert-base-uncased's: its config, and a vocabulary of its size.

    The vocabulary has the words of COCO's and LVIS' class names and single letters; the rest is
    unused. There are no weights: mmsdpt then builds BERT with random ones.
    """
    from mmdet.datasets import CocoDataset, LVISV1Dataset

    from mmsdpt.hosts.grounding.bert_modules import BertConfig

    config = BertConfig()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": "bert", **dataclasses.asdict(config)}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    letters = string.ascii_lowercase + string.digits
    names = CocoDataset.METAINFO["classes"] + LVISV1Dataset.METAINFO["classes"]
    parts = " ".join(names).lower()
    words = sorted({word for word in re.findall("[a-z0-9]+", parts) if len(word) > 1})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    tokens += [f"##{letter}" for letter in letters] + words
    tokens += [f"[unused{i}]" for i in range(config.vocab_size - len(tokens))]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
