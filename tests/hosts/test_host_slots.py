"""Slots: what may be attached, what a switched-off tuner leaves, copies, and two tuners at once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from mmsdpt.utils.errors import InputError
from tests.hosts.small_glip import (
    TEXTS,
    build_mini_glip,
    losses_of,
    make_images,
    make_samples,
    predictions_of,
)

SIZE = (64, 96)
TOKENS = "tuners.{}.tokens.weight"


def sdpt(num_tokens: int = 3, **kwargs) -> dict:
    return dict(type="mmsdpt.SDPT", num_tokens=num_tokens, **kwargs)


def outputs(model: nn.Module, batch: int = 2) -> dict[str, Tensor]:
    """Everything that a host computes: raw outputs, losses, predictions."""
    images = make_images(batch, SIZE, next(model.parameters()).dtype)
    samples = make_samples(TEXTS[:batch], SIZE)
    with torch.no_grad():
        raw = model(images, samples, mode="tensor")
    found = {f"raw {i} {j}": x for i, part in enumerate(raw) for j, x in enumerate(part)}
    found |= {name: value.detach() for name, value in losses_of(model, images, samples).items()}
    for i, prediction in enumerate(predictions_of(model, images, samples)):
        found |= {
            f"prediction {i} {key}": prediction[key] for key in ("bboxes", "scores", "labels")
        }
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def untouched() -> dict[str, Tensor]:
    """Outputs of the host without any slot."""
    return outputs(build_mini_glip().eval())


# ---------------------------------------------------------------------- attaching


def test_one_tuner_is_short_for_the_default_slot():
    short, long = build_mini_glip(tuner=sdpt()), build_mini_glip(tuners=dict(default=sdpt()))
    assert list(short.state_dict()) == list(long.state_dict())
    assert TOKENS.format("default") in short.state_dict()


def test_both_settings_at_once_are_an_error():
    with pytest.raises(InputError, match="either tuner= .* or tuners="):
        build_mini_glip(tuner=sdpt(), tuners=dict(other=sdpt()))


@pytest.mark.parametrize("name", ["a.b", "", "1st", "a b", "ä", "a-b"])
def test_a_slot_name_that_no_parameter_can_carry_is_an_error(name):
    with pytest.raises(InputError, match="letters, digits and _, got"):
        build_mini_glip(tuners={name: sdpt()})


@pytest.mark.parametrize("name", ["keys", "train", "forward", "training", "update", "_modules"])
def test_a_slot_name_that_pytorch_uses_is_an_error(name):
    with pytest.raises(InputError, match=f"cannot be named '{name}'"):
        build_mini_glip(tuners={name: sdpt()})


def test_a_slot_of_a_base_config_can_be_removed():
    assert list(build_mini_glip(tuners=dict(a=None, b=sdpt())).tuners) == ["b"]
    assert len(build_mini_glip(tuner=None).tuners) == 0


def test_a_host_without_the_seam_is_refused():
    with pytest.raises(ValueError, match="SDPT needs 'fusion' seams.*GLIP has .*early_fuse=True"):
        build_mini_glip(tuner=sdpt(), bbox_head=dict(early_fuse=False))
    host = build_mini_glip(bbox_head=dict(early_fuse=False))
    with pytest.raises(KeyError, match="GLIP has no 'fusion' seams"):
        host.seams()["fusion"]


def test_a_model_in_which_nothing_would_train_is_an_error():
    with pytest.raises(ValueError, match="nothing would train: no parameter of GLIP"):
        build_mini_glip(trainable=[])


def test_a_model_of_frozen_tuners_can_be_built_for_testing():
    model = build_mini_glip(tuner=sdpt(frozen=True)).train()
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.tuners.default.modules())


def test_a_pattern_that_matches_no_parameter_is_an_error():
    with pytest.raises(ValueError, match="trainable='bakbone' matches no parameter of GLIP"):
        build_mini_glip(tuner=sdpt(), trainable=["neck", "bakbone"])
    with pytest.raises(ValueError, match="must be a list of regular expressions"):
        build_mini_glip(tuner=sdpt(), trainable="neck")


def test_patterns_do_not_reach_into_frozen_tuners():
    tuners = dict(old=sdpt(frozen=True), new=sdpt())
    model = build_mini_glip(tuners=tuners, trainable=["log_scale", "."])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("tuners.old")}


# ---------------------------------------------------------------------- switching off


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_a_slot_switched_off_gives_the_untouched_model_bit_for_bit(untouched, mode):
    model = build_mini_glip(tuner=sdpt()).train(mode)
    with_tuner = outputs(model)
    assert not same(with_tuner, untouched), "the tuner must have an effect"
    model.set_slot_enabled("default", False)
    assert same(outputs(model), untouched)
    model.set_slot_enabled("default", True)
    assert same(outputs(model), with_tuner)
    with model.tuners_off():
        assert same(outputs(model), untouched)
    assert same(outputs(model), with_tuner)


def test_tuners_off_restores_what_was_on_even_after_an_error():
    model = build_mini_glip(tuners=dict(a=sdpt(), b=sdpt(), c=sdpt()))
    model.set_slot_enabled("b", False)

    def enabled() -> list[bool]:
        return [tuner.enabled for tuner in model.tuners.values()]

    with pytest.raises(RuntimeError, match="inside"), model.tuners_off():
        assert enabled() == [False, False, False]
        raise RuntimeError("inside")
    assert enabled() == [True, False, True]
    with model.tuners_off("a"):
        assert enabled() == [False, False, True]
        with model.tuners_off("c", "b"):
            assert enabled() == [False, False, False]
        assert enabled() == [False, False, True]
    assert enabled() == [True, False, True]


def test_an_unknown_slot_is_an_error_that_names_the_slots():
    model = build_mini_glip(tuners=dict(a=sdpt(), b=sdpt()))
    with pytest.raises(KeyError, match="no tuner slot 'c'; the slots of this model are: a, b"):
        model.set_slot_enabled("c", False)
    with pytest.raises(KeyError, match="no tuner slot 'c'"), model.tuners_off("c"):
        pass


# ---------------------------------------------------------------------- copies


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copys_tuner_acts_in_the_copy_alone(duplicate):
    model = build_mini_glip(tuner=sdpt()).eval()
    before = outputs(model)  # also fills every cache
    twin = duplicate(model)
    assert same(outputs(twin), before)
    with torch.no_grad():
        twin.tuners.default.tokens.weight.mul_(-2.0)
    changed = outputs(twin)
    assert not same(changed, before)
    assert same(outputs(model), before)
    with twin.tuners_off():
        assert model.tuners.default.enabled
        assert same(outputs(model), before)
    losses = losses_of(twin, make_images(1, SIZE, torch.float32), make_samples(TEXTS[:1], SIZE))
    sum(losses.values()).backward()
    assert twin.tuners.default.tokens.weight.grad.abs().sum() > 0
    assert model.tuners.default.tokens.weight.grad is None


# ---------------------------------------------------------------------- two at once


def test_two_slots_equal_one_with_their_tokens_concatenated():
    stacked = build_mini_glip(tuners=dict(first=sdpt(2), second=sdpt(3))).eval().double()
    single = build_mini_glip(tuner=sdpt(5)).eval().double()
    first, second = (stacked.tuners[slot].tokens.weight for slot in ("first", "second"))
    with torch.no_grad():
        single.tuners.default.tokens.weight.copy_(torch.cat([first, second], dim=1))
    found, wanted = outputs(stacked), outputs(single)
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= 1e-9 * value.abs().max().clamp_min(1), name
    images, samples = make_images(2, SIZE), make_samples(TEXTS[:2], SIZE)
    (whole,) = torch.autograd.grad(
        sum(losses_of(single, images, samples).values()), single.tuners.default.tokens.weight
    )
    parts = torch.autograd.grad(sum(losses_of(stacked, images, samples).values()), [first, second])
    assert (torch.cat(parts, dim=1) - whole).abs().max() <= 1e-9 * whole.abs().max()


def test_switching_off_one_of_two_slots_leaves_the_other(untouched):
    model = build_mini_glip(tuners=dict(a=sdpt(2), b=sdpt(3))).eval()
    alone = build_mini_glip(tuner=sdpt(3)).eval()
    alone.tuners.default.load_state_dict(model.tuners.b.state_dict())
    both = outputs(model)
    with model.tuners_off("a"):
        only_b = outputs(model)
    assert same(only_b, outputs(alone))
    assert not same(only_b, both)
    with model.tuners_off("a", "b"):
        assert same(outputs(model), untouched)


def test_a_frozen_slot_stays_as_it_is_while_another_trains():
    model = build_mini_glip(tuners=dict(old=sdpt(2, frozen=True), new=sdpt(2))).train()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {TOKENS.format("new")}
    assert not model.tuners.old.training and model.tuners.new.training
    before = model.tuners.old.tokens.weight.clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = losses_of(model, make_images(1, SIZE, torch.float32), make_samples(TEXTS[:1], SIZE))
    sum(losses.values()).backward()
    optimizer.step()
    assert torch.equal(model.tuners.old.tokens.weight, before)


def test_what_is_kept_between_predictions_follows_every_change_of_the_tokens():
    """Without gradients, projected tokens and folded keys are kept: never those of an older set,
    even where new ones get the memory of old ones.
    """
    model = build_mini_glip(tuners=dict(a=sdpt(2), b=sdpt(2))).eval()
    fusion = model.bbox_head.head.dyhead_tower[0]
    text = dict(hidden=torch.randn(1, 5, 128), masks=torch.ones(1, 5, dtype=torch.long))
    inputs = dict(visual=[torch.randn(1, 64, 4, 4)], lang=text)
    sets = torch.randn(20, *model.tuners.a.tokens.weight.shape)
    kept = []
    with torch.no_grad():
        for tokens in sets:
            model.tuners.a.tokens.weight.copy_(tokens)
            kept.append(fusion(inputs)["visual"][0])
    for found, tokens in zip(kept, sets, strict=True):
        with torch.no_grad():
            model.tuners.a.tokens.weight.copy_(tokens)
        wanted = fusion(inputs)["visual"][0]
        assert (found - wanted).abs().max() < 1e-5
        assert wanted.requires_grad


@pytest.mark.parametrize("convert", ["double", "bfloat16"])
def test_converting_a_model_forgets_what_was_kept(convert):
    model = build_mini_glip(tuner=sdpt()).eval()
    before = outputs(model, batch=1)
    getattr(model, convert)()
    model.float()
    fresh = build_mini_glip(tuner=sdpt()).eval()
    fresh.load_state_dict(model.state_dict())
    found, wanted = outputs(model, batch=1), outputs(fresh, batch=1)
    assert same(found, wanted)
    assert same(found, before) is (convert == "double")
