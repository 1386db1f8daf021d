"""What a command used is measured, and why it failed is told."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmsdpt.analysis.cells import CellError
from mmsdpt.analysis.commands import CommandRunner

MEGA = 1e6


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "output.log"


def test_peak_memory_is_the_commands_own(log):
    small = CommandRunner()(python("pass"), log)
    large = CommandRunner()(python("b = bytearray(200_000_000); b[::4096] = b[::4096]"), log)
    assert 190 < (large.peak_bytes - small.peak_bytes) / MEGA < 220
    held = np.ones(50_000_000)  # 400 MB of this process
    again = CommandRunner()(python("pass"), log)
    assert again.peak_bytes < held.nbytes / 4


def test_time_by_the_clock_and_of_the_processor_are_told_apart(log):
    asleep = CommandRunner()(python("import time; time.sleep(0.5)"), log)
    assert asleep.wall_s >= 0.5 > asleep.cpu_s
    busy = CommandRunner()(
        python("import time\nwhile time.process_time() < 0.5: sum(range(1000))"), log
    )
    assert busy.wall_s > 0.4 and busy.cpu_s > 0.4


def test_all_that_is_printed_is_in_the_log(log):
    CommandRunner()(python("import sys; print('out'); sys.stderr.write('err\\n')"), log)
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_the_last_error_in_the_log_is_the_reason(log):
    code = "import atexit; atexit.register(print, 'done'); print('start'); raise ValueError('no x')"
    with pytest.raises(CellError, match="^ValueError: no x$"):
        CommandRunner()(python(code), log)


def test_without_an_error_the_last_line_or_the_status_is_told(log):
    with pytest.raises(CellError, match="^beta$"):
        CommandRunner()(python("print('alpha'); print('beta'); raise SystemExit(3)"), log)
    with pytest.raises(CellError, match="exit status 3"):
        CommandRunner()(python("raise SystemExit(3)"), log)


def test_a_signal_is_told_by_name(log):
    with pytest.raises(CellError, match="SIGKILL"):
        CommandRunner()(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), log)


def test_a_command_has_the_threads_that_it_was_given(log):
    CommandRunner(threads=3)(python("import os; print(os.environ['OMP_NUM_THREADS'])"), log)
    assert log.read_text().strip() == "3"


def test_stop_ends_what_runs_and_starts_nothing_more(log, tmp_path):
    runner, beat = CommandRunner(), tmp_path / "beat"
    code = f"import time\nwhile True: open({str(beat)!r}, 'a').write('.'); time.sleep(0.02)"
    errors = []

    def call():
        try:
            runner(python(code), log)
        except CellError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    deadline = time.monotonic() + 20
    while not beat.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    runner.stop()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(errors) == 1 and "SIGTERM" in errors[0]
    time.sleep(0.1)
    size = beat.stat().st_size
    time.sleep(0.2)
    assert beat.stat().st_size == size > 0
    with pytest.raises(CellError, match="stopped"):
        runner(python("pass"), log)
