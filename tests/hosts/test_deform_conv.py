"""Deformable convolution by weighted gather against its definition, torchvision's operator and
MMCV's.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from mmsdpt.compat import has_compiled_ops
from mmsdpt.hosts.glip import deform_conv, deform_sampling
from mmsdpt.hosts.glip.deform_conv import ModulatedDeformConv2d, modulated_deform_conv2d, read_flat
from mmsdpt.utils.errors import InputError
from tests.oracles.glip import plain_deform_conv


def make_inputs(
    batch, size, map_size, channels=3, out_channels=2, dtype=torch.float64, spread=1.5, seed=0
):
    """Random x, offset, mask, weight, bias. Offset and mask are slices of one map, as in GLIP."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

    maps = normal(batch, 27, *map_size)
    tensors = (
        normal(batch, channels, *size),
        maps[:, :18] * spread,
        maps[:, 18:].sigmoid(),
        normal(out_channels, channels, 3, 3),
        normal(out_channels),
    )
    return [t.requires_grad_() for t in tensors]


def output_and_gradients(function, inputs) -> list[Tensor]:
    out = function(*inputs)
    probe = torch.randn(
        out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, probe, materialize_grads=True)]


def assert_all_close(found, wanted, tolerance: float) -> None:
    names = ("output", "x", "offset", "mask", "weight", "bias")
    for name, a, b in zip(names, found, wanted, strict=True):
        assert a.shape == b.shape, name
        error = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1)
        assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.fixture(params=[None, 1, 5], ids=["at once", "one position a block", "five a block"])
def blocks(request, monkeypatch):
    """Blocks of so many positions, of three channels and nine taps."""
    if request.param is not None:
        monkeypatch.setattr(deform_sampling, "_BLOCK", 27 * request.param)


def ours(stride: int):
    return lambda *inputs: modulated_deform_conv2d(*inputs, stride, 1)


def torchvision_op(stride: int):
    return lambda x, offset, mask, w, b: deform_conv2d(
        x, offset, w, b, stride=stride, padding=1, mask=mask
    )


# (input, map, stride): own level, coarser level under a finer map (even and odd), finer level with
# stride 2.
SIZES = [
    ((4, 5), (4, 5), 1),
    ((3, 4), (6, 8), 1),
    ((3, 2), (5, 4), 1),
    ((2, 3), (4, 2), 1),  # enough values, although the map is narrower than the output
    ((7, 5), (4, 3), 2),
    ((6, 4), (3, 2), 2),
    ((1, 1), (1, 1), 1),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("size", "map_size", "stride"), SIZES)
