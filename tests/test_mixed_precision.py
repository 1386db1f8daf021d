"""Autocast to bfloat16 on trained weights: CLIP's losses are those of float32. GLIP's are compared
for every method in tests/tuners/test_contract.py.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

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


@torch.no_grad()
def test_votes_of_tip_adapter_are_counted_in_float32(repository):
    """Beta, up to 50 after a search, multiplies the rounding errors of cosines."""
    config = repository / "configs/mini/tip_adapter_f_mini_clothing.py"
    args = benchmark_step.parse_args([str(config), "--threads", "1"])
    tuner = benchmark_step.build(benchmark_step.load(args, None), args, "ours").tuners["default"]
    tuner.keys.copy_(F.normalize(torch.randn_like(tuner.keys), dim=-1))
    tuner.strengths.copy_(torch.tensor([1.0, 50.0]))
    names = [f"class {i}" for i in range(tuner.num_classes)]
    features = F.normalize(tuner.keys[:4] + 0.02 * torch.randn(4, tuner.width), dim=-1)
    state = SimpleNamespace(class_names=names, image_features=features)
    none = torch.zeros(4, len(names))
    expected = tuner._vote(None, none, state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tuner._vote(None, none, state)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
