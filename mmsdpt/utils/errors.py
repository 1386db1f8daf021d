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
