"""Run a command and write down what it used: ``python run_measured.py USAGE LOG COMMAND ...``.

A program of its own that imports next to nothing: Linux counts the peak memory of the process that
starts another one as the other's, too, so whoever starts a command to measure it must be small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> int:
    """Write wall time, processor time of all threads, and peak memory to ``USAGE``, the output to
    ``LOG``; the exit status is the command's, 128 + n where signal n ended it.
    """
    usage_path, log_path, *command = sys.argv[1:]
    start = time.monotonic()
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(usage_path, "w", encoding="utf-8") as file:
        json.dump(
            dict(
                wall_s=wall,
                cpu_s=used.ru_utime + used.ru_stime,
                peak_bytes=used.ru_maxrss * unit,
            ),
            file,
        )
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
