"""BERT's tokenizer: captions to ids, loaded from local files."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import (
    Encoding,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from torch import Tensor

from .errors import InputError, first_line
from .language_models import read_object

_SPECIAL = {key: f"[{key.upper()}]" for key in ("unk", "sep", "pad", "cls", "mask")}
_FIELDS = dict(input_ids="ids", token_type_ids="type_ids", attention_mask="attention_mask")


class Tokenized(dict[str, Any]):
    """Captions as tokens.

    ``input_ids``, ``attention_mask`` (1 at tokens, 0 at padding) and ``token_type_ids`` are
    attributes and items: int64 tensors (B, L), or lists.
    """

    input_ids: Any
    attention_mask: Any
    token_type_ids: Any

    def __init__(self, encodings: Sequence[Encoding], fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.encodings = encodings

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)

    def to(self, device: torch.device | str) -> Tokenized:
        """The same with tensors on another device."""
        return Tokenized(self.encodings, {k: v.to(device) for k, v in self.items()})

    def char_to_token(self, character: int) -> int | None:
        """Index of the token that a character of the first caption belongs to; None for white space
        and the like.
        """
        return self.encodings[0].char_to_token(character)


class BertTokenizer:
    """BERT's WordPiece tokenizer, with the interface of Hugging Face's tokenizers.

    Args:
        folder: With ``tokenizer.json``, or else ``vocab.txt`` (one token a line) and, where it
            differs from uncased BERT, ``tokenizer_config.json``.

    Raises:
        InputError: Files cannot be read, or lack BERT's special tokens.
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder)
        config = path / "tokenizer_config.json"
        settings = read_object(config) if config.is_file() else {}
        names = {key: _text(settings.get(f"{key}_token")) or name for key, name in _SPECIAL.items()}
        file = path / ("tokenizer.json" if (path / "tokenizer.json").is_file() else "vocab.txt")
        try:
            if file.suffix == ".json":
                self._backend = Tokenizer.from_file(str(file))
            else:
                self._backend = _from_vocabulary(file, names, settings)
        except Exception as error:  # Rust code raises Exception, damaged text UnicodeDecodeError
            reason = first_line(error)
            raise InputError(f"the vocabulary {file} cannot be read ({reason})") from None
        self._backend.no_truncation()
        self._backend.no_padding()
        for key in ("unk", "pad", "cls", "sep"):
            if self._backend.token_to_id(names[key]) is None:
                raise InputError(f"the vocabulary {file} is not BERT's: it has no {names[key]}")
        self.unk_token, self.pad_token = names["unk"], names["pad"]
        self.unk_token_id: int = self._backend.token_to_id(self.unk_token)
        self.pad_token_id: int = self._backend.token_to_id(self.pad_token)

    def __call__(
        self,
        text: str | Sequence[str],
        add_special_tokens: bool = True,
        padding: bool | Literal["longest", "max_length"] = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: Literal["pt"] | None = None,
    ) -> Tokenized:
        """Tokenize.

        Args:
            text: B captions. One string gives lists without a batch dimension, or tensors of one
                row.
            add_special_tokens: Whether ``[CLS]`` comes before and ``[SEP]`` after each.
            padding: True and 'longest': to the longest; 'max_length': to ``max_length``, if given.
            truncation: Whether longer captions are cut to ``max_length``.
            max_length: Number of tokens, with the special ones.
            return_tensors: 'pt': tensors. None: lists.

        Raises:
            ValueError: Rows of unequal length cannot be one tensor.
        """
        single = isinstance(text, str)
        encodings = [
            self._encode(one, add_special_tokens, max_length if truncation else None)
            for one in ([text] if isinstance(text, str) else text)
        ]
        lengths = [len(encoding) for encoding in encodings]
        if padding:
            fixed = max_length if padding == "max_length" else None
            for encoding in encodings:
                encoding.pad(
                    fixed or max(lengths), pad_id=self.pad_token_id, pad_token=self.pad_token
                )
        rows = {name: [getattr(e, field) for e in encodings] for name, field in _FIELDS.items()}
        if return_tensors == "pt":
            if not padding and len(set(lengths)) > 1:
                raise ValueError(
                    f"captions of {min(lengths)} to {max(lengths)} tokens cannot be one tensor"
                    " without padding=True"
                )
            return Tokenized(encodings, {k: _tensor(v) for k, v in rows.items()})
        return Tokenized(encodings, {k: v[0] for k, v in rows.items()} if single else rows)

    def _encode(self, text: str, special: bool, longest: int | None) -> Encoding:
        # One by one: the batched call starts threads, which forked data workers cannot have.
        if longest is None:
            return self._backend.encode(text, add_special_tokens=special)
        encoding = self._backend.encode(text, add_special_tokens=False)
        added = self._backend.num_special_tokens_to_add(False) if special else 0
        encoding.truncate(max(longest - added, 0))
        return self._backend.post_process(encoding, None, special)

    def tokenize(self, text: str) -> list[str]:
        """Tokens of a text, as text, without special ones."""
        return self._encode(text, False, None).tokens

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special ones included."""
        return self._backend.decode(list(ids), skip_special_tokens=False).replace(" ' ", "'")

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Id of a token or ids of several; unknown ones are ``[UNK]``."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self._backend.token_to_id(tokens)
        return self.unk_token_id if found is None else found

    def get_vocab(self) -> dict[str, int]:
        """Id by token."""
        return self._backend.get_vocab()

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    def __deepcopy__(self, memo: dict) -> BertTokenizer:
        """A copy that shares the vocabulary, which nothing changes."""
        return copy.copy(self)


def _text(token: Any) -> str:
    """The text of a token in ``tokenizer_config.json``: a string, or an object with settings."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _tensor(rows: list[list[int]]) -> Tensor:
    # Without dtype, an empty text without special tokens would give floats.
    return torch.tensor(rows, dtype=torch.long)


def _from_vocabulary(file: Path, names: dict[str, str], settings: dict[str, Any]) -> Tokenizer:
    """The tokenizer that Hugging Face builds from a ``vocab.txt``."""
    with file.open(encoding="utf-8") as lines:
        vocabulary = {line.rstrip("\n"): i for i, line in enumerate(lines)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    cls, sep = names["cls"], names["sep"]
    if cls in vocabulary and sep in vocabulary:  # the caller reports missing tokens
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
        )
    tokenizer.add_special_tokens([name for name in names.values() if name in vocabulary])
    return tokenizer
