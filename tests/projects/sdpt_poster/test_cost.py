"""Multiply-adds are those of the definitions, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsdpt.hosts.glip.deform_conv import ModulatedDeformConv2d
from mmsdpt.utils.bert_tokenizer import BertTokenizer
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.language_models import mini_bert_folder
from projects.sdpt_poster.cost import CostMeter, DeformableProduct, class_names
from projects.sdpt_poster.macs import MacCounter
from projects.sdpt_poster.meta import MetaRun, build_on_meta
from projects.sdpt_poster.module_macs import ModuleCounter
from projects.sdpt_poster.param_flops import use_plain_fusion

SIZE, TOKENS = (320, 320), 50
# Mini GLIP: strides 4, 8, 16 of three stages; a pyramid of five levels, from stride 8 on.
STAGES = [(80, 32, 2), (40, 64, 2), (20, 128, 2)]  # side, width, blocks
WINDOW = 5
LEVELS = [40 * 40, 20 * 20, 10 * 10, 5 * 5, 3 * 3]
WIDTH, JOINT, TEXT, LAYERS, HEADS = 64, 256, 128, 3, 4


@pytest.fixture(scope="module")
def mini():
    """Cost of mini GLIP with a method, by its config."""
    path = Path(__file__).parents[3] / "configs" / "_base_" / "models" / "mini_glip.py"
    config = Config.fromfile(str(path)).model
    meter = CostMeter(use_plain_fusion, SIZE, TOKENS)

    def measure(**tuner):
        return meter.measure(dict(config, tuner=tuner) if tuner else config)

    return measure


@pytest.fixture(scope="module")
def base(mini):
    return mini()


def test_image_encoder(base):
    expected = 80 * 80 * 32 * 3 * 4 * 4  # patches of 4 x 4 pixels
    for side, width, blocks in STAGES:
        padded = -(-side // WINDOW) * WINDOW
        tokens, window = padded**2, WINDOW**2
        attention = 4 * tokens * width**2 + 2 * tokens * window * width
        expected += blocks * (attention + 8 * side**2 * width**2)
    for (side, width, _), (_, wider, _) in zip(STAGES[:-1], STAGES[1:], strict=True):
        expected += (side // 2) ** 2 * 4 * width * wider  # patch merging
    assert base.parts["image encoder"] == expected


def test_neck(base):
    lateral = LEVELS[0] * 64 * WIDTH + LEVELS[1] * 128 * WIDTH
    assert base.parts["neck"] == lateral + sum(LEVELS) * 9 * WIDTH**2


def test_text_layers(base):
    layer = 12 * TOKENS * TEXT**2 + 2 * TOKENS**2 * TEXT
    assert base.parts["fused text layers"] == LAYERS * layer
    # One more of the probe that asks for autocast's type.
    assert base.parts["text encoder"] == pytest.approx(4 * layer, abs=1)


def plain_fusion(positions: int, words: int) -> int:
    projections = 3 * JOINT * (WIDTH * positions + TEXT * words)
    return LAYERS * (projections + 3 * JOINT * positions * words)


def test_fusion_in_the_plain_form(base):
    assert base.parts["X-MHA"] == plain_fusion(sum(LEVELS), TOKENS)


def test_dynamic_convolution(base):
    own, coarser, finer = sum(LEVELS), sum(LEVELS[1:]), sum(LEVELS[1:])
    expected = 9 * WIDTH**2 * (own + coarser + finer)  # deformable: taps x in x out
    expected += 9 * WIDTH * 27 * own  # offsets and masks
    expected += WIDTH * (5 + 4 + 4)  # weights of the terms
    expected += 5 * (WIDTH * WIDTH // 4 + WIDTH // 4 * WIDTH * 4)  # dynamic ReLU
    assert base.parts["dynamic convolution"] == LAYERS * expected


def test_the_parts_are_all(base):
    assert base.macs == sum(base.parts.values())


def test_our_form_executes_fewer(base):
    assert base.executed_macs < base.macs


def test_the_counter_agrees_with_pytorchs_on_a_whole_model(repository):
    config = Config.fromfile(str(repository / "configs/_base_/models/mini_glip.py")).model
    meter = CostMeter(use_plain_fusion, (96, 96), 20)
    with MetaRun(), torch.no_grad():
        model = build_on_meta(config)
        model.requires_grad_(False)
        with FlopCounterMode(display=False) as pytorchs, MacCounter() as ours:
            meter._pass(model, (96, 96), 20)
    products_with_a_vector = 20 * TEXT  # the text's bias, which PyTorch leaves out
    assert ours.total == pytorchs.get_total_flops() // 2 + products_with_a_vector


def test_a_method_adds_what_it_runs(mini, base):
    k = 7
    cost = mini(type="mmsdpt.SDPT", num_tokens=k)
    positions, words = sum(LEVELS), TOKENS
    added = plain_fusion(positions + k, words + k) - plain_fusion(positions, words)
    assert cost.macs - base.macs == added
    assert cost.poster_macs - base.poster_macs == LAYERS * 3 * JOINT * (WIDTH + TEXT) * k
    # Keys and values of tokens are constants. Left is attention: N image positions look at k more
    # columns of every head, T words at k more rows.
    image = 2 * positions * HEADS * k * WIDTH
    text = 2 * words * HEADS * k * WIDTH + HEADS * k * k * WIDTH
    assert cost.executed_macs - base.executed_macs == LAYERS * (image + text)
    assert cost.trainable == cost.total - base.total == LAYERS * k * JOINT


def test_a_parameter_that_a_method_replaces_is_counted_once(mini, base):
    cost = mini(type="mmsdpt.FullFineTuning")
    assert cost.total == cost.trainable == base.total
    assert cost.share == 100
    assert cost.macs == base.macs and cost.executed_macs == base.executed_macs


def test_the_stand_in_of_deformable_convolution_is_its_product():
    conv = ModulatedDeformConv2d(6, 10, 3, stride=2, padding=1).to("meta")
    inputs = [torch.empty(2, c, 9, 13, device="meta") for c in (6, 18, 9)]
    with torch.no_grad():
        with MacCounter() as real:
            out = conv(*inputs)
        with MacCounter() as product:
            found = DeformableProduct(conv)(*inputs)
    assert found.shape == out.shape == (2, 10, 5, 7)
    assert real.total == product.total == 2 * 5 * 7 * 9 * 6 * 10


def test_attention_without_a_formula_is_refused():
    query = torch.zeros(1, 2, 4, 8)
    with MacCounter(), pytest.raises(NotImplementedError, match="no formula"):
        nn.functional.scaled_dot_product_attention(query, query, query)


@pytest.mark.parametrize("tokens", [3, 4, 5, 17, 160, 161, 162, 240, 256])
def test_captions_have_the_length_that_is_asked_for(tokens):
    tokenizer = BertTokenizer(mini_bert_folder())
    names = class_names(tokenizer, tokens)
    assert len(tokenizer(". ".join(names)).input_ids) == tokens
    assert len(names) == min(80, (tokens - 1) // 2)
    assert class_names(tokenizer, tokens, variant=1) != names


def test_a_caption_that_is_too_long_is_refused(repository):
    config = Config.fromfile(str(repository / "configs/_base_/models/mini_glip.py")).model
    with pytest.raises(InputError, match="3 to 256 tokens, got 300"):
        CostMeter(use_plain_fusion, SIZE, 300).measure(config)


def test_the_posters_rules():
    """Linear in x out, Conv2d without bias, LayerNorm 4, Softmax 3 n - 1, pooling; no more."""

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.AdaptiveAvgPool2d(2)
            )
            self.neck = nn.Module()
            self.neck.lateral_convs = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 1))])
            self.neck.fpn_convs = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 5, 1)])
            self.bbox_head = nn.Module()
            self.bbox_head.num_classes = 80
            self.bbox_head.head = nn.Module()
            self.bbox_head.head.centerness = nn.Conv2d(5, 1, 1)
            self.words = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Softmax(dim=-1))

        def forward(self, x):
            x = self.backbone(x)  # 4 x 2 x 2, from 4 x 6 x 6
            x = self.neck.lateral_convs[0](x)
            for conv in self.neck.fpn_convs:
                x = conv(x)
            return self.bbox_head.head.centerness(x), self.words(x.flatten(2).transpose(1, 2))

    model = Levels()
    with ModuleCounter(model) as counter:
        model(torch.zeros(1, 3, 8, 8))
    backbone = 36 * 4 * 3 * 9 + 36 * 4 + 4 * 4
    neck = 4 * 4 * 5  # the extra level alone
    head = 4 * 5 + 4 * 5 * 80
    words = 4 * 5 * 6 + 4 * 4 * 6 + 4 * (3 * 6 - 1)
    assert counter.total == backbone + neck + head + words
