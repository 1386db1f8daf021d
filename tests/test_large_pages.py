"""Importing mmsdpt asks PyTorch for large memory pages; the benchmark's plain form has none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_COUNT = """
import resource, torch
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
torch.ones(2**24)  # 64 MB: 16,384 pages of 4 kB
print(faults() - before)
"""
pytestmark = pytest.mark.skipif(
    not _SETTING.is_file() or "[madvise]" not in _SETTING.read_text(),
    reason="the system gives large pages to all or to none",
)


def page_faults(before: str = "", setting: str | None = None) -> int:
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    if setting is not None:
        env["THP_MEM_ALLOC_ENABLE"] = setting
    code = f"import torch, mmsdpt\n{before}\n{_COUNT}"  # the order of many scripts
    run = [sys.executable, "-c", code]
    return int(subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout)


def test_a_tensor_lies_on_large_pages():
    assert page_faults() < 4000


def test_who_says_otherwise_is_heard():
    assert page_faults(setting="0") > 16000


def test_the_benchmarks_plain_form_is_as_without_mmsdpt():
    plain = "from projects.benchmark.benchmark_step import as_without_mmsdpt as plain; plain()"
    assert page_faults(plain) > 16000
