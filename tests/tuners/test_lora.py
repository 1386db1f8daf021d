"""LoRA: its formula, its start, and merging."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples

SIZE = (64, 96)


def build(method: str = "LoRA", **kwargs) -> nn.Module:
    model = build_mini_glip(tuner=dict(type=f"mmsdpt.{method}", **kwargs)).double().eval()
    model.tuners.default.prepare()
    for up in model.tuners.default.up:
        nn.init.normal_(up, std=0.1)
    return model


@torch.no_grad()
def raw(model: nn.Module) -> list[torch.Tensor]:
    found = model(make_images(2, SIZE), make_samples(TEXTS[:2], SIZE), mode="tensor")
    return [level for part in found for level in part]


@pytest.mark.parametrize(
    ("method", "groups"),
    [
        ("LoRA", {"image": {"qkv"}, "text": {"query", "key", "value"}}),
        (
            "LoRAXMHA",
            {
                "fusion": {
                    "v_proj",
                    "l_proj",
                    "values_v_proj",
                    "values_l_proj",
                    "out_v_proj",
                    "out_l_proj",
                }
            },
        ),
    ],
)
def test_it_changes_every_weight_of_its_places_and_no_other(method, groups):
    model = build(method)
    wanted = {
        seam.name
        for seam in model.seams()["parameters"]
        for group, roles in groups.items()
        if seam.group == group and seam.role.removesuffix(".weight") in roles
    }
    wanted = {name for name in wanted if name.endswith(".weight")}
    assert {seam.name for seam in model.tuners.default.chosen} == wanted and wanted


@pytest.mark.parametrize("method", ["LoRA", "LoRAXMHA"])
def test_it_computes_with_w_plus_scaled_ba(method):
    model = build(method, rank=3, alpha=12.0)
    tuned = raw(model)
    with model.tuners_off():
        untouched = raw(model)
    state = model.state_dict()
    for i, seam in enumerate(model.tuners.default.chosen):
        down, up = (state[f"tuners.default.{part}.{i}"] for part in ("down", "up"))
        state[seam.name] = state[seam.name] + 4.0 * up @ down
    model.load_state_dict(state)
    with model.tuners_off():
        plain = raw(model)
    for a, b in zip(tuned, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert any(not torch.allclose(a, b) for a, b in zip(tuned, untouched, strict=True))


@pytest.mark.parametrize("method", ["LoRA", "LoRAXMHA", "DoRA", "DoRAXMHA"])
def test_merging_keeps_the_output_and_unmerging_the_weights(method):
    model = build(method, rank=2)
    tuner = model.tuners.default
    seams = model._parameter_seams[::5]  # as if these had trained beside it
    tuner.keep_host_values({seam: seam.value().detach() * 1.01 for seam in seams})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = raw(model)
    tuner.merge()
    assert not tuner.enabled
    for a, b in zip(tuned, raw(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="already merged"):
        tuner.merge()
    tuner.unmerge()
    assert tuner.enabled
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="not merged"):
        tuner.unmerge()


def test_what_is_kept_between_predictions_follows_the_matrices():
    model = build()
    first = raw(model)
    with torch.no_grad():
        model.tuners.default.up[-1].add_(1.0)
    assert any(not torch.equal(a, b) for a, b in zip(first, raw(model), strict=True))


def test_an_alpha_of_zero_is_refused():
    with pytest.raises(ValueError, match="alpha must not be 0: nothing of LoRA would train"):
        build(alpha=0)


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (0, "a positive integer, got 0"),
        (10_000, "from 1 to .*got 10000"),
        ("4", "a positive integer, got '4'"),
    ],
)
def test_a_rank_that_is_none_is_refused(rank, words):
    with pytest.raises(ValueError, match=f"rank must be {words}"):
        build(rank=rank)
