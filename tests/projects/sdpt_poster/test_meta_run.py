"""The meta device answers what can be known there, and says what cannot."""

import pytest
import torch
import torch.nn.functional as F

from projects.sdpt_poster.meta import MetaRun


@pytest.fixture
def run():
    with MetaRun() as mode, torch.no_grad():
        yield mode


def meta(*shape, **kwargs):
    return torch.empty(*shape, device="meta", **kwargs)


def test_masks_that_come_from_the_cpu_keep_their_values(run):
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).to("meta")
    assert mask.is_meta
    assert int(mask.sum(dim=1).max()) == 3
    assert not bool(mask.all()) and bool(mask[:, :1].all())
    assert F.pad(mask == 0, (0, 2), value=True).sum().item() == 4 + 4


def test_masks_that_are_made_there_have_values(run):
    mask = torch.ones(2, 5, dtype=torch.long, device="meta")
    mask[:, 3:] = 0
    assert int(mask.sum()) == 6
    mask.fill_(1)
    assert int(mask.sum()) == 10


def test_rates_of_a_linspace_are_known(run):
    with torch.device("meta"):
        assert [x.item() for x in torch.linspace(0, 0.4, 3)] == pytest.approx([0, 0.2, 0.4])


@pytest.mark.parametrize("ask", [lambda x: x.sum().item(), lambda x: bool((x > 0).all())])
def test_values_of_features_and_weights_are_refused(run, ask):
    with pytest.raises(RuntimeError, match="depends on weights or images"):
        ask(meta(3, 4))
    with pytest.raises(RuntimeError, match="depends on weights or images"):
        ask(torch.nn.Linear(4, 4, device="meta").weight * torch.ones(4, device="meta"))


def test_a_mask_that_unknown_values_are_written_to_is_forgotten(run):
    mask = torch.ones(4, dtype=torch.long, device="meta")
    mask.copy_(meta(4))
    with pytest.raises(RuntimeError, match="depends on weights or images"):
        mask.sum().item()


def test_features_are_not_known_to_be_equal(run):
    x = meta(3)
    assert not torch.equal(x, x.clone())
    assert torch.equal(torch.ones(3, dtype=torch.long, device="meta"), torch.tensor([1, 1, 1]))


def test_remembered_shapes_are_those_of_the_meta_device():
    x, y = meta(2, 3, 8, 8), meta(3, 1, 1, dtype=torch.float64)

    def results():
        return [
            x + y,
            x.permute(0, 2, 3, 1).contiguous(),
            F.gelu(x.contiguous(memory_format=torch.channels_last)),
            F.layer_norm(x, (8,)),
            x.max(dim=-1)[1],
            x > 0,
            x.clone().mul_(2),
            F.conv2d(x, meta(5, 3, 3, 3), stride=2),
            *x.chunk(2, dim=1),
        ]

    plain = results()
    with MetaRun():
        for _ in range(2):  # the second time from memory
            for found, wanted in zip(results(), plain, strict=True):
                assert found.is_meta
                assert found.shape == wanted.shape
                assert found.stride() == wanted.stride()
                assert found.dtype == wanted.dtype
