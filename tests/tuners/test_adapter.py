"""Adapter: bottlenecks in front of the residuals of BERT's layers, and their norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsdpt.hosts.seams import FeatureSeam, ParameterSeam
from mmsdpt.tuners.adapter import Adapter
from tests.shake import shake
from tests.tuners.tiny_bert import (
    CAPTIONS,
    DEPTH,
    WIDTH,
    TextHost,
    assert_same_text,
    make_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("bert"))


ADAPTER = dict(type="mmsdpt.Adapter", bottleneck=5)


def plain_norm(x, norm, tuners, name):
    """LN with the weight and bias of the host, moved by every tuner."""
    key = f"language_model__language_backbone__body__model__{name}".replace(".", "__")
    weight, bias = norm.weight, norm.bias
    for tuner in tuners:
        if f"{key}__weight" in tuner.norm_offsets:
            weight = weight + tuner.norm_offsets[f"{key}__weight"]
            bias = bias + tuner.norm_offsets[f"{key}__bias"]
    return F.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)


def plain_text(host, captions):
    """BERT layer by layer, with the adapters as the paper draws them."""
    tuners = list(host.tuners.values())
    ids, mask = host.tokens(captions)
    added = (1 - mask[:, None, None].double()) * torch.finfo(torch.float64).min
    e = host.bert.embeddings
    places = torch.arange(ids.shape[1])
    x = e.word_embeddings(ids) + e.position_embeddings(places) + e.token_type_embeddings.weight[0]
    x = plain_norm(x, e.LayerNorm, tuners, "embeddings.LayerNorm")
    for i, layer in enumerate(host.bert.encoder.layer):
        for kind, part, h in (
            ("text_attention_outputs", layer.attention.output, None),
            ("text_ffn_outputs", layer.output, layer.intermediate),
        ):
            h = layer.attention.self(x, added) if h is None else h(x)
            h = h @ part.dense.weight.T + part.dense.bias
            for tuner in tuners:
                down, up = tuner.adapters[kind][i].down, tuner.adapters[kind][i].up
                approximate = "tanh" if tuner.activation == "gelu_tanh" else "none"
                hidden = F.gelu(h @ down.weight.T + down.bias, approximate=approximate)
                h = h + hidden @ up.weight.T + up.bias
            place = "attention.output" if kind == "text_attention_outputs" else "output"
            name = f"encoder.layer.{i}.{place}.LayerNorm"
            x = plain_norm(x + h, part.LayerNorm, tuners, name)
    return x, mask


RELEASED = dict(embedding_norm=True, activation="gelu_tanh")


@pytest.mark.parametrize("options", [dict(), RELEASED], ids=["paper", "released code"])
@pytest.mark.parametrize("captions", [CAPTIONS[:1], CAPTIONS])
def test_adapter_equals_its_plain_form(folder, captions, options):
    host = TextHost(folder, tuner=dict(ADAPTER, **options))
    count = sum(p.numel() for p in host.tuners.parameters())
    assert host.tuners["default"].num_trainable() == count
    shake(host.tuners)
    expected, mask = plain_text(host, captions)
    found = host(captions)
    assert_same_text(found["hidden"], expected, mask)
    with host.tuners_off():
        assert (host(captions)["hidden"] - found["hidden"]).abs().max() > 0.1


def test_a_second_one_builds_on_a_finished_one(folder):
    host = TextHost(folder, tuners=dict(first=dict(ADAPTER, frozen=True), second=ADAPTER))
    shake(host.tuners)
    expected, mask = plain_text(host, CAPTIONS)
    assert_same_text(host(CAPTIONS)["hidden"], expected, mask)
    trained = {name.split(".")[1] for name, p in host.named_parameters() if p.requires_grad}
    assert trained == {"second"}


def test_bottlenecks_start_near_the_identity_but_not_at_it(folder):
    host = TextHost(folder, tuner=dict(ADAPTER, bottleneck=64))
    for name, parameter in host.tuners["default"].named_parameters():
        if name.startswith("norm_offsets") or name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert 1e-3 < parameter.abs().max() <= 2e-3, name  # two standard deviations
    with_it = host(CAPTIONS)["hidden"]
    with host.tuners_off():
        difference = (host(CAPTIONS)["hidden"] - with_it).abs().max()
    assert 0 < difference < 1e-3


def test_of_the_norms_those_in_the_layers_train(folder):
    tuner = TextHost(folder, tuner=ADAPTER).tuners["default"]
    names = set(tuner.norm_offsets)
    assert len(names) == 4 * DEPTH
    assert all("__encoder__layer__" in name for name in names)


def test_the_norms_can_be_left_alone(folder):
    tuner = TextHost(folder, tuner=dict(ADAPTER, layer_norms=False)).tuners["default"]
    assert not tuner.norm_offsets
    assert tuner.num_trainable() == sum(p.numel() for p in tuner.parameters())
    assert tuner.num_trainable() == 2 * DEPTH * (2 * WIDTH * 5 + 5 + WIDTH)


def text_seams(depth, width):
    """BERT's seams, and the norms after them."""
    layers = nn.ModuleDict({"layer": nn.ModuleList(nn.Module() for _ in range(depth))})
    for layer in layers["layer"]:
        layer.attention, layer.output = nn.Module(), nn.Module()
        layer.attention.output = nn.Module()
        layer.attention.output.LayerNorm = nn.LayerNorm(width)
        layer.output.LayerNorm = nn.LayerNorm(width)
    names = [f"encoder.{name}" for name, _ in layers.named_parameters()]
    return {
        **{
            kind: [FeatureSeam(i, dict(width=width), kind=kind) for i in range(depth)]
            for kind in ("text_attention_outputs", "text_ffn_outputs")
        },
        "parameters": [
            ParameterSeam(i, name, "text", layers.get_submodule(name[8:].rpartition(".")[0]))
            for i, name in enumerate(names)
        ],
    }


def test_a_host_without_layer_norms_is_told_how_to_go_on():
    seams = text_seams(2, 8)
    for seam in seams["parameters"]:
        seam.group = "image"
    with pytest.raises(ValueError, match="finds no layer norms.*set layer_norms=False"):
        Adapter(seams=seams)
    assert Adapter(seams=seams, layer_norms=False, bottleneck=3).num_trainable() == 4 * 59


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(bottleneck=0), "bottleneck must be a positive integer, got 0"),
        (dict(init_std=0.0), "init_std must be positive, got 0.0"),
    ],
)
def test_settings_under_which_nothing_trains_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adapter(seams=text_seams(1, 8), **options)
