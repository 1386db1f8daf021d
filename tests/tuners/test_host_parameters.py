"""Methods that train parameters of the host: which ones, from where, and what stays untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmsdpt.tuners.files import TunerFileError, load_tuner, save_tuner
from tests.hosts.small_glip import TEXTS, build_mini_glip, losses_of, make_images, make_samples
from tests.tuners.contract_hosts import disturb

SIZE = (64, 96)
OUTPUTS = {
    "bbox_head.head.bbox_pred.weight",
    "bbox_head.head.bbox_pred.bias",
    "bbox_head.head.centerness.weight",
    "bbox_head.head.centerness.bias",
    "bbox_head.head.dot_product_projection_text.weight",
    "bbox_head.head.dot_product_projection_text.bias",
    "bbox_head.head.log_scale",
    "bbox_head.head.bias_lang",
    "bbox_head.head.bias0",
}


def build(method: str, **kwargs) -> nn.Module:
    return build_mini_glip(tuner=dict(type=f"mmsdpt.{method}", **kwargs))


def chosen(model: nn.Module) -> set[str]:
    return {seam.name for seam in model.tuners.default.chosen}


def host_names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if not name.startswith("tuners.")}


def test_linear_probing_trains_the_prediction_layers_alone():
    assert chosen(build("LinearProbing")) == OUTPUTS


def test_full_fine_tuning_trains_everything():
    model = build("FullFineTuning")
    assert chosen(model) == host_names(model)


def test_bitfit_trains_bias_terms_and_not_what_merely_sounds_like_one():
    model = build("BitFit")
    names = host_names(model)
    assert chosen(model) == {name for name in names if name.endswith(".bias")}
    for trap in ("relative_position_bias_table", "bias_lang", "bias0"):
        assert any(name.endswith(trap) for name in names)
        assert not any(name.endswith(trap) for name in chosen(model))
    assert sum(model.tuners.default.breakdown().values()) == model.tuners.default.num_trainable()


def test_bitfit_can_be_limited_to_parts_of_the_host():
    image = chosen(build("BitFit", groups=["image"]))
    assert image and all(name.startswith("backbone.") for name in image)
    with pytest.raises(ValueError, match="groups must be some of image, .*got \\['encoder'\\]"):
        build("BitFit", groups=["encoder"])


def test_bitfit_on_the_fusion_layers_takes_six_linears_and_two_norms_each():
    def leaves(model: nn.Module) -> set[str]:
        return {name.rsplit(".", 2)[1] for name in chosen(model)}

    linears = {f"{part}_{side}_proj" for part in ("values", "out") for side in "vl"}
    linears |= {"v_proj", "l_proj"}
    assert leaves(build("BitFitXMHA")) == linears | {"layer_norm_v", "layer_norm_l"}
    assert leaves(build("BitFitXMHA", layer_norms=False)) == linears


def test_copies_start_from_the_weights_that_are_loaded_after_building():
    model = build("BitFitXMHA")
    names = host_names(model)
    base = {n: torch.randn_like(v) for n, v in model.state_dict().items() if n in names}
    model.load_state_dict(base, strict=False)
    model.tuners.default.prepare()
    for seam in model.tuners.default.chosen:
        assert torch.equal(model.tuners.default._value(seam, None), base[seam.name])


def test_copies_from_a_file_are_not_overwritten_at_the_first_pass():
    model = build("BitFitXMHA")
    tuner = model.tuners.default
    state = {name: torch.full_like(value, 7.0) for name, value in tuner.state_dict().items()}
    tuner.load_state_dict(state)
    tuner.prepare()
    assert all((value == 7.0).all() for value in tuner.values.values())


def test_training_copies_equals_training_the_parameters_themselves():
    """The same three steps on the host and on copies, in float64, without noise."""
    kwargs = dict(backbone=dict(drop_path_rate=0.0))
    plain = build_mini_glip(trainable=[r"dyhead_tower\.0\.b_attn.*\.bias"], **kwargs)
    tuned = build_mini_glip(tuner=dict(type="mmsdpt.BitFitXMHA"), **kwargs)
    tuned.load_state_dict(plain.state_dict(), strict=False)
    one_layer = [p for n, p in tuned.named_parameters() if "dyhead_tower__0__" in n]
    for model, trained in (
        (plain, [p for p in plain.parameters() if p.requires_grad]),
        (tuned, one_layer),
    ):
        model.double().eval()
        optimizer = torch.optim.SGD(trained, lr=0.1)
        for _ in range(3):
            images = make_images(2, SIZE, torch.float64)
            losses = losses_of(model, images, make_samples(TEXTS[:2], SIZE))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    tuner = tuned.tuners.default
    moved = 0
    for seam in tuner.chosen:
        if "dyhead_tower.0." in seam.name:
            wanted = plain.get_parameter(seam.name)
            torch.testing.assert_close(tuner._value(seam, None), wanted, rtol=1e-9, atol=1e-12)
            moved += not torch.equal(wanted, seam.value())
    assert moved == 8


def test_two_methods_that_replace_the_same_parameter_are_refused():
    tuners = dict(a=dict(type="mmsdpt.BitFit"), b=dict(type="mmsdpt.BitFitXMHA"))
    with pytest.raises(ValueError, match="BitFitXMHA and BitFit both replace the parameter bbox"):
        build_mini_glip(tuners=tuners)


@pytest.mark.parametrize("later", ["SSF", "LoRA"])
def test_a_stack_is_merged_in_the_order_in_which_it_acts_and_in_no_other(later):
    """Full fine-tuning replaces what the other one then changes, whatever their slots."""
    tuners = dict(a=dict(type=f"mmsdpt.{later}"), b=dict(type="mmsdpt.FullFineTuning"))
    model = build_mini_glip(tuners=tuners).double().train()
    a, b = model.tuners.a, model.tuners.b
    a.prepare(), b.prepare()
    disturb(a), disturb(b)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def outputs(model):
        with torch.no_grad():
            found = model.eval()(make_images(1, SIZE), make_samples(TEXTS[:1], SIZE), mode="tensor")
        return [level for part in found for level in part]

    def assert_same(model):
        for found, one in zip(outputs(model), wanted, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-9, atol=1e-9)

    wanted, plain = outputs(model), build_mini_glip().double()
    plain.load_state_dict(model.merged_weights())
    assert_same(plain)
    with pytest.raises(ValueError, match=f"FullFineTuning acts on the .* before {later}: merge"):
        a.merge()
    with model.tuners_off("b"):
        alone = outputs(model)
        a.merge()
        assert all(map(torch.allclose, outputs(model), alone))
        with pytest.raises(ValueError, match=f"{later} is merged, .* after FullFine.*: unmerge"):
            b.merge()
        a.unmerge()
    b.merge()
    assert_same(model)
    a.merge()
    assert_same(model)
    with pytest.raises(ValueError, match=f"{later} is merged, .* after FullFineTuning: unmerge"):
        b.unmerge()
    a.unmerge()
    assert_same(model)
    b.unmerge()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_merged_tuner_is_not_applied_twice_or_lost():
    tuners = dict(a=dict(type="mmsdpt.LoRA"), b=dict(type="mmsdpt.FullFineTuning"))
    model = build_mini_glip(tuners=tuners)
    lora = model.tuners.a
    model.set_slot_enabled("b", False)
    lora.merge()
    with pytest.raises(ValueError, match="LoRA is merged.* would act twice; unmerge it first"):
        model.set_slot_enabled("a", True)
    with pytest.raises(ValueError, match="LoRA is merged.* after FullFineTuning: unmerge LoRA"):
        model.set_slot_enabled("b", True)
    with model.tuners_off():
        assert lora.merged
    assert not lora.enabled
    lora.unmerge()
    model.set_slot_enabled("b", True)
    assert lora.enabled and model.tuners.b.enabled


def test_a_merged_slot_is_neither_saved_nor_loaded(tmp_path):
    model = build("LoRA")
    file = save_tuner(model, tmp_path / "tuner.safetensors")
    model.tuners.default.merge()
    with pytest.raises(TunerFileError, match="'default' is merged .* cannot be saved: call unm"):
        save_tuner(model, tmp_path / "other.safetensors")
    with pytest.raises(TunerFileError, match="'default' is merged .* cannot be loaded: call unm"):
        load_tuner(model, file)
    model.tuners.default.unmerge()
    load_tuner(model, save_tuner(model, tmp_path / "other.safetensors"))


def test_the_hosts_own_parameters_are_back_after_every_pass():
    model = build("FullFineTuning")
    own = dict(model.named_parameters())
    losses_of(model, make_images(1, SIZE, torch.float32), make_samples(TEXTS[:1], SIZE))
    with pytest.raises(RuntimeError):  # five channels
        model(torch.zeros(1, 5, *SIZE), make_samples(TEXTS[:1], SIZE), mode="loss")
    assert all(dict(model.named_parameters())[name] is value for name, value in own.items())


def test_recomputed_activations_see_the_values_of_the_forward_pass():
    """The backward pass comes when the host's own parameters are back."""
    grads = []
    for use_checkpoint in (False, True):
        model = build_mini_glip(
            tuner=dict(type="mmsdpt.LoRAXMHA", rank=2),
            bbox_head=dict(use_checkpoint=use_checkpoint),
        )
        model.double().eval()
        for up in model.tuners.default.up:
            nn.init.normal_(up, generator=torch.Generator().manual_seed(0))
        losses = losses_of(model, make_images(1, SIZE), make_samples(TEXTS[:1], SIZE))
        sum(losses.values()).backward()
        grads.append([p.grad for p in model.tuners.default.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9) and a.any() for a, b in zip(*grads, strict=True))
