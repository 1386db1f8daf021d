"""Class names as a model reads them, and names that it cannot distinguish or read."""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from mmengine.logging import print_log

from .errors import InputError, listed

_JOINERS = "\u200c\u200d"  # they change how letters of some scripts and emoji look


class Reading(NamedTuple):
    """How a model reads a class name.

    Args:
        tokens: Its tokens or words; names with the same tokens are the same class to the model.
        text: The same as readable text.
        known: Whether any of it is in the model's vocabulary.
    """

    tokens: Hashable
    text: str
    known: bool = True


def as_read(name: str) -> Reading:
    """A name as text models read it, before any vocabulary: without text in parentheses,
    underscores, case, accents and encoding variants of a letter. Words without a Latin letter or
    digit count as unknown, as the models were trained on English.
    """
    text = re.sub(r"\(.*\)", "", name).replace("_", " ")
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    words = "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cf")).split()
    known = any(c.isascii() and c.isalnum() for word in words for c in word)
    return Reading(tuple(words), " ".join(words), known)


def as_written(name: str) -> Reading:
    """A name as CLIP reads it, before its vocabulary: without case and double spaces."""
    words = tuple(one_form(name).casefold().split())
    return Reading(words, " ".join(words), any(c.isascii() and c.isalnum() for c in name))


def one_form(name: str) -> str:
    """A name in Unicode form NFC (macOS writes NFD), stripped, and without invisible characters:
    direction marks, zero-width spaces, soft hyphens.
    """
    name = "".join(c for c in name if c in _JOINERS or unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", " ".join(name.split()))


def name_problems(
    names: Sequence[object], read: Callable[[str], Reading] = as_read
) -> tuple[list[str], list[str], list[str]]:
    """Find names that cannot be used, or are doubtful.

    Args:
        names: Class names.
        read: How the model reads one.

    Returns:
        Sentences about names that are not strings or are empty; about names that are the same to
        the model; and about names that the model does not know.
    """
    wrong, same, unknown = [], [], []
    by_tokens: dict[Hashable, list[str]] = {}
    texts: dict[Hashable, str] = {}
    for name in names:
        if not isinstance(name, str):
            wrong.append(f"{name!r} is a {type(name).__name__}, not a string")
            continue
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in name.strip()):
            wrong.append(f"{name!r} has a broken or control character")
            continue
        reading = read(name)
        if not reading.tokens:
            why = " to the model, which ignores text in parentheses"
            wrong.append(f"{name!r} is empty{why if name.strip() else ''}")
            continue
        by_tokens.setdefault(reading.tokens, []).append(name)
        texts[reading.tokens] = reading.text
        if not reading.known:
            unknown.append(f"{name!r} has no word that the model knows")
        elif any(map(_mixes_scripts, name.split())):
            unknown.append(f"{name!r} mixes Latin letters with lookalikes")
        elif re.fullmatch(r"\w?\d{6,}", name.strip()):
            unknown.append(f"{name!r} is an identifier, which does not describe the object")
        elif re.fullmatch(r"\d[\d.,]*", name.strip()):
            unknown.append(f"{name!r} is a number, which does not describe the object")
    texts_only = [name for name in names if isinstance(name, str)]
    if len(texts_only) > 1 and all(re.match(r"\s*\d+[\s._-]+[^\W\d]", n) for n in texts_only):
        unknown.append(
            f"all begin with a number, such as {texts_only[0]!r}, which the model reads, too"
        )
    for tokens, alike in by_tokens.items():
        if len(alike) > 1:
            same.append(
                f"{listed(map(repr, alike))} are the same text to the model ({texts[tokens]!r})"
            )
    return wrong, same, unknown


def _mixes_scripts(word: str) -> bool:
    """Whether a word has Latin letters and letters of other scripts that look like them."""
    scripts = {unicodedata.name(c, "?").split()[0] for c in word if c.isalpha()}
    return "LATIN" in scripts and not scripts.isdisjoint({"CYRILLIC", "GREEK", "CHEROKEE"})


def check_class_names(
    names: Sequence[object],
    read: Callable[[str], Reading] = as_read,
    *,
    source: str,
    advice: str = "give each class a different name in plain English words",
    strict: bool = True,
    refuse_empty: bool = True,
) -> None:
    """Refuse class names that the model cannot use, and warn of doubtful ones.

    Args:
        read: How the model reads one.
        source: Where they come from, for the message.
        advice: What to do, for the message.
        strict: Whether two classes with the same text are an error or a warning (public class lists
            have some, which cannot be renamed).
        refuse_empty: Whether an empty name is an error or a warning (CLIP still has the words of
            the template).

    Raises:
        InputError: naming the classes and what to do.
    """
    wrong, same, unknown = name_problems(names, read)
    errors = (wrong if refuse_empty else []) + (same if strict else [])
    if errors:
        raise InputError(f"class names of {source}: {listed(errors, separator='; ')}; {advice}")
    doubtful = wrong + same + unknown
    if doubtful:
        print_log(
            f"Class names of {source}: {listed(doubtful, separator='; ')}; {advice}",
            logger="current",
            level=logging.WARNING,
        )


def rows_by_name(trained: Sequence[str], names: Sequence[str]) -> list[int]:
    """The index of each name in ``trained``, compared literally or, if that finds none, as the
    model reads them.

    Raises:
        InputError: if one of them is not found.
    """
    place = {name: row for row, name in reversed(list(enumerate(trained)))}
    by_words = {as_read(name).tokens: row for name, row in place.items()}
    rows = [place.get(name, by_words.get(as_read(name).tokens)) for name in names]
    absent = [name for name, row in zip(names, rows, strict=True) if row is None]
    if absent:
        raise InputError(
            f"was trained on the classes {listed(map(repr, trained))} and knows nothing of"
            f" {listed(map(repr, absent))}"
        )
    return [row for row in rows if row is not None]


def parse_names(text: str) -> list[str]:
    """Parse names from a command line: ``a,b,c``, or one per line, as with ``"$(cat names.txt)"``.
    A name with a comma must be in double quotes.
    """
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [name.strip() for row in rows for name in row]


def chosen_names(text: str | None) -> list[str] | None:
    """The names of ``--classes``; None if it is not given.

    Raises:
        InputError: if a name is empty or repeated, or there are none.
    """
    if text is None:
        return None
    names = parse_names(text)
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(f"--classes needs different names, a,b,c; got {text!r}")
    return names


def parse_renames(pairs: Iterable[str]) -> dict[str, str]:
    """``old=new`` from a command line to a mapping.

    Raises:
        InputError: if a pair is malformed, or a name is renamed twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        old, separator, new = (part.strip() for part in pair.partition("="))
        if not separator or not old or not new or found.get(old, new) != new:
            raise InputError(f'--rename takes OLD=NEW, as in --rename RBC="red cell"; got {pair!r}')
        found[old] = new
    return found
