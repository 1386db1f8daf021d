"""Token ids of all class names of the benchmarks: the same with every version of transformers and
tokenizers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import transformers
from mmdet.datasets import CocoDataset, LVISV1Dataset, Objects365V1Dataset
from mmdet.models.detectors.glip import clean_label_name
from mmpretrain.datasets import categories

from mmsdpt.hosts.clip.tokenizer import CLIPTokenizer, clean_text, tokenizer_folder
from mmsdpt.utils.bert_tokenizer import BertTokenizer
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.language_models import mini_bert_folder
from tests.hosts.test_clip_tokenizer import TEXTS

# Two names of ImageNet are spelt differently by OpenMMLab and OneDL.
SPELT_TWICE = ("American black bear, ", "confectionery, ")
CLIP_NAMES = sorted(
    {
        name.replace("_", " ")
        for value in vars(categories).values()
        if isinstance(value, (list, tuple))
        for name in value
        if isinstance(name, str) and not name.startswith(SPELT_TWICE)
    }
)
DETECTION_NAMES = sorted(
    {
        clean_label_name(name)
        for dataset in (CocoDataset, LVISV1Dataset, Objects365V1Dataset)
        for name in dataset.METAINFO["classes"]
    }
)
# Of Hugging Face's tokenizers in transformers 4.53.3.
DIGESTS = {
    "clip": "034cb8ed2be03de1",
    "mini_clip": "d582f2aa64a2f578",
    "mini_bert": "de8a306ec7ea16aa",
}


def digest(rows: object) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "folder"), [("clip", None), ("mini_clip", "mmsdpt://mini_clip")], ids=str
)
def test_clip_ids_are_those_of_every_version(name, folder):
    ours = CLIPTokenizer(folder)
    theirs = transformers.CLIPTokenizerFast.from_pretrained(str(tokenizer_folder(folder)))
    found = [ours.encode(f"a photo of a {word}.") for word in CLIP_NAMES]
    assert len(found) > 2900
    assert digest(found) == DIGESTS[name]
    texts = [clean_text(f"a photo of a {word}.") for word in CLIP_NAMES]
    assert found == theirs(texts, add_special_tokens=False).input_ids


def test_bert_ids_and_places_are_those_of_every_version():
    ours = BertTokenizer(mini_bert_folder())
    theirs = transformers.AutoTokenizer.from_pretrained(mini_bert_folder())
    found = [(ours(name).input_ids, places(ours, name)) for name in DETECTION_NAMES]
    assert len(found) > 1300
    assert digest(found) == DIGESTS["mini_bert"]
    assert found == [(theirs(name).input_ids, places(theirs, name)) for name in DETECTION_NAMES]


def places(tokenizer, text: str) -> list[int | None]:
    """The token of each character."""
    tokenized = tokenizer([text])
    return [tokenized.char_to_token(i) for i in range(len(text))]


def test_unusual_texts_get_hugging_faces_ids():
    ours = BertTokenizer(mini_bert_folder())
    theirs = transformers.AutoTokenizer.from_pretrained(mini_bert_folder())
    texts = [*TEXTS, "[MASK] red [SEP] x", "x" * 200, "\u4f60\u597d zq", "a\u0300\x00\ufffd b"]
    for text in texts:
        assert ours(text).input_ids == theirs(text).input_ids, text
        assert ours.tokenize(text) == theirs.tokenize(text), text
        assert places(ours, text) == places(theirs, text), text


@pytest.mark.parametrize(
    "options",
    [
        dict(padding="longest"),
        dict(padding="max_length", max_length=20, truncation=True),
        dict(padding=True, max_length=9, truncation=True),
        dict(padding=True, add_special_tokens=False),
    ],
    ids=str,
)
def test_batches_are_hugging_faces(options):
    texts = ["red circle", "x", "", "a cow that is brown. penguin. zyx-wolf"]
    ours = BertTokenizer(mini_bert_folder())(texts, return_tensors="pt", **options)
    theirs = transformers.AutoTokenizer.from_pretrained(mini_bert_folder())(
        texts, return_tensors="pt", **options
    )
    for name in ours.keys():
        assert ours[name].tolist() == theirs[name].tolist(), name
        assert getattr(ours.to("cpu"), name) is not None


def cased_folder(folder: Path) -> Path:
    shutil.copy(Path(mini_bert_folder()) / "vocab.txt", folder)
    settings = dict(
        tokenizer_class="BertTokenizer", do_lower_case=False, unk_token=dict(content="[UNK]")
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_cased_vocabulary_keeps_case(tmp_path):
    ours = BertTokenizer(cased_folder(tmp_path))
    assert ours.tokenize("red Red") == ["red", "[UNK]"]
    assert ours.decode(ours("don't red").input_ids) == "[CLS] don't red [SEP]"


def test_tokenizer_json_alone_is_enough_and_its_cut_is_not_ours(tmp_path):
    theirs = transformers.AutoTokenizer.from_pretrained(mini_bert_folder())
    theirs.backend_tokenizer.enable_truncation(4)
    theirs.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours, plain = BertTokenizer(tmp_path), BertTokenizer(mini_bert_folder())
    for text in TEXTS:
        assert ours(text).input_ids == plain(text).input_ids


def test_unequal_rows_need_padding():
    tokenizer = BertTokenizer(mini_bert_folder())
    with pytest.raises(ValueError, match="captions of 3 to 4 tokens .* without padding=True"):
        tokenizer(["red", "red circle"], return_tensors="pt")


def test_a_vocabulary_that_is_not_berts_is_one_sentence(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(InputError, match=r"vocab.txt is not BERT's: it has no \[CLS\]"):
        BertTokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="vocab.txt cannot be read") as caught:
        BertTokenizer(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="tokenizer.json cannot be read"):
        BertTokenizer(tmp_path)
