"""Errors that are meant for the person at the keyboard."""

import difflib
import errno
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Something the user gave does not fit; the message is one sentence that says what to do. Tools
    print it alone.
    """

    def __init__(self, message: object = "") -> None:
        # From a worker of a data loader torch hands over the sentence inside of a traceback.
        text = str(message)
        if text.startswith("Caught ") and "Original Traceback" in text:
            text = text.rpartition(f"{type(self).__qualname__}: ")[2].strip()
        super().__init__(text)


class DivergedError(InputError):
    """A training whose loss or weights are no longer finite numbers."""


class CheckpointError(InputError):
    """A checkpoint that is missing, unreadable, or does not fit the model."""


def printable(value: object, most: int | None = 200) -> str:
    """What a file says, fit for a message: on one line, printable, and not long: ``most``
    characters, or with None all.
    """
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    start = text if most is None else text[: most + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
    return shown if most is None or len(shown) <= most else shown[:most] + "..."


def listed(items: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """The first of some items, for a message; dots where there are more."""
    texts = list(map(str, items))
    return separator.join(texts[:most] + ["..."] * (len(texts) > most))


def first_line(error: BaseException) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def nearest(name: object, known: Sequence[str], cutoff: float = 0.6) -> str:
    """The end of a sentence about a name that is not known: the one most like it, or nothing."""
    near = difflib.get_close_matches(str(name), known, 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""


_OF_THE_DISK = {
    errno.ENOSPC: "no space left to write (what was complete before is kept)",
    errno.EDQUOT: "the quota is used up (what was complete before is kept)",
    errno.EFBIG: "the file is larger than is allowed here (what was complete before is kept)",
    errno.EROFS: "the folder is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "no such file or folder, and none can be made there",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "the links lead in a circle",
    errno.EIO: "the disk cannot be read or written",
    errno.ESTALE: "the network drive has gone",
}


def disk_problem(error: OSError) -> str | None:
    """What an error of the disk means, in one sentence with the file; None for any other error."""
    if error.errno not in _OF_THE_DISK:
        return None
    name = error.filename2 or error.filename  # of a copy the target
    return _OF_THE_DISK[error.errno] + (f": {printable(name)}" if name else "")
