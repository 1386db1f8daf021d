import mmsdpt  # noqa: F401 - first: it makes MMDetection importable without compiled operators

# isort: split
import pytest
import torch
import transformers
from mmdet.models.utils.vlfuse_helper import BertEncoderLayer as MMDetBertEncoderLayer

from mmsdpt.hosts.glip.bert_layer import BertEncoderLayer
from mmsdpt.hosts.grounding.bert_modules import BertConfig
from tests.hosts.mmdet_bert import needs_mmdetections_bert

WIDTH = 32


def make_config(**kwargs) -> BertConfig:
    return BertConfig(
        hidden_size=WIDTH, num_attention_heads=4, intermediate_size=64, vocab_size=10, **kwargs
    )


def make_ours(config: BertConfig) -> BertEncoderLayer:
    return BertEncoderLayer(config).double().eval()


def make_theirs(config: BertConfig) -> MMDetBertEncoderLayer:
    settings = transformers.BertConfig(
        hidden_size=WIDTH,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_act,
    )
    layer = MMDetBertEncoderLayer(
        settings, clamp_min_for_underflow=True, clamp_max_for_overflow=True
    )
    return layer.double().eval()


def make_pair(config: BertConfig) -> tuple[BertEncoderLayer, MMDetBertEncoderLayer]:
    ours, theirs = make_ours(config), make_theirs(config)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def ragged(batch: int, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = torch.randn(batch, length, WIDTH, dtype=torch.float64)
    masks = torch.ones(batch, length, dtype=torch.long)
    for i in range(1, batch):
        masks[i, length - 3 * i :] = 0
    return hidden, masks


def run(layer, hidden: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return layer({"visual": None, "lang": {"hidden": hidden, "masks": masks}})["lang"]["hidden"]


@needs_mmdetections_bert
def test_parameters_have_mmdetections_names_and_shapes():
    ours, theirs = (
        {k: v.shape for k, v in layer.state_dict().items()} for layer in make_pair(make_config())
    )
    assert ours == theirs


@needs_mmdetections_bert
@pytest.mark.filterwarnings("ignore:The `device` argument")
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_and_gradients_equal_mmdetections(batch, activation):
    torch.manual_seed(batch)
    layers = make_pair(make_config(hidden_act=activation))
    hidden, masks = ragged(batch)
    outputs, gradients = [], []
    for layer in layers:
        x = hidden.clone().requires_grad_()
        out = run(layer, x, masks)
        outputs.append(out)
        # The square, so that the gradient is not that of a layer norm's constant sum.
        gradients.append(torch.autograd.grad(out.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-9)
    names = ["input", *(n for n, _ in layers[1].named_parameters())]
    for name, ours, theirs in zip(names, *gradients, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


@needs_mmdetections_bert
@pytest.mark.filterwarnings("ignore:The `device` argument")
def test_equals_mmdetection_where_the_clamps_bind():
    torch.manual_seed(0)
    ours, theirs = make_pair(make_config())
    hidden, masks = ragged(3)
    hidden = hidden * 3e3  # scores and dense outputs far beyond 50000
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.intermediate.dense.weight.mul_(1e3)
        assert (
            ours.attention.self.query(hidden) @ ours.attention.self.key(hidden).mT
        ).abs().max() > 1e6
        torch.testing.assert_close(
            run(ours, hidden, masks), run(theirs, hidden, masks), rtol=0, atol=1e-9
        )


def test_padding_never_influences_a_valid_position():
    torch.manual_seed(0)
    layer = make_ours(make_config())
    hidden, masks = ragged(3)
    full = layer.forward_features(hidden, masks)
    for i, length in enumerate(masks.sum(1).tolist()):
        alone = layer.forward_features(hidden[i : i + 1, :length], masks[i : i + 1, :length])
        torch.testing.assert_close(full[i : i + 1, :length], alone, rtol=0, atol=1e-9)


def test_incoming_dicts_stay_as_they_are():
    layer = make_ours(make_config())
    hidden, masks = ragged(2)
    visual = [torch.zeros(1)]
    lang = {"hidden": hidden, "masks": masks, "embedded": hidden}
    inputs = {"visual": visual, "lang": lang}
    before = hidden.clone()
    out = layer(inputs)
    assert inputs["lang"] is lang and lang["hidden"] is hidden and torch.equal(hidden, before)
    assert (
        out["visual"] is visual
        and out["lang"]["masks"] is masks
        and out["lang"]["embedded"] is hidden
    )
    assert out["lang"]["hidden"].shape == hidden.shape and not torch.equal(
        out["lang"]["hidden"], hidden
    )


def test_dropout_acts_in_training_only():
    layer = make_ours(make_config())
    hidden, masks = ragged(1)
    assert torch.equal(run(layer, hidden, masks), run(layer, hidden, masks))
    layer.train()
    assert not torch.equal(run(layer, hidden, masks), run(layer, hidden, masks))


def test_bfloat16_stays_finite_with_padding():
    layer = BertEncoderLayer(make_config()).bfloat16().eval()
    hidden, masks = ragged(3)
    assert run(layer, hidden.bfloat16() * 1e4, masks).isfinite().all()
