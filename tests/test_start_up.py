"""Promises about the time until a tool answers: nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "mmcv", "mmdet", "mmpretrain", "transformers", "sklearn", "cv2")
TOOLS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tools").rglob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("mmsdpt", "projects")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
]
COMMANDS = [[tool] for tool in TOOLS] + [["-m", module] for module in MODULES]


def cpu_seconds(*arguments: str) -> tuple[float, str]:
    """CPU seconds of a new interpreter with its children, and what it printed."""
    before = os.times()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system, done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_help_answers_in_less_than_a_second_of_cpu_time(command):
    seconds, text = cpu_seconds(*command, "--help")
    if seconds >= 1.0:  # bytecode had to be written, or other processes pressed the caches
        seconds, text = cpu_seconds(*command, "--help")
    assert "usage: " in text
    assert seconds < 1.0


def test_importing_mmsdpt_imports_no_toolbox():
    program = f"import mmsdpt, sys; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    assert cpu_seconds("-c", program)[1].split() == []


@pytest.mark.slow
def test_the_first_step_of_a_mini_config_comes_within_twelve_seconds_of_cpu_time(tmp_path):
    command = ["-m", "projects.benchmark.start_up", "configs/mini/sdpt_mini_new_names.py"]
    command += ["--data-root", str(tmp_path / "new_names")]
    for run in ("draws the data", "is measured"):
        shown = cpu_seconds(*command)[1]
        print(run, shown)
    seconds = float(re.search(r"([\d.]+) CPU seconds to the first training step", shown)[1])
    assert seconds <= 12
