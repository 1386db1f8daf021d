"""CLIP's byte pair tokenizer: texts to rows of ids, from local files only."""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from mmsdpt.utils.errors import InputError, first_line

MINI_CLIP = "mmsdpt://mini_clip"
_PACKAGE_FOLDERS = {MINI_CLIP: "mini_clip/tokenizer"}
_DEFAULT_FOLDER = "clip_tokenizer"
_START, _END = "<|startoftext|>", "<|endoftext|>"
# OpenAI's pattern of a word.
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_SHOWN = 60  # characters of a text in a message
_ADVICE = (
    "give a folder with vocab.json and merges.txt (or tokenizer.json), or leave it out for CLIP's"
    " own vocabulary, which is part of mmsdpt"
)
# OpenAI's code runs ftfy. Of all that it repairs, well-formed class names contain only these.
_STRAIGHT_QUOTES = str.maketrans(
    dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)


def tokenizer_folder(name: str | None = None) -> Path:
    """Folder of a vocabulary.

    Args:
        name: None: CLIP's vocabulary, which is part of the package. ``mmsdpt://mini_clip``: the
            mini CLIP's. Otherwise a local Hugging Face folder; nothing is downloaded.

    Raises:
        InputError: if the folder does not exist or has no vocabulary.
    """
    assets = Path(str(importlib.resources.files("mmsdpt") / "assets"))
    if name is None:
        return assets / _DEFAULT_FOLDER
    if name.startswith("mmsdpt://"):
        if name not in _PACKAGE_FOLDERS:
            raise InputError(
                f"'{name}' is not one of mmsdpt's vocabularies: {', '.join(_PACKAGE_FOLDERS)}"
            )
        return assets / _PACKAGE_FOLDERS[name]
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise InputError(f"the tokenizer folder '{name}' does not exist; {_ADVICE}")
    if not (folder / "tokenizer.json").is_file():
        for file in ("vocab.json", "merges.txt"):
            if not (folder / file).is_file():
                raise InputError(f"the tokenizer folder '{name}' has no {file}; {_ADVICE}")
    return folder


def clean_text(text: str) -> str:
    """Clean a text as CLIP does before tokenization: replace HTML entities (escaped up to twice) by
    characters, curly quotes by straight ones and runs of white space by one space; lower case.

    OpenAI's code also runs ftfy, which repairs wrongly decoded text, ligatures, full-width letters
    and control characters. Such texts get different ids here; well-formed texts get the same ids.
    """
    text = html.unescape(html.unescape(text)).translate(_STRAIGHT_QUOTES)
    return " ".join(text.split()).lower()


def _read_vocabulary(folder: Path) -> Tokenizer:
    """The byte pair encoding of a folder; damaged files raise almost any exception."""
    if (folder / "tokenizer.json").is_file():
        bpe = Tokenizer.from_file(str(folder / "tokenizer.json"))
        bpe.no_truncation()
        bpe.no_padding()
        return bpe
    files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    bpe = Tokenizer(models.BPE.from_file(*files, end_of_word_suffix="</w>", unk_token=_END))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.add_special_tokens([name for name in (_START, _END) if bpe.token_to_id(name) is not None])
    return bpe


class CLIPTokenizer:
    """Texts to rows of ids ``<|startoftext|> … <|endoftext|> 0 0 …``, the same as OpenAI's
    ``clip.tokenize``.

    Args:
        context_length: Length of a row; 77 in CLIP.

    Attributes:
        start: Id of ``<|startoftext|>``.
        end: Id of ``<|endoftext|>``, the highest: CLIP finds the end of a text by argmax.
        vocab_size: Number of ids.

    Raises:
        InputError: if the folder is missing or has no CLIP vocabulary.
    """

    def __init__(self, folder: str | None = None, context_length: int = 77) -> None:
        if context_length < 3:
            raise InputError(
                f"context_length must be 3 or more (start, a token, end), got {context_length}"
            )
        path = tokenizer_folder(folder)
        try:
            self._bpe = _read_vocabulary(path)
        except Exception as error:  # damaged files raise almost any exception, also from Rust
            raise InputError(
                f"the vocabulary in '{path}' cannot be read ({first_line(error)}); {_ADVICE}"
            ) from None
        self.folder = folder
        self.context_length = context_length
        start, end = (self._bpe.token_to_id(name) for name in (_START, _END))
        if start is None or end is None:
            raise InputError(
                f"the vocabulary in '{path}' is not CLIP's kind: it lacks {_START} or {_END}"
            )
        self.start, self.end = start, end
        self.vocab_size = self._bpe.get_vocab_size()
        if self.end != self.vocab_size - 1:
            raise InputError(
                f"the vocabulary in '{path}' is not CLIP's kind: its end of text has id {self.end},"
                f" but must have the highest of {self.vocab_size}, {self.vocab_size - 1}"
            )

    def encode(self, text: str) -> list[int]:
        """Ids of the cleaned text, without start and end."""
        # One text at a time: the batched call starts threads, which fail in forked data workers.
        return self._bpe.encode(clean_text(text), add_special_tokens=False).ids

    def __call__(self, texts: Sequence[str] | str, truncate: bool = False) -> Tensor:
        """Rows of ids.

        Args:
            texts: N texts, or one.
            truncate: Cut a text that is too long, but keep its end token.

        Returns:
            Int64 tensor (N, context_length), zeros after the end token.

        Raises:
            InputError: (a ValueError) if a text is too long and ``truncate`` is not set.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = self.encode(text)
            room = self.context_length - 2
            if len(ids) > room and not truncate:
                shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
                raise InputError(
                    f"the text {shown!r} has {len(ids)} tokens, but a context of"
                    f" {self.context_length} has room for {room}: shorten it, or set truncate=True"
                )
            ids = [self.start, *ids[:room], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def __deepcopy__(self, memo: dict) -> CLIPTokenizer:
        """A copy that shares the vocabulary, which never changes."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(folder={self.folder!r}, context_length={self.context_length},"
            f" vocab_size={self.vocab_size})"
        )
