"""DoRA: its formula and gradients, its start; merging is in test_lora.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.hosts.small_glip import build_mini_glip
from tests.oracles.compare import assert_close, gradients
from tests.tuners import plain_swin
from tests.tuners.test_lora import raw

METHODS = ["DoRA", "DoRAXMHA"]


def build(method: str, **settings) -> nn.Module:
    return plain_swin.build(scale=0.1, type=f"mmsdpt.{method}", **settings)


@pytest.mark.parametrize("method", METHODS)
def test_the_host_computes_with_rows_of_learned_length(method):
    model = build(method, rank=3, alpha=12.0)
    tuned = raw(model)
    with model.tuners_off():
        untouched = raw(model)
    state = model.state_dict()
    for i, seam in enumerate(model.tuners.default.chosen):
        parts = ("down", "up", "magnitude")
        down, up, magnitude = (state[f"tuners.default.{part}.{i}"] for part in parts)
        rows = []
        for j, row in enumerate(state[seam.name] + 4.0 * up @ down):
            rows.append(magnitude[j] * row / (row * row).sum().sqrt())
        state[seam.name] = torch.stack(rows)
    model.load_state_dict(state)
    with model.tuners_off():
        plain = raw(model)
    for a, b in zip(tuned, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert any(not torch.allclose(a, b) for a, b in zip(tuned, untouched, strict=True))


@pytest.mark.parametrize("detach_norm", [True, False])
def test_gradients_are_those_of_the_formula_with_and_without_the_lengths(detach_norm):
    """Without detaching they are those of PyTorch's weight normalisation."""
    tuner = build("DoRA", rank=2, detach_norm=detach_norm).tuners.default
    for i in (0, len(tuner.chosen) - 1):
        down, up, magnitude = tuner.down[i], tuner.up[i], tuner.magnitude[i]
        direction = tuner.chosen[i].value() + up @ down
        if detach_norm:
            lengths = direction.detach().square().sum(1, keepdim=True).sqrt()
            plain = magnitude[:, None] * direction / lengths
        else:
            plain = torch._weight_norm(direction, magnitude[:, None], 0)
        found = tuner.chosen[i].with_only(tuner)
        assert_close([found], [plain])
        before = gradients([plain], [down, up, magnitude])
        assert all(gradient.abs().max() > 1e-6 for gradient in before)
        assert_close(gradients([found], [down, up, magnitude]), before)


@pytest.mark.parametrize("first", ["LoRA", "DoRA"])
def test_on_top_of_another_tuner_it_starts_from_that_tuners_weights(first):
    tuners = dict(a=dict(type=f"mmsdpt.{first}", frozen=True), b=dict(type="mmsdpt.DoRA"))
    model = build_mini_glip(tuners=tuners).eval()
    model.tuners.a.prepare()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.tuners.a.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.tuners.b.prepare()
    for seam in model.tuners.b.chosen:
        changed = seam.with_only(model.tuners.a)
        assert not torch.allclose(changed, seam.value())
        torch.testing.assert_close(seam.in_effect(), changed)


def test_lengths_start_as_those_of_the_hosts_rows_and_zero_rows_stay_zero():
    model = build_mini_glip(tuner=dict(type="mmsdpt.DoRAXMHA", rank=2)).eval()
    tuner = model.tuners.default
    with torch.no_grad():
        tuner.chosen[0].value()[1] = 0
    tuner.prepare()
    for magnitude, seam in zip(tuner.magnitude, tuner.chosen, strict=True):
        assert torch.allclose(magnitude, seam.value().square().sum(1).sqrt())
    assert all(torch.equal(seam.with_only(tuner), seam.value()) for seam in tuner.chosen)
