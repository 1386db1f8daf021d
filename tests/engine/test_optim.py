"""The optimizer holds what trains and nothing else."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmsdpt.engine.optim import use_mixed_precision
from mmsdpt.utils.errors import InputError


class Model(nn.Module):
    """Frozen and trained parts, one of them with both in the same layer."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)).requires_grad_(False)
        self.mixed = nn.Linear(2, 2)
        self.mixed.weight.requires_grad_(False)
        self.norm = nn.LayerNorm(2)
        self.tokens = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.norm(self.mixed(self.frozen(x))).sum() + self.tokens.sum()


def build(model, **options):
    return build_optim_wrapper(
        model,
        dict(
            type="OptimWrapper",
            constructor="mmsdpt.TrainableOptimWrapperConstructor",
            **dict(dict(optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.5)), **options),
        ),
    )


def held(wrapper, model):
    names = {id(p): name for name, p in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    return [[names[id(p)] for p in group["params"]] for group in groups]


TRAINED = ["tokens", "mixed.bias", "norm.weight", "norm.bias"]


def test_without_paramwise_settings_one_group_holds_what_trains():
    model = Model()
    assert held(build(model), model) == [TRAINED]


def test_an_optimizer_that_needs_a_closure_is_refused_before_the_first_step():
    with pytest.raises(InputError, match="LBFGS computes the loss several times in a step"):
        build(Model(), optimizer=dict(type="LBFGS"))


def test_with_paramwise_settings_every_trained_parameter_has_its_own():
    model = Model()
    paramwise = dict(norm_decay_mult=0.0, custom_keys=dict(mixed=dict(lr_mult=0.1)))
    wrapper = build(model, paramwise_cfg=paramwise)
    assert held(wrapper, model) == [[name] for name in TRAINED]
    settings = {
        names[0]: (group["lr"], group["weight_decay"])
        for names, group in zip(held(wrapper, model), wrapper.optimizer.param_groups, strict=True)
    }
    assert settings == {
        "tokens": (0.1, 0.5),
        "mixed.bias": (pytest.approx(0.01), 0.5),
        "norm.weight": (0.1, 0.0),
        "norm.bias": (0.1, 0.0),
    }


def test_the_optimizers_state_lists_no_frozen_parameter():
    model = Model()
    wrapper = build(model)
    wrapper.update_params(model(torch.randn(4, 2)))
    assert len(wrapper.state_dict()["state"]) == len(TRAINED)


def test_a_wrapped_model_is_unwrapped():
    model = Model()
    wrapped = nn.DataParallel(model)
    for paramwise in (None, dict(norm_decay_mult=0.0)):
        wrapper = build(wrapped, paramwise_cfg=paramwise)
        assert sum(held(wrapper, model), []) == TRAINED


@pytest.mark.parametrize("paramwise", [None, dict(norm_decay_mult=0.0)])
def test_a_model_in_which_nothing_trains_is_refused(paramwise):
    with pytest.raises(ValueError, match="nothing would train"):
        build(Model().requires_grad_(False), paramwise_cfg=paramwise)


def test_mixed_precision_on_the_cpu_computes_in_bfloat16_and_steps_in_float32():
    """Scales of the loss, as for a GPU, do not matter there."""
    settings = dict(type="AmpOptimWrapper", loss_scale=512.0, optimizer=dict(type="SGD", lr=0.1))
    use_mixed_precision(settings, "cpu")
    model = nn.Linear(4, 4)
    wrapper = build_optim_wrapper(model, settings)
    before = model.weight.clone()
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
        assert out.dtype == torch.bfloat16
        loss = out.float().square().sum()
    wrapper.update_params(loss)
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)


@pytest.mark.parametrize("fused", [False, True])
def test_every_step_gives_parameters_another_version(fused):
    """By which features that are kept know that they are outdated."""
    model = Model()
    optimizer = dict(type="AdamW", lr=0.1, fused=fused)
    wrapper = build_optim_wrapper(
        model,
        dict(constructor="mmsdpt.TrainableOptimWrapperConstructor", optimizer=optimizer),
    )
    before = model.tokens._version
    wrapper.update_params(model(torch.ones(1, 2)))
    assert model.tokens._version > before
