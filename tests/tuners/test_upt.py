"""UPT: one set of prompts for both encoders."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmsdpt.hosts.seams import ForwardState, PromptRows
from mmsdpt.tuners.upt import UPT
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples
from tests.tuners.seams_of_glip_l import seams

SIZE = (64, 96)


def build(**tuner):
    model = build_mini_glip(tuner=dict(type="mmsdpt.UPT", **tuner)).double().eval()
    for parameter in model.tuners.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def plain_prompts(upt):
    """LN1(U + SA(U)) and the FFN after it, written out."""
    u, attention, d = upt.prompts, upt.attention, upt.width
    query, key, value = (u @ attention.in_proj_weight.T + attention.in_proj_bias).split(d, dim=-1)
    seen = (query @ key.T / math.sqrt(d)).softmax(-1) @ value
    u = u + seen @ attention.out_proj.weight.T + attention.out_proj.bias
    u = F.layer_norm(u, (d,), upt.norm1.weight, upt.norm1.bias)
    x = F.layer_norm(u, (d,), upt.norm2.weight, upt.norm2.bias)
    x = (x @ upt.linear1.weight.T + upt.linear1.bias).clamp(min=0)
    return u + x @ upt.linear2.weight.T + upt.linear2.bias


def test_prompts_are_those_of_the_plain_transformer_and_every_prompt_depends_on_all():
    upt = build().tuners.default
    assert torch.allclose(upt.unified(), plain_prompts(upt), rtol=0, atol=1e-9)
    (gradient,) = torch.autograd.grad(upt.unified()[0].sum(), upt.prompts)
    assert (gradient.abs().sum(-1) > 0).all()


def test_each_half_prompts_one_encoder_and_each_stage_has_its_own_linear():
    model = build(num_tokens=3)
    upt, seams = model.tuners.default, model.seams()
    prompts, state = plain_prompts(upt), ForwardState()
    (words,) = seams["text_embeddings"]
    (row,) = words.rows(state).values()
    assert row.keep and torch.allclose(row.values, prompts[:3], rtol=0, atol=1e-9)

    for seam in seams["image_blocks"]:
        seen = {}

        def block(x, rows, seen=seen):
            seen.update(rows)
            return x, {}

        other = PromptRows(torch.zeros(1, seam.widths["width"]).double(), keep=True)
        seam.run(block, torch.zeros(1, 4, seam.widths["width"]).double(), {"other": other}, state)
        linear = upt.to_image[str(seam.widths["stage"])]
        assert seen["other"] is other and not seen[upt].keep
        assert torch.allclose(seen[upt].values, linear(prompts[3:]), rtol=0, atol=1e-9)


def test_both_encoders_see_the_same_draw_of_dropout():
    model = build(dropout=0.5)
    upt = model.tuners.default.train()
    state = ForwardState()
    text, image = upt._of(state)
    again_text, again_image = upt._of(state)
    assert torch.equal(text, again_text) and torch.equal(image[0], again_image[0])
    assert not torch.equal(text, upt._of(ForwardState())[0])
    upt.eval()
    assert torch.equal(upt._of(ForwardState())[0], upt._of(ForwardState())[0])


def test_both_encoders_outputs_depend_on_the_prompts():
    model = build()
    images, samples = make_images(2, SIZE), make_samples(TEXTS[:2], SIZE)
    captions = [model.class_prompt(sample.text)[0] for sample in samples]
    before = model.encode(images, ForwardState(images=images, captions=captions))
    with torch.no_grad():
        torch.nn.init.normal_(model.tuners.default.linear2.weight, std=0.5)
    after = model.encode(images, ForwardState(images=images, captions=captions))
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(before[0], after[0], strict=True))
    assert (before[1]["hidden"] - after[1]["hidden"]).abs().max() > 1e-6
    assert before[1]["hidden"].shape == after[1]["hidden"].shape


@pytest.mark.parametrize("num_prompts", [0, 2.5])
def test_a_number_of_prompts_that_is_none_is_refused(num_prompts):
    with pytest.raises(ValueError, match="positive integer"):
        UPT(num_prompts=num_prompts, seams=seams())
