"""Threads that share a model take turns."""

from __future__ import annotations

import logging
import threading

from mmengine.logging import print_log


class Turns:
    """A lock that says so if it waits for long. Copies of its owner have a lock of their own."""

    patience = 10.0  # seconds

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self.patience):
            print_log(
                "Waiting for another thread that uses this model. Inside of tuners_off, call the"
                " model in the thread of the block only: others wait for its end",
                "current",
                logging.WARNING,
            )
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple:
        return type(self), ()
