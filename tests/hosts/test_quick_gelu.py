"""CLIP's activation."""

import pytest
import torch

from mmsdpt.hosts.clip.quick_gelu import PlainQuickGELU, QuickGELU

from .small_clip import build_clip


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.05)]
)
def test_gives_the_plain_forms_bits_and_its_gradient(dtype, error):
    x = (8 * torch.randn(50, 40)).to(dtype).requires_grad_()
    found, wanted = QuickGELU()(x), PlainQuickGELU()(x)
    assert torch.equal(found, wanted)
    with torch.no_grad():
        assert torch.equal(QuickGELU()(x), wanted)
    weight = torch.randn(50, 40).to(dtype)
    gradients = (torch.autograd.grad(y, x, weight)[0] for y in (found, wanted))
    torch.testing.assert_close(*gradients, rtol=error, atol=error)


def test_gradcheck():
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x)


def test_both_towers_of_a_clip_have_it():
    kinds = [
        type(module) for module in build_clip().modules() if isinstance(module, PlainQuickGELU)
    ]
    assert kinds and set(kinds) == {QuickGELU}
