"""Autocast to bfloat16 on trained weights: CLIP's losses are those of float32. GLIP's are compared
for every method in tests/tuners/test_contract.py.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from projects.benchmark import benchmark_step, clip_step

CONFIGS = sorted(
    path.name
    for path in (Path(__file__).resolve().parents[1] / "configs/mini").glob("*_mini_clothing.py")
    if "tip_adapter" not in path.name  # needs its training images first
)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_losses_of_mini_clip_are_those_of_float32(repository, name):
    args = benchmark_step.parse_args([str(repository / "configs/mini" / name), "--threads", "1"])
    model = benchmark_step.build(benchmark_step.load(args, None), args, "ours").eval()
    batch = model.data_preprocessor(clip_step.make_data(model, (64, 64), 16, 10), True)
    expected = sum(model(**copy.deepcopy(batch), mode="loss").values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sum(model(**copy.deepcopy(batch), mode="loss").values())
    assert 0 < abs(found - expected) < 1e-3 * expected


@torch.no_grad()
def test_logits_of_clip_are_compared_in_float32(repository):
    """A bfloat16 near 30 has steps of 0.125."""
    config = repository / "configs/mini" / CONFIGS[0]
    args = benchmark_step.parse_args([str(config), "--threads", "1"])
    model = benchmark_step.build(benchmark_step.load(args, None), args, "ours").eval()
    image, text = torch.randn(4, 64).bfloat16(), torch.randn(7, 64).bfloat16()
    expected = model.compare(image.float(), text.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.compare(image.float(), text.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
