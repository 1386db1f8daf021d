"""The inverse projection is a least-squares inverse of the present base weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmsdpt.tuners import InverseProjection, PrototypeTokens, sdpt

E, D, K = 24, 9, 4


def make(dtype=torch.float64):
    linear = nn.Linear(D, E).to(dtype)
    nn.init.normal_(linear.weight)
    nn.init.normal_(linear.bias)
    return InverseProjection(E, D).to(dtype), linear.requires_grad_(False)


def plain(tokens, linear):
    """(Z - b) W (W^T W)^-1 in float64."""
    weight, bias = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
    return (tokens.detach().double().numpy() - bias) @ weight @ np.linalg.inv(weight.T @ weight)


def relative_error(found, expected):
    return np.abs(found.detach().double().numpy() - expected).max() / np.abs(expected).max()


def test_it_is_the_least_squares_solution():
    inverse, linear = make()
    tokens = torch.randn(K, E, dtype=torch.float64)
    found = inverse(tokens, linear)
    expected = np.linalg.lstsq(linear.weight.numpy(), (tokens - linear.bias).numpy().T, rcond=None)[
        0
    ].T
    assert relative_error(found, expected) < 1e-12


def test_projecting_back_gives_the_row_space_component_plus_bias():
    inverse, linear = make()
    tokens = torch.randn(K, E, dtype=torch.float64)
    basis = torch.linalg.qr(linear.weight)[0]  # (E, D): the row space of W^T
    expected = (tokens - linear.bias) @ basis @ basis.T + linear.bias
    back = linear(inverse(tokens, linear))
    assert torch.allclose(back, expected, rtol=0, atol=1e-12)
    assert (back - tokens).abs().max() > 0.1  # not the tokens themselves: rank D of E


def test_it_inverts_what_the_projection_made():
    inverse, linear = make()
    features = torch.randn(K, D, dtype=torch.float64)
    assert torch.allclose(inverse(linear(features), linear), features, rtol=0, atol=1e-12)


def test_it_is_computed_in_float64_and_rounded_once():
    """In float32 an ill-conditioned weight would cost most digits."""
    inverse, linear = make(torch.float32)
    with torch.no_grad():
        linear.weight[:, 0] = linear.weight[:, 1] + 1e-4 * linear.weight[:, 0]
    tokens = torch.eye(E)
    inverse(tokens, linear)
    weight = linear.weight.double()
    exact = weight @ torch.linalg.inv(weight.T @ weight)
    pinv = inverse.pinv(linear, torch.float32)
    assert torch.allclose(pinv.double(), exact, rtol=1e-6, atol=1e-6 * exact.abs().max())
    assert pinv.dtype == torch.float32


def weight_of_condition(digits, rows=96, columns=72):
    """Singular values from 1 down to 10^-digits."""
    left, right = (
        torch.linalg.qr(torch.randn(n, columns, dtype=torch.float64))[0] for n in (rows, columns)
    )
    return left * torch.logspace(0, -digits, columns, dtype=torch.float64) @ right.T


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 4, 4.5, 5, 6, 8, 12])
def test_it_equals_the_decomposition_at_any_condition(digits):
    weight = weight_of_condition(digits)
    expected = torch.linalg.pinv(weight.T)
    error = (sdpt._pseudo_inverse(weight) - expected).abs().max() / expected.abs().max()
    assert error < 1e-10


@pytest.mark.parametrize("digits", [0, 1, 3, 4])
def test_usual_weights_need_no_decomposition(digits, monkeypatch):
    """Those of the mini model have a condition number of 4 to 11."""
    monkeypatch.setattr(sdpt, "_decomposed_pseudo_inverse", None)
    sdpt._pseudo_inverse(weight_of_condition(digits))


@pytest.mark.parametrize("digits", [14, 15, 17])
def test_full_rank_is_what_the_decomposition_says(digits):
    weight = weight_of_condition(digits)
    rank = int(torch.linalg.matrix_rank(weight))
    assert rank < 72
    with pytest.raises(ValueError, match=f"has rank {rank}, "):
        sdpt._pseudo_inverse(weight)


@pytest.mark.parametrize("way", ["in place", "bias", "load_state_dict", "assign", "new parameter"])
def test_it_follows_the_base_weights(way):
    inverse, linear = make()
    tokens = torch.randn(K, E, dtype=torch.float64)
    before = inverse(tokens, linear)
    other = {name: torch.randn_like(value) for name, value in linear.state_dict().items()}
    with torch.no_grad():
        if way == "in place":
            linear.weight[3] *= 2
        elif way == "bias":
            linear.bias.add_(1)
        elif way == "new parameter":
            linear.weight = nn.Parameter(other["weight"])
        else:
            linear.load_state_dict(other, assign=way == "assign")
    after = inverse(tokens, linear)
    assert relative_error(after, plain(tokens, linear)) < 1e-12
    assert (after - before).abs().max() > 1e-3


def test_it_follows_moves_between_dtypes():
    inverse, linear = make(torch.float32)
    model = nn.ModuleList([inverse, linear])
    tokens = torch.randn(K, E)
    assert relative_error(inverse(tokens, linear), plain(tokens, linear)) < 1e-5
    model.double()
    found = inverse(tokens.double(), linear)
    assert found.dtype == torch.float64 and relative_error(found, plain(tokens, linear)) < 1e-12
    model.float()
    found = inverse(tokens, linear)
    assert found.dtype == torch.float32 and relative_error(found, plain(tokens, linear)) < 1e-5
    expected = plain(tokens, linear)
    model.to(torch.bfloat16)
    found = inverse(tokens.bfloat16(), linear)
    assert found.dtype == torch.bfloat16 and relative_error(found, expected) < 0.1


def test_autocast_does_not_lower_its_precision():
    inverse, linear = make(torch.float32)
    tokens = torch.randn(K, E)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = inverse(tokens, linear)
    assert found.dtype == torch.float32 and relative_error(found, plain(tokens, linear)) < 1e-5


def test_a_copy_does_not_trust_the_fingerprint_of_the_original():
    inverse, linear = make()
    tokens = torch.randn(K, E, dtype=torch.float64)
    inverse(tokens, linear)
    twin, other = copy.deepcopy((inverse, linear))
    with torch.no_grad():
        other.weight.mul_(3)
    assert relative_error(twin(tokens, other), plain(tokens, other)) < 1e-12
    assert relative_error(inverse(tokens, linear), plain(tokens, linear)) < 1e-12


def test_tokens_get_its_gradient_and_the_base_weights_none():
    inverse, linear = make()
    linear.requires_grad_(True)
    tokens = torch.randn(K, E, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(K, D, dtype=torch.float64)
    (inverse(tokens, linear) * weights).sum().backward()
    assert torch.allclose(tokens.grad, weights @ inverse.pinv(linear, weights.dtype).T)
    assert linear.weight.grad is None and linear.bias.grad is None


def test_it_is_no_part_of_the_state_dict():
    inverse, linear = make()
    inverse(torch.randn(K, E, dtype=torch.float64), linear)
    assert not inverse.state_dict() and not list(inverse.parameters())


@pytest.mark.parametrize("damage", ["zeros", "two equal columns"])
def test_a_weight_without_full_rank_is_refused_with_a_sentence(damage):
    inverse, linear = make()
    with torch.no_grad():
        if damage == "zeros":
            linear.weight.zero_()
        else:
            linear.weight[:, 0] = linear.weight[:, 1]
    with pytest.raises(ValueError, match=r"\(24, 9\) has rank [08].*load the pre-trained weights"):
        inverse(torch.randn(K, E, dtype=torch.float64), linear)


def test_a_narrower_joint_space_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="joint width must be at least the modality's"):
        InverseProjection(8, 9)


def test_prototype_tokens_are_one_set_per_layer():
    tokens = PrototypeTokens(num_layers=3, num_tokens=K, width=E)
    assert tokens.weight.shape == (3, K, E)
    assert torch.equal(tokens(1), tokens.weight[1])
    with pytest.raises(ValueError, match="num_layers must be a positive integer"):
        PrototypeTokens(num_layers=0, num_tokens=K, width=E)
