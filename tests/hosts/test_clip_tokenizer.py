"""CLIP's tokenizer: OpenAI's ids from files in the package, and clear words about other files."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmpretrain.datasets import categories

from mmsdpt.hosts.clip.tokenizer import CLIPTokenizer, clean_text, tokenizer_folder
from mmsdpt.utils.errors import InputError
from tests.run_tools import load_tool

TEXTS = [
    "a photo of a forget-me-not, a type of flower.",
    "bird of paradise",
    "2012 Ferrari FF Coupe",
    "boeing 717",
    "t-shirt",
    "Crème  BRÛLÉE",
    "cre\u0300me",
    "don't",
    "don\u2019t \u201cquote\u201d",
    "I'LL say WE'VE it's",
    "  MULTI   spaces\t\n and\u00a0more\u3000",
    "salt &amp; pepper &lt;3 &amp;amp; &eacute;",
    "😀 🦜 👩\u200d🔬",
    "日本語 한국어 مرحبا हिन्दी",
    "²³½ 1234 5a6",
    "snake_case {} ...!!??",
    "İstanbul Straße ΑΣ",
    "",
]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer()


@pytest.fixture(scope="module")
def openai():
    """open_clip's copy of OpenAI's tokenizer."""
    module = pytest.importorskip(
        "open_clip.tokenizer", reason="OpenAI's tokenizer to compare with is in open-clip-torch"
    )
    return module.SimpleTokenizer()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("model_converters/make_clip_tokenizer.py")


def test_ids_of_all_class_names_of_the_toolbox_are_openais(tokenizer, openai):
    names = [
        name
        for value in vars(categories).values()
        if isinstance(value, (list, tuple))
        for name in value
        if isinstance(name, str)
    ]
    assert len(names) > 3000
    for name in (*names, *(name.replace("_", " ") for name in names)):
        assert tokenizer.encode(name) == openai.encode(name), name


@pytest.mark.parametrize("text", TEXTS)
def test_ids_of_unusual_texts_are_openais(tokenizer, openai, text):
    assert tokenizer.encode(text) == openai.encode(text)


def test_rows_are_openais_also_where_a_text_is_cut(tokenizer, openai):
    texts = [*TEXTS, "many words " * 60]
    torch.testing.assert_close(tokenizer(texts, truncate=True), openai(texts), rtol=0, atol=0)
    assert torch.equal(tokenizer("boeing 717"), tokenizer(["boeing 717"]))


def test_known_ids_need_no_other_package_to_compare_with(tokenizer):
    row = tokenizer(["a photo of a cat."])
    assert row.dtype == torch.int64 and row.shape == (1, 77)
    assert row[0, :9].tolist() == [49406, 320, 1125, 539, 320, 2368, 269, 49407, 0]
    assert not row[0, 8:].any()
    assert (tokenizer.start, tokenizer.end, tokenizer.vocab_size) == (49406, 49407, 49408)


def test_text_that_is_too_long_is_refused_with_its_length(tokenizer):
    assert tokenizer(["x " * 75])[0, -1] == tokenizer.end
    with pytest.raises(ValueError, match=r"'x x .*\.\.\.' has 76 tokens.*room for 75.*truncate"):
        tokenizer(["short", "x " * 76])


def test_context_length_sets_the_length_of_rows():
    short = CLIPTokenizer("mmsdpt://mini_clip", context_length=16)
    assert short(["a red circle"]).shape == (1, 16)
    assert short("x " * 30, truncate=True)[0, -1] == short.end
    with pytest.raises(InputError, match="context_length must be 3 or more"):
        CLIPTokenizer("mmsdpt://mini_clip", context_length=2)


def test_copies_and_pickles_give_the_same_ids(tokenizer):
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert torch.equal(other(TEXTS), tokenizer(TEXTS))
        assert (other.end, other.context_length) == (tokenizer.end, tokenizer.context_length)


def test_cleaning_unescapes_html_straightens_quotes_and_collapses_space():
    assert clean_text(" Salt &amp;amp;\n Pepper\u2019s ") == "salt & pepper's"


def test_mini_vocabulary_spells_every_text_with_dense_ids(tokenizer):
    mini = CLIPTokenizer("mmsdpt://mini_clip")
    vocabulary = json.loads((tokenizer_folder("mmsdpt://mini_clip") / "vocab.json").read_text())
    words = {index: word for word, index in vocabulary.items()}
    full = {
        index: word
        for word, index in json.loads((tokenizer_folder() / "vocab.json").read_text()).items()
    }
    assert sorted(words) == list(range(512 + 4096 + 2))
    assert (mini.start, mini.end, mini.vocab_size) == (4608, 4609, 4610)
    for text in TEXTS:  # the same characters, in more pieces
        ids = mini.encode(text)
        assert max(ids, default=0) < mini.start
        assert "".join(words[i] for i in ids) == "".join(full[i] for i in tokenizer.encode(text))


@pytest.mark.parametrize(
    ("name", "options"),
    [(None, []), ("mmsdpt://mini_clip", ["--merges", "4096"])],
    ids=["full", "mini"],
)
def test_shipped_files_are_what_the_tool_makes(tool, monkeypatch, tmp_path, name, options):
    open_clip = pytest.importorskip("open_clip", reason="the list of merges is in open-clip-torch")
    merges = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    monkeypatch.setattr("sys.argv", ["tool", str(merges), str(tmp_path), *options])
    tool.main()
    shipped = tokenizer_folder(name)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in shipped.iterdir() if path.name != "README.md")
    for file in made:
        content = (tmp_path / file).read_bytes()
        assert content == (shipped / file).read_bytes(), file
        assert len(content) < 1_500_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.gz", "out"], "nowhere.gz cannot be read"),
        ([__file__, "out"], "cannot be read as gzip"),
        (["nowhere.gz", "out", "--merges", "0"], "--merges must be from 1 to 48894, got 0"),
    ],
)
def test_tool_says_in_one_sentence_what_is_wrong(tool, monkeypatch, arguments, message):
    monkeypatch.setattr("sys.argv", ["tool", *arguments])
    with pytest.raises(InputError, match=message):
        tool.main()


def test_own_folder_may_hold_tokenizer_json_alone(tmp_path):
    from transformers import CLIPTokenizerFast

    folder = str(tokenizer_folder("mmsdpt://mini_clip"))
    CLIPTokenizerFast.from_pretrained(folder).backend_tokenizer.save(
        str(tmp_path / "tokenizer.json")
    )
    assert torch.equal(CLIPTokenizer(str(tmp_path))(TEXTS), CLIPTokenizer(folder)(TEXTS))


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_folder_without_a_vocabulary_file_is_named(tmp_path, missing):
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_folder("mmsdpt://mini_clip"), folder)
    (folder / missing).unlink()
    with pytest.raises(InputError, match=f"tokenizer' has no {missing}; give a folder with"):
        CLIPTokenizer(str(folder))


def test_missing_folder_unknown_name_and_damaged_file_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="'.*nowhere' does not exist; give a folder with"):
        CLIPTokenizer(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="'mmsdpt://other' is not one of .*: mmsdpt://mini_clip$"):
        CLIPTokenizer("mmsdpt://other")
    (tmp_path / "vocab.json").write_text('{"a": 0')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InputError, match="cannot be read") as error:
        CLIPTokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


def test_vocabulary_whose_end_is_not_the_highest_id_is_refused(tmp_path):
    shutil.copytree(tokenizer_folder("mmsdpt://mini_clip"), tmp_path, dirs_exist_ok=True)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    swapped = vocabulary | {"<|startoftext|>": 4609, "<|endoftext|>": 4608}
    (tmp_path / "vocab.json").write_text(json.dumps(swapped))
    with pytest.raises(InputError, match="end of text has id 4608, but must have the highest"):
        CLIPTokenizer(str(tmp_path))
