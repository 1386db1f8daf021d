"""Importing mmsdpt asks PyTorch for large memory pages; the benchmark's plain form has none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_COUNT = """
import torch, mmsdpt  # the order of many scripts
import resource
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def count():
    before = faults()
    torch.ones(2**24)  # 64 MB: 16,384 pages of 4 kB
    print(faults() - before)
count()
"""
_PLAIN = """
from projects.benchmark.benchmark_step import as_without_mmsdpt
as_without_mmsdpt()
count()
"""
pytestmark = pytest.mark.skipif(
    not _SETTING.is_file() or "[madvise]" not in _SETTING.read_text(),
    reason="the system gives large pages to all or to none",
)


def page_faults(more: str = "", setting: str | None = None) -> list[int]:
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    if setting is not None:
        env["THP_MEM_ALLOC_ENABLE"] = setting
    run = [sys.executable, "-c", _COUNT + more]
    shown = subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout
    return [int(line) for line in shown.split()]


def test_a_tensor_lies_on_large_pages_but_not_in_the_benchmarks_plain_form():
    large, plain = page_faults(_PLAIN)
    assert large < 4000 and plain > 16000


def test_who_says_otherwise_is_heard():
    (count,) = page_faults(setting="0")
    assert count > 16000
