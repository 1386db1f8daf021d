"""Errors that are meant for the person at the keyboard."""


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


def printable(value: object, most: int = 200) -> str:
    """What a file says, fit for a message: on one line, printable, not long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text[: most + 1] if len(text) > most else text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown[:most] + ("..." if len(shown) > most else "")
