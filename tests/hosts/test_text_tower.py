"""Texts of different lengths go through CLIP's text tower without what pads them."""

from __future__ import annotations

import pytest
import torch

from mmsdpt.hosts.clip.text_tower import text_blocks
from mmsdpt.hosts.seams import ForwardState
from tests.hosts.small_clip import NAMES, build_clip, clip_config


@pytest.fixture(scope="module")
def blocks():
    torch.manual_seed(0)
    model = build_clip(clip_config(classes=NAMES)).double().eval().requires_grad_(False)
    return model.transformer.resblocks


@pytest.mark.parametrize("ends", [(5, 1, 3, 0), (5, 5, 5, 5), (0, 0, 0, 0)])
def test_each_text_is_what_it_is_alone(blocks, ends):
    width, groups, ends = blocks[0].attn.embed_dim, 2, torch.tensor(ends)
    prefix = torch.randn(groups, 3, width, dtype=torch.float64, requires_grad=True)
    rest = torch.randn(len(ends), 6, width, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(groups, len(ends), width, dtype=torch.float64)

    def run(text: int | slice, length: int) -> torch.Tensor:
        part = rest[text][:, :length] if isinstance(text, slice) else rest[text, :length][None]
        last = ends[text] if isinstance(text, slice) else ends[text][None]
        return text_blocks(blocks, prefix, part, last, (), ForwardState())

    together = run(slice(None), 6)
    alone = torch.cat([run(i, int(end) + 1) for i, end in enumerate(ends)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    gradients = [
        torch.autograd.grad((out * wanted).sum(), (prefix, rest)) for out in (together, alone)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    padding = torch.arange(6) > ends[:, None]
    assert gradients[0][1][padding].abs().sum() == 0 and gradients[0][0].abs().max() > 0


def test_linear_layers_see_the_tokens_alone(blocks):
    rows = []
    hook = blocks[0].mlp.register_forward_hook(lambda _, x, y: rows.append(x[0].shape[:2].numel()))
    width, ends = blocks[0].attn.embed_dim, torch.tensor([5, 1, 3, 0])
    with torch.no_grad():
        text_blocks(
            blocks,
            torch.zeros(1, 2, width).double(),
            torch.zeros(4, 6, width).double(),
            ends,
            (),
            ForwardState(),
        )
    hook.remove()
    assert rows == [6 + 2 + 4 + 1, 2]
