"""Errors that are meant for the person at the keyboard."""


class InputError(ValueError):
    """Something the user gave does not fit; the message is one sentence that says what to do. Tools
    print it alone.
    """