def test_equals_the_definition(blocks, batch, size, map_size, stride):
    inputs = make_inputs(batch, size, map_size)
    found = output_and_gradients(ours(stride), inputs)
    wanted = output_and_gradients(lambda *i: plain_deform_conv(*i, stride), inputs)
    assert_all_close(found, wanted, 1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_equals_the_definition_at_whole_pixels_and_at_the_border(stride):
    """The derivative jumps at whole pixels, where zero offsets start: the kernel's side must be
    taken.
    """
    inputs = make_inputs(2, (5, 4), ((5 - 1) // stride + 1, (4 - 1) // stride + 1))
    with torch.no_grad():
        inputs[1].round_()
        inputs[1][0] = 0
    found = output_and_gradients(ours(stride), inputs)
    wanted = output_and_gradients(lambda *i: plain_deform_conv(*i, stride), inputs)
    assert_all_close(found, wanted, 1e-9)


def test_zero_offset_and_full_mask_are_a_plain_convolution():
    x, offset, mask, weight, bias = make_inputs(2, (9, 7), (5, 4))
    found = modulated_deform_conv2d(x, offset * 0, mask * 0 + 1, weight, bias, 2, 1)
    wanted = torch.nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
    assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_torchvision(batch, stride):
    inputs = make_inputs(
        batch, (23, 17), ((23 - 1) // stride + 1, (17 - 1) // stride + 1), channels=8
    )
    assert_all_close(
        output_and_gradients(ours(stride), inputs),
        output_and_gradients(torchvision_op(stride), inputs),
        1e-9,
    )


def test_other_kernels_and_strides_equal_torchvision():
    generator = torch.Generator().manual_seed(0)
    x, offset, mask, weight = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((2, 3, 11, 9), (2, 12, 6, 8), (2, 6, 6, 8), (4, 3, 3, 2))
    )
    settings = {"stride": (2, 1), "padding": (1, 0)}
    found = modulated_deform_conv2d(x, offset, mask, weight, **settings)
    assert (found - deform_conv2d(x, offset, weight, mask=mask, **settings)).abs().max() < 1e-12


@pytest.mark.parametrize(("size", "map_size", "stride"), SIZES)
def test_the_form_that_is_chosen_by_name_gives_the_same(size, map_size, stride, monkeypatch):
    inputs = make_inputs(2, size, map_size)
    wanted = output_and_gradients(ours(stride), inputs)
    monkeypatch.setenv("MMSDPT_DEFORM_CONV", "torchvision")
    calls = []
    operator = deform_conv._OPERATORS["torchvision"]
    monkeypatch.setitem(
        deform_conv._OPERATORS, "torchvision", lambda *args: calls.append(1) or operator(*args)
    )
    assert_all_close(output_and_gradients(ours(stride), inputs), wanted, 1e-9)
    assert calls == [1]
    with torch.autocast("cpu", torch.bfloat16):  # the operator has no kernel for it
        found = ours(stride)(*(t.float() for t in inputs))
    assert (found - wanted[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("form", "message"),
    [("cuda", "must be gather, torchvision or mmcv"), ("mmcv", "needs MMCV with compiled")],
)
def test_a_form_that_is_not_there_is_refused(form, message, monkeypatch):
    monkeypatch.setenv("MMSDPT_DEFORM_CONV", form)
    monkeypatch.setattr(deform_conv, "has_compiled_ops", lambda: False)
    with pytest.raises(InputError, match=message):
        ours(1)(*make_inputs(1, (4, 4), (4, 4)))


@pytest.mark.parametrize("stride", [1, 2])
def test_float32_error_stays_below_1e_5_on_large_maps(stride):
    size = ((101 - 1) // stride + 1, (168 - 1) // stride + 1)
    exact = make_inputs(1, (101, 168), size, channels=4)
    single = make_inputs(1, (101, 168), size, channels=4, dtype=torch.float32)
    with torch.no_grad():
        # Away from whole pixels, where rounding would pick the other side of a jump of the
        # derivative.
        single[1].copy_(single[1].floor() + 0.05 + 0.9 * single[1].frac().abs())
        for a, b in zip(exact, single, strict=True):
            a.copy_(b)
    found = output_and_gradients(ours(stride), single)
    assert_all_close(found, output_and_gradients(torchvision_op(stride), exact), 1e-5)


def test_gradcheck(blocks):
    inputs = make_inputs(1, (2, 3), (3, 2), channels=2)
    assert torch.autograd.gradcheck(ours(1), inputs, fast_mode=True)


@pytest.mark.skipif(
    not has_compiled_ops(), reason="MMCV is installed without its compiled operators"
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("size", "map_size", "stride"), SIZES)
def test_equals_compiled_mmcv(batch, size, map_size, stride):
    from mmcv.ops import modulated_deform_conv2d as mmcv_op

    inputs = make_inputs(batch, size, map_size)
    found = output_and_gradients(ours(stride), inputs)
    wanted = output_and_gradients(lambda *i: mmcv_op(*i, stride, 1), inputs)
    assert_all_close(found, wanted, 1e-9)


@pytest.mark.parametrize(("size", "map_size", "stride"), [((7, 7), (3, 3), 2), ((5, 4), (4, 4), 1)])
def test_a_map_with_too_few_values_is_an_error(size, map_size, stride):
    inputs = make_inputs(2, size, map_size)
    with pytest.raises(ValueError, match=f"of only {map_size[0]} x {map_size[1]}"):
        modulated_deform_conv2d(*inputs, stride, 1)


def test_no_pyramid_that_rounds_up_has_too_few_values():
    for height, width in itertools.product(range(1, 40), repeat=2):
        coarse = ((height + 1) // 2, (width + 1) // 2)
        fine_map, coarse_map = torch.empty(1, 1, height, width), torch.empty(1, 1, *coarse)
        assert (
            read_flat(fine_map, 1, coarse).shape[2:] == coarse
        )  # coarser level under the finer map, stride 1
        stride_2 = ((height - 1) // 2 + 1, (width - 1) // 2 + 1)
        assert (
            read_flat(coarse_map, 1, stride_2) is coarse_map
        )  # finer level under the coarser map, stride 2


def test_wrong_shapes_are_errors():
    x, offset, mask, weight, bias = make_inputs(1, (4, 4), (4, 4))
    with pytest.raises(ValueError, match="18, h, w"):
        modulated_deform_conv2d(x, mask, mask, weight, bias, 1, 1)
    with pytest.raises(ValueError, match="got 2 input channels"):
        modulated_deform_conv2d(x[:, :2], offset, mask, weight, bias, 1, 1)
    with pytest.raises(ValueError, match="no output position"):
        modulated_deform_conv2d(x[:, :, :2], offset, mask, weight, bias)


def test_infinite_offsets_sample_nothing():
    x, offset, mask, weight, bias = make_inputs(1, (4, 4), (4, 4))
    with torch.no_grad():
        offset[:, ::2] = float("inf")
        offset[:, :, :2] *= -1
    found = output_and_gradients(ours(1), (x, offset, mask, weight, bias))
    assert torch.equal(found[0], bias.detach().view(1, -1, 1, 1).expand_as(found[0]))
    assert all(t.isfinite().all() for t in found)


def test_a_nan_offset_shows_where_it_is():
    inputs = make_inputs(1, (4, 4), (4, 4))
    with torch.no_grad():
        inputs[1][0, 0, 1, 2] = float("nan")
    nan = ours(1)(*inputs).isnan().all(dim=1).nonzero()
    assert nan.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite_and_near_float32(dtype):
    inputs = make_inputs(2, (9, 70), (9, 70), dtype=torch.float32)
    wanted = ours(1)(*inputs)
    with torch.autocast("cpu", dtype):
        found = ours(1)(inputs[0].to(dtype), *inputs[1:])
    assert found.dtype == dtype
    assert (found.float() - wanted).abs().max() < 0.02 * wanted.abs().max()
    gradients = torch.autograd.grad(found.float().sum(), inputs)
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("frozen", [True, False])
def test_no_sampled_columns_are_kept(frozen):
    """The C samples per tap must not be kept for backward, only what is needed to gather them
    again.
    """
    x, offset, mask, weight, bias = make_inputs(
        1, (20, 20), (20, 20), channels=128, dtype=torch.float32
    )
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        if frozen:
            weight, bias = weight.detach(), bias.detach()
        modulated_deform_conv2d(x, offset, mask, weight, bias, 1, 1)
    columns = 9 * 128 * 20 * 20 * 4
    assert sum(kept.values()) < columns / 2


def test_layer_has_the_parameters_of_mmcv():
    layer = ModulatedDeformConv2d(6, 4, kernel_size=3, stride=2, padding=1)
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {
        "weight": (4, 6, 3, 3),
        "bias": (4,),
    }
    assert layer.weight.abs().max() <= 1 / math.sqrt(54) and not layer.bias.any()
    x, offset, mask, *_ = make_inputs(2, (7, 5), (4, 3), channels=6, dtype=torch.float32)
    wanted = modulated_deform_conv2d(x, offset, mask, layer.weight, layer.bias, 2, 1)
    assert torch.equal(layer(x, offset, mask), wanted)


def test_the_gradients_of_samples_are_those_of_pytorchs_embedding(blocks, monkeypatch):
    """On few cores they are products with a sparse matrix."""
    torch.manual_seed(0)
    shapes = (2, 5, 7, 6), (2, 18, 7, 6), (2, 9, 7, 6), (4, 5, 3, 3)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def run(cores):
        monkeypatch.setattr("mmsdpt.hosts.glip.deform_sampling._FEW_CORES", cores)
        y = modulated_deform_conv2d(*inputs, None, 1, 1)
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    for found, wanted in zip(run(4), run(0), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
