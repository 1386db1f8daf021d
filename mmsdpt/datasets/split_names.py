"""Names of dataset splits in folders, lists, keys and columns."""

from __future__ import annotations

import os.path
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": ("train", "training", "trainset", "trn", "tr"),
    "val": ("val", "valid", "validation", "validate", "valset", "dev", "eval"),
    "test": ("test", "testing", "testset", "tst", "te"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}


def split_of(name: str) -> str | None:
    """``train``, ``val`` or ``test`` for one of its usual names in any case, else None."""
    return _SPLIT_OF.get(name.strip().casefold())


def split_in(name: str) -> str | None:
    """The split that is one of a name's words, as in ``instances_Train2017``, else None."""
    words = re.findall(r"[a-z]+", name.casefold())
    if "test" in words:  # "test-dev" is a part of the test images
        words = [word for word in words if word != "dev"]
    found = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def split_of_folder(path: PurePath) -> str | None:
    """The split of the innermost folder of a file that is called like one, of ``train/test_chart``
    train; else of the innermost that has its word in its name (``train2017``); else None.
    """
    in_name = filter(None, map(split_in, path.parent.parts[::-1]))
    return _called_like_one(path) or next(in_name, None)


def _called_like_one(path: PurePath) -> str | None:
    """The split of the innermost folder of a file that is called like one."""
    return next(filter(None, map(split_of, path.parent.parts[::-1])), None)


def splits_of_folders(paths: Sequence[PurePath]) -> list[str | None]:
    """The split of each file of a data set by its folders, as :func:`split_of_folder`; but words in
    the names of folders count only where they name another split and one of these holds:

    - every folder with files has a split; files beside the folders need none;
    - one split alone has a usual name: ``train`` beside ``val2``;
    - none has, and names of two splits are the same without the word: ``train2017``, ``val2017``.

    ``test_drive`` beside ``training_ground`` and ``street`` is none.
    """
    found = list(map(split_of_folder, paths))
    usual = list(map(_called_like_one, paths))
    if len(set(found) - {None}) < 2:
        return usual
    shared = len(os.path.commonprefix([path.parent.parts for path in paths]))
    in_folders = (
        split for path, split in zip(paths, found, strict=True) if len(path.parent.parts) > shared
    )
    called = len(set(usual) - {None})
    if None not in in_folders or called == 1 or (not called and _differ_in_word_alone(paths)):
        return found
    return usual


def _differ_in_word_alone(paths: Sequence[PurePath]) -> bool:
    """Whether folders of two splits have the same name but for letter case, signs and words of
    splits.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for name in {part for path in paths for part in path.parent.parts}:
        if split := split_in(name):
            words = re.split(r"([a-z]+)", name.casefold())
            rest = "".join(word for word in words if word not in _SPLIT_OF)
            splits[re.sub(r"[\W_]", "", rest)].add(split)
    return any(len(found) > 1 for found in splits.values())


def share_split(first: PurePath, second: PurePath) -> bool:
    """Whether two files may belong together: they lie in no folders of two splits, which number
    their files alike.
    """
    return len({split_of_folder(first), split_of_folder(second)} - {None}) < 2
