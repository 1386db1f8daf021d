"""Errors that are shown to the user as one sentence."""

import difflib
import errno
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Invalid input. The message is one sentence that says what to do; tools print it without a
    traceback.
    """

    def __init__(self, message: object = "") -> None:
        # For an error in a data loader's worker, torch puts the message inside a traceback.
        text = str(message)
        if text.startswith("Caught ") and "Original Traceback" in text:
            text = text.rpartition(f"{type(self).__qualname__}: ")[2].strip()
        super().__init__(text)


class DivergedError(InputError):
    """A training whose loss or weights are no longer finite."""


class CheckpointError(InputError):
    """A checkpoint that is missing, unreadable, or does not fit the model."""


def printable(value: object, most: int | None = 200) -> str:
    """A value from a file, prepared for a message: on one line, printable, and at most ``most``
    characters (None: all).
    """
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    start = text if most is None else text[: most + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
    return shown if most is None or len(shown) <= most else shown[:most] + "..."


def listed(items: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """The first few items, for a message, followed by dots if there are more."""
    texts = list(map(str, items))
    return separator.join(texts[:most] + ["..."] * (len(texts) > most))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def nearest(name: object, known: Sequence[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: a suggestion of the most similar one, or ""."""
    near = difflib.get_close_matches(str(name), known, 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""


_OF_THE_DISK = {
    errno.ENOSPC: "no space left on the disk (earlier complete files are kept)",
    errno.EDQUOT: "the disk quota is exceeded (earlier complete files are kept)",
    errno.EFBIG: "the file exceeds the size limit (earlier complete files are kept)",
    errno.EROFS: "the folder is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "no such file or folder, and it cannot be created",
    errno.EEXIST: "there is a file where a folder is needed",
    errno.ENOTDIR: "there is a file where a folder is needed",
    errno.EISDIR: "there is a folder where a file is needed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the symbolic links form a loop",
    errno.EIO: "the disk cannot be read or written",
    errno.ESTALE: "the network drive is gone",
}


def disk_problem(error: OSError) -> str | None:
    """A disk error in one sentence with the file; None for any other error."""
    if error.errno not in _OF_THE_DISK:
        return None
    name = error.filename2 or error.filename  # in a copy, filename2 is the target
    return _OF_THE_DISK[error.errno] + (f": {printable(name)}" if name else "")
