"""What the command line tools share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .errors import InputError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``: an :class:`InputError` becomes one sentence and exit code 2, any other
    error a traceback.
    """
    try:
        code = main()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 2
    sys.exit(code or 0)
