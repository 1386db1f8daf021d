"""VPT-deep equals its plain form in Swin's shifted windows, block by block."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmsdpt.hosts.grounding.swin import SwinTransformer
from mmsdpt.hosts.seams import BlockSeam, ForwardState, PromptRows
from mmsdpt.tuners.vpt import VPT
from tests.shake import shake

WINDOW, DEPTHS, SIZE = 3, (2, 3), (30, 41)  # maps of 8 x 11 and 4 x 6: padded, and shifted


@pytest.fixture
def encoder() -> SwinTransformer:
    encoder = SwinTransformer(
        embed_dims=8,
        depths=DEPTHS,
        num_heads=(2, 4),
        window_size=WINDOW,
        strides=(4, 2),
        out_indices=(0, 1),
        drop_path_rate=0.0,
    )
    shake(encoder)  # the position bias matters, and norms are not one
    return encoder.requires_grad_(False).double().eval()


def attach(encoder, **options) -> VPT:
    return VPT(seams=encoder.seams(), **options).double()


def regions(rows, columns, shift):
    """Number of the region of each position of the shifted map, as in Swin's code."""
    numbers = torch.zeros(rows, columns)
    parts = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for i, row in enumerate(parts):
        for j, column in enumerate(parts):
            numbers[row, column] = 3 * i + j
    return numbers


def windows_of(x):
    """(B, H, W, c) to (B, windows, tokens of a window, c)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, -1, WINDOW**2, channels)


def plain_block(block, x, hw, prompts, shift):
    """The official VPT for Swin: prompts in front of each window's tokens, queries included."""
    msa, p = block.attn.w_msa, len(prompts)
    batch, _, width = x.shape
    joined = block.norm1(torch.cat([prompts.expand(batch, -1, -1), x], dim=1))
    prompt, image = joined[:, :p], joined[:, p:].unflatten(1, hw)
    image = F.pad(image, (0, 0, 0, -hw[1] % WINDOW, 0, -hw[0] % WINDOW))
    size = image.shape[1:3]
    image = image.roll((-shift, -shift), dims=(1, 2))
    windows = windows_of(image)
    count = windows.shape[1]
    windows = torch.cat([prompt[:, None].expand(-1, count, -1, -1), windows], dim=2)
    qkv = msa.qkv(windows).unflatten(-1, (3, msa.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    bias = msa.relative_position_bias_table[msa.relative_position_index]  # (N, N, heads)
    added = torch.zeros(count, msa.num_heads, p + WINDOW**2, p + WINDOW**2).double()
    added[:, :, p:, p:] += bias.permute(2, 0, 1)
    if shift:
        number = windows_of(regions(*size, shift)[None, :, :, None])[0, :, :, 0]
        added[:, :, p:, p:] += -100.0 * (number[:, None, :, None] != number[:, None, None, :])
    scores = msa.scale * qkv[0] @ qkv[1].transpose(-2, -1) + added
    out = msa.proj((scores.softmax(-1) @ qkv[2]).transpose(2, 3).flatten(3))[:, :, p:]
    out = out.view(batch, size[0] // WINDOW, size[1] // WINDOW, WINDOW, WINDOW, width)
    out = out.transpose(2, 3).reshape(batch, *size, width).roll((shift, shift), dims=(1, 2))
    x = x + out[:, : hw[0], : hw[1]].flatten(1, 2)
    return x + block.ffn.layers(block.norm2(x))


def plain_encoder(encoder, images, prompts):
    x, hw = encoder.patch_embed(images)
    index, maps = 0, []
    for s, stage in enumerate(encoder.stages):
        for position, block in enumerate(stage.blocks):
            x = plain_block(block, x, hw, prompts[index], shift=WINDOW // 2 * (position % 2))
            index += 1
        normed = getattr(encoder, f"norm{s}")(x)
        maps.append(normed.unflatten(1, hw).permute(0, 3, 1, 2))
        if stage.downsample is not None:
            x, hw = stage.downsample(x, hw)
    return maps


def weighted(maps):
    generator = torch.Generator().manual_seed(1)
    return sum((m * torch.randn(m.shape, generator=generator).to(m)).sum() for m in maps)


@pytest.mark.parametrize("batch", [1, 3])
def test_vpt_equals_its_plain_form_in_outputs_and_gradients(encoder, batch):
    vpt = attach(encoder, num_tokens=2)
    images = torch.randn(batch, 3, *SIZE).double()
    found, expected = encoder(images), plain_encoder(encoder, images, vpt.prompts)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    parameters = list(vpt.parameters())
    for a, b in zip(
        torch.autograd.grad(weighted(found), parameters),
        torch.autograd.grad(weighted(expected), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert a.abs().max() > 0


def test_two_of_them_are_one_with_the_prompts_of_both(encoder):
    images = torch.randn(1, 3, *SIZE).double()
    first, second = attach(encoder, num_tokens=2), attach(encoder, num_tokens=3)
    stacked = encoder(images)
    joined = [torch.cat(pair) for pair in zip(first.prompts, second.prompts, strict=True)]
    for a, b in zip(stacked, plain_encoder(encoder, images, joined), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def glip_l_seams():
    widths = [192] * 2 + [384] * 2 + [768] * 18 + [1536] * 2
    return {"image_blocks": [BlockSeam(i, dict(width=w)) for i, w in enumerate(widths)]}


def test_prompts_are_fresh_in_each_block_and_others_rows_pass_by():
    seams = glip_l_seams()
    vpt, seen = VPT(seams=seams, num_tokens=2), []

    def run(x, rows):
        seen.append(rows)
        return x, {"other": rows["other"]}

    other = PromptRows(torch.zeros(1, 192), keep=True)
    for i in (0, 5):
        seam = seams["image_blocks"][i]
        x, kept = seam.run(run, torch.zeros(1, 4, 192), {"other": other}, ForwardState())
        assert seen[-1]["other"] is other
        assert seen[-1][vpt].values is vpt.prompts[i]
        assert not seen[-1][vpt].keep
        assert list(kept) == ["other"]


def test_prompts_start_within_xaviers_bound_of_a_patch():
    vpt = VPT(seams=glip_l_seams(), num_tokens=200)
    for prompt in vpt.prompts:
        bound = math.sqrt(6 / (3 * 16 + prompt.shape[1]))
        assert 0.99 * bound < prompt.abs().max() <= bound
        assert prompt.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_no_prompts_are_refused():
    with pytest.raises(ValueError, match="num_tokens must be a positive integer, got 0"):
        VPT(seams=glip_l_seams(), num_tokens=0)
