"""GLIP's dynamic convolution against a plain statement of it, and its names against
MMDetection's.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mmsdpt.hosts.glip.dyconv import DyConv, DyReLU
from projects.benchmark.plain_form import plain_dyconv, plain_dyrelu

CHANNELS = 8
GROUPS = 4
# Five levels, each ceil(size / 2) of the one before, odd where it matters.
SIZES = [(19, 13), (10, 7), (5, 4), (3, 2), (2, 1)]


def make_dyconv(dynamic: bool = True) -> DyConv:
    """A DyConv whose every parameter matters: offsets of pixels, scales and ReLU coefficients that
    differ.
    """
    module = DyConv(CHANNELS, CHANNELS, dynamic, GROUPS).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return module


def make_levels(batch: int, sizes=SIZES, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, CHANNELS, *size, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
        for size in sizes
    ]


def outputs_and_gradients(function, module: nn.Module, levels: list[Tensor]) -> dict[str, Tensor]:
    outs = function(levels)
    generator = torch.Generator().manual_seed(2)
    loss = sum(
        (out * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)).sum()
        for out in outs
    )
    named = {f"level {i}": level for i, level in enumerate(levels)} | dict(
        module.named_parameters()
    )
    gradients = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    found = {f"output {i}": out.detach() for i, out in enumerate(outs)}
    return found | dict(zip((f"gradient of {name}" for name in named), gradients, strict=True))


def ours(module: nn.Module):
    return lambda levels: module({"visual": levels, "lang": None})["visual"]


def assert_all_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        error = (found[name].double() - value).abs().max() / value.abs().max().clamp_min(1)
        assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dynamic", [True, False])
def test_equals_the_plain_form_on_odd_pyramids(batch, dynamic):
    module = make_dyconv(dynamic)
    levels = make_levels(batch)
    wanted = outputs_and_gradients(lambda x: plain_dyconv(module, x), module, levels)
    assert_all_close(outputs_and_gradients(ours(module), module, levels), wanted, 1e-9)


@pytest.mark.parametrize("sizes", [[(6, 8)], [(8, 6), (4, 3)], [(9, 9), (5, 5), (3, 3)]])
def test_any_number_of_levels(sizes):
    module = make_dyconv()
    levels = make_levels(2, sizes)
    wanted = outputs_and_gradients(lambda x: plain_dyconv(module, x), module, levels)
    assert_all_close(outputs_and_gradients(ours(module), module, levels), wanted, 1e-9)


def test_float32_is_within_1e_5_of_float64():
    module = make_dyconv()
    single = copy.deepcopy(module).float()
    module.load_state_dict(single.state_dict())  # the same rounded numbers in both
    single_levels = make_levels(2, dtype=torch.float32)
    levels = [level.detach().double().requires_grad_() for level in single_levels]
    wanted = outputs_and_gradients(lambda x: plain_dyconv(module, x), module, levels)
    found = outputs_and_gradients(ours(single), single, single_levels)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert_all_close(found, wanted, 1e-5)


def test_memory_format_of_the_input_does_not_matter():
    module = make_dyconv()
    levels = make_levels(2)
    shuffled = [x.detach().to(memory_format=torch.channels_last) for x in levels]
    for found, wanted in zip(ours(module)(shuffled), ours(module)(levels), strict=True):
        assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_outputs_and_gradients(dtype):
    module = make_dyconv().float()
    levels = make_levels(2, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        outs = ours(module)(levels)
    gradients = torch.autograd.grad(
        sum(out.float().sum() for out in outs), [*levels, *module.parameters()]
    )
    assert all(t.isfinite().all() for t in (*outs, *gradients))


def test_a_pyramid_that_rounds_down_is_an_error():
    with pytest.raises(ValueError, match="ceil"):
        ours(make_dyconv())(make_levels(1, [(7, 7), (3, 3)]))


def test_language_features_pass_and_the_input_stays():
    module, lang = make_dyconv(), {"hidden": object()}
    levels = make_levels(1)
    before = [level.detach().clone() for level in levels]
    inputs = {"visual": levels, "lang": lang}
    out = module(inputs)
    assert out["lang"] is lang and inputs["visual"] is levels
    assert all(torch.equal(a, b) for a, b in zip(levels, before, strict=True))


@pytest.mark.parametrize("dynamic", [True, False])
def test_names_and_initial_values_are_those_of_mmdetection(dynamic):
    from mmdet.models.dense_heads import atss_vlfusion_head as mmdet_head

    torch.manual_seed(0)
    found = DyConv(CHANNELS, CHANNELS, dynamic, GROUPS).state_dict()
    torch.manual_seed(0)
    wanted = mmdet_head.DyConv(
        lambda i, o, s: mmdet_head.Conv3x3Norm(i, o, s, use_dcn=dynamic, norm_type=["gn", GROUPS]),
        CHANNELS,
        CHANNELS,
        use_dyfuse=dynamic,
        use_dyrelu=dynamic,
        use_dcn=dynamic,
    ).state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_upper_line_equals_the_plain_form_and_keeps_a_byte_per_value():
    relu = DyReLU(CHANNELS).double().requires_grad_(False)
    x = torch.randn(2, CHANNELS, 5, 3, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = relu(x)
    expected = plain_dyrelu(relu, twin)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-9, atol=1e-9)
    large = {t.data_ptr(): t for t in kept if t.numel() == x.numel()}
    assert sorted(t.element_size() for t in large.values()) == [1, 8]
