"""Commands as processes of their own: what each one used, and why one failed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import CellError

_LAUNCHER = Path(__file__).with_name("run_measured.py")
_ERROR = re.compile(r"error|exception|killed", re.IGNORECASE)


@dataclass(frozen=True)
class Usage:
    """What a process and those that it waited for used.

    Attributes:
        wall_s: Seconds by the clock, with the start of the interpreter and all imports.
        cpu_s: Seconds of processor time, all threads.
        peak_bytes: Highest resident memory, of the largest process.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


Run = Callable[[Sequence[str], Path], Usage]
"""Runs a command and writes what it prints to a file."""


class CommandRunner:
    """Runs commands, each measured on its own; safe to call from several threads.

    Args:
        threads: Threads of each command's PyTorch.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._running: set[subprocess.Popen] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def __call__(self, command: Sequence[str], log: Path) -> Usage:
        """Run ``command`` to its end; what it prints goes to ``log``.

        Raises:
            CellError: with the last line of the log that tells of an error.
        """
        with tempfile.TemporaryDirectory() as folder:
            usage = Path(folder) / "usage.json"
            # -I -S: no site-packages, so that the launcher stays small.
            launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(usage), str(log)]
            code = self._wait([*launcher, *command])
            if code != 0:
                raise CellError(last_error(log, code))
            return Usage(**json.loads(usage.read_text(encoding="utf-8")))

    def _wait(self, command: Sequence[str]) -> int:
        threads = str(self.threads)
        # Threads that wait by spinning would take each other's cores.
        env = dict(os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        env["OMP_WAIT_POLICY"] = "passive"
        with self._lock:
            if self._stopped:
                raise CellError("stopped before it began")
            # A process group, so that the launcher ends together with what it started.
            process = subprocess.Popen(command, env=env, start_new_session=True)
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def last_error(log: Path, code: int) -> str:
    """The last line of ``log`` that tells of an error, or else its last line."""
    number = -code if code < 0 else code - 128  # of the launcher, or of its command
    if number in signal.valid_signals():
        return f"ended by {signal.Signals(number).name}, see {log}"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if _ERROR.search(line)] or lines
    return told[-1] if told else f"exit status {code} without a word, see {log}"
