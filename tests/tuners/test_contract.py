"""What every method promises. A method is under this contract as soon as it is registered: nothing
here names one, and its properties are asked of its class.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterator

import broken_methods as broken
import pytest
import torch
from contract_cases import (
    BASE_LOSSES,
    Case,
    Host,
    all_outputs,
    build_mini_glip,
    build_on_seams,
    config_of,
    different,
    disturb,
    losses_of,
    make_batch,
    meta_glip_l,
    raw_outputs,
    registered,
    registered_methods,
    relative_error,
    rewritten,
    tensors_of,
    total,
    trainable,
)
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsdpt.hosts.seams import ForwardState, SeamMap
from mmsdpt.tuners.files import TunerFileError, load_tuner, save_tuner

METHODS = registered_methods()


@pytest.fixture(scope="module", autouse=True)
def _short_beginnings() -> Iterator[None]:
    """At the start of every run MMEngine asks compilers and git about the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_log_env", lambda self, env_cfg: None)
        yield


@pytest.fixture(scope="module")
def host() -> Host:
    return Host()


@pytest.fixture(scope="module")
def small_host() -> Host:
    """With one fusion layer, where passes are many."""
    return Host(blocks=1)


@pytest.fixture(scope="module", params=METHODS)
def case(request, host, tmp_path_factory) -> Case:
    """A method; the scope makes pytest finish with one before the next."""
    return Case(METHODS[request.param], host, tmp_path_factory.mktemp(request.param))


# ---------------------------------------------------------------------- training


def test_exactly_the_parameters_of_the_tuner_train(case):
    names = {name for name, _ in case.trained.named_parameters()}
    assert case.training.trains == {name for name in names if name.startswith("tuners.default.")}
    assert case.training.trains


def test_frozen_tensors_stay_bit_for_bit(case):
    """Over three steps on a batch of three, and in a run over one image."""
    assert case.training.frozen_tensors_that_changed() == []
    assert case.run.frozen_tensors_that_changed == []


def test_every_trainable_tensor_gets_a_gradient_within_three_steps(case):
    for batch_size, watch in ((3, case.training), (1, case.run.watch)):
        assert watch.tensors_without_gradient() == [], batch_size


def test_the_loss_falls_on_one_image(case):
    """The loss that the host has without the method, without dropout, before and after a run."""
    before, after = case.untrained[1], case.run.after
    assert sum(after[name] for name in BASE_LOSSES) < sum(before[name] for name in BASE_LOSSES)


def test_a_resumed_run_equals_the_straight_run_bit_for_bit(case):
    first = 2 * (case.epochs - 1)
    assert case.resumed.losses == {i: case.run.losses[i] for i in (first, first + 1)}
    assert different(case.resumed.state, case.run.state) == []


def test_bf16_autocast_stays_finite(case):
    model = case.trained.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, make_batch(3, size=32))
    total(losses).backward()
    found = {**losses, **{name: p.grad for name, p in trainable(model).items()}}
    model.zero_grad()
    model.eval()
    assert [name for name, value in found.items() if not value.isfinite().all()] == []


# ---------------------------------------------------------------------- the base


def test_the_untrained_method_equals_the_base_bit_for_bit_where_it_says_so(case):
    for count, found in case.untrained.items():
        base = {name: v for name, v in case.host.outputs[count].items() if name in found}
        found = {name: found[name] for name in base}  # a method may have losses of its own
        assert (different(found, base) == []) is case.method.zero_init


def test_switched_off_equals_the_base_bit_for_bit(case):
    """Raw outputs, losses and predictions of a trained model; switched on again it acts again."""
    base, on = case.host.outputs[3], case.outputs
    assert different(on, {name: base[name] for name in on})
    case.trained.set_slot_enabled("default", False)
    for count in (1, 3):
        assert (
            different(all_outputs(case.trained, make_batch(count)), case.host.outputs[count]) == []
        )
    case.trained.set_slot_enabled("default", True)
    assert different(raw_outputs(case.trained, make_batch(3)), on) == []


def test_the_image_features_depend_on_the_text_only_where_the_method_says_so(case):
    images, samples = make_batch(1)

    def pyramid(*names: str) -> dict[str, Tensor]:
        caption, class_map = case.trained.class_prompt(names)
        state = ForwardState(images, [caption], [class_map], samples)
        with torch.no_grad():
            levels, _ = case.trained.encode(images, state)
        return {str(i): level for i, level in enumerate(levels)}

    changed = different(pyramid("red circle"), pyramid("raccoon", "striped blue star"))
    assert bool(changed) is case.method.image_depends_on_text


def test_an_image_gives_the_same_alone_and_beside_others_with_longer_captions(case):
    """Together as in training, alone as in testing, where what cannot change is kept."""
    model = copy.deepcopy(case.trained).double()
    together = raw_outputs(model, make_batch(3, dtype=torch.float64), training=True)
    alone = raw_outputs(model, make_batch(1, first=1, dtype=torch.float64))
    # Logits are as wide as the longest caption of the batch.
    found = {name: together[name][1:2, ..., : value.shape[-1]] for name, value in alone.items()}
    assert relative_error(found, alone) < 1e-9


# ---------------------------------------------------------------------- files and copies


def test_a_saved_tuner_gives_a_fresh_model_the_same_output_bit_for_bit(case):
    path, wanted = save_tuner(case.trained, case.folder / "tuner.safetensors"), case.outputs
    with case.attached(seed=1) as fresh:
        load_tuner(fresh, path)
        assert different(raw_outputs(fresh, make_batch(3)), wanted) == []


def test_a_tuner_saved_before_it_was_used_gives_the_same_output_bit_for_bit(case):
    path, wanted = case.folder / "unused.safetensors", case.untrained[3]
    with case.attached() as model:
        save_tuner(model, path)
    with case.attached(seed=1) as fresh:
        load_tuner(fresh, path)
        assert different(raw_outputs(fresh, make_batch(3)), wanted) == []


def test_a_pickled_model_comes_back(case):
    twin = pickle.loads(pickle.dumps(case.trained))
    assert different(raw_outputs(twin, make_batch(3)), case.outputs) == []


def test_a_file_that_does_not_fit_is_refused_by_what_differs_and_changes_nothing(case):
    path = save_tuner(case.trained, case.folder / "whole.safetensors")
    tuner, name = case.trained.tuners["default"], case.name
    tensors = tensors_of(tuner)
    first = next(iter(tensors))
    larger = {**tensors, first: tensors[first].new_zeros(*tensors[first].shape, 2)}
    renamed = {f"{first}_" if key == first else key: value for key, value in tensors.items()}
    nan = {**tensors, first: torch.full_like(tensors[first], torch.nan)}
    config = json.loads(json.dumps(tuner.config()))
    refused = [
        (dict(method="Other"), f"holds method 'Other', but slot 'default' .* has '{name}'"),
        *(
            (dict(config={**config, key: "?"}), f"other settings of {name}: {key}: . in the file")
            for key in (*config, "another")
        ),
        (dict(base="0" * 64), "was trained on other base weights"),
        (dict(tensors=larger), rf"other names or shapes: {first}: \(.*, 2\) in the file"),
        (dict(tensors=renamed), f"other names or shapes: {first}: absent in the file"),
        (dict(tensors=nan), f"values that are not finite in: {first}"),
        (dict(cut=20), "not a readable safetensors file"),
    ]
    with case.attached(seed=1) as model:
        model.tuners["default"].prepare()
        before = tensors_of(model)
        for changes, words in refused:
            changed = rewritten(path, **changes)
            with pytest.raises(TunerFileError, match=words) as caught:
                load_tuner(model, changed)
            assert str(changed) in str(caught.value) and "\n" not in str(caught.value)
        assert different(tensors_of(model), before) == []


# ---------------------------------------------------------------------- counts


def test_the_closed_formula_counts_what_trains(case):
    counted = sum(p.numel() for p in trainable(case.trained).values())
    assert case.trained.tuners["default"].num_trainable() == counted


@pytest.fixture(scope="module")
def glip_l(tmp_path_factory) -> nn.Module:
    return meta_glip_l(tmp_path_factory.mktemp("bert_base"))


def test_the_closed_formula_counts_what_trains_on_glip_l(case, glip_l):
    with torch.device("meta"), build_on_seams(case.method, glip_l.seams()) as tuner:
        assert all(p.is_meta for p in tuner.parameters())
        assert tuner.num_trainable() == sum(p.numel() for p in tuner.parameters())


# ---------------------------------------------------------------------- seams


def test_a_host_without_a_needed_seam_is_refused_by_name(case):
    seams, name = case.host.model.seams(), case.name
    assert set(case.method.needs) <= set(seams), "the defaults do not fit the mini host"
    for kind in case.method.needs:
        rest = {other: points for other, points in seams.items() if other != kind}
        for left in (rest, {}):
            words = f"^{name} needs '{kind if left else '.*'}' seams, and Other has (.*, )?"
            with pytest.raises(ValueError, match=words) as caught:
                with build_on_seams(case.method, SeamMap("Other", left)):
                    pass
            assert "\n" not in str(caught.value)


def test_the_method_works_with_the_seams_that_it_names(case):
    seams = case.host.model.seams()
    needed = SeamMap("Other", {kind: seams[kind] for kind in case.method.needs})
    with build_on_seams(case.method, needed) as tuner:
        assert tuner.num_trainable() > 0


@pytest.fixture(scope="module")
def plain_host() -> nn.Module:
    """The toolbox's own image encoder, and a head that does not fuse early."""
    changes = {"backbone.type": "mmdet.SwinTransformer", "bbox_head.early_fuse": False}
    return build_mini_glip(**changes)


def test_a_host_of_the_toolboxs_own_parts_is_refused_with_what_to_use_instead(case, plain_host):
    seams = plain_host.seams()
    if set(case.method.needs) <= set(seams):
        with build_on_seams(case.method, seams):
            return
    words = f"{case.name} needs '.*' seams, and GLIP has .*; .*(must be|only with)"
    with pytest.raises(ValueError, match=words), build_on_seams(case.method, seams):
        pass


# ---------------------------------------------------------------------- merging


def test_merging_keeps_the_output_and_unmerging_gives_the_base_back(case):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        model = copy.deepcopy(case.trained).to(dtype)
        tuner, batch = model.tuners["default"], make_batch(3, dtype=dtype)
        if not case.method.mergeable:
            with pytest.raises(ValueError, match=f"^{case.name} cannot be merged"):
                tuner.merge()
            with pytest.raises(ValueError, match="is not merged"):
                tuner.unmerge()
            return
        before, base = raw_outputs(model, batch), tensors_of(model)
        tuner.merge()
        merged = tensors_of(model)
        assert different(merged, base), "merging must change the weights of the host"
        assert all(name not in trainable(model) for name in different(merged, base))
        with model.tuners_off():
            assert relative_error(raw_outputs(model, batch), before) < tolerance
        assert relative_error(raw_outputs(model, batch), before) < tolerance
        tuner.unmerge()
        assert relative_error(tensors_of(model), base) < tolerance
        assert relative_error(raw_outputs(model, batch), before) < tolerance


# ---------------------------------------------------------------------- stacking


def test_a_frozen_tuner_acts_without_dropout_and_takes_no_gradient(case):
    state, wanted = tensors_of(case.trained.tuners["default"]), case.outputs
    with case.attached(seed=1, frozen=True) as model:
        model.tuners["default"].load_state_dict(state)
        model.train()
        assert trainable(model) == {}
        assert not any(module.training for module in model.tuners["default"].modules())
        assert different(raw_outputs(model, make_batch(3)), wanted) == []


@pytest.fixture(scope="module")
def alone(small_host) -> Callable[[str], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """By name, the state of a tuner away from its start, and what a host with it alone gives."""

    @functools.cache
    def of(name: str):
        with small_host.attached(only=config_of(METHODS[name])) as model:
            disturb(model.tuners["only"])
            return tensors_of(model.tuners["only"]), raw_outputs(model, make_batch(1))

    return of


@pytest.mark.parametrize(
    ("first", "second"), [*itertools.combinations_with_replacement(METHODS, 2)]
)
def test_two_methods_stack_or_say_why_they_do_not(small_host, alone, first, second):
    (state_a, alone_a), (state_b, alone_b) = alone(first), alone(second)
    try:
        with small_host.attached(
            a=config_of(METHODS[first]), b=config_of(METHODS[second])
        ) as model:
            model.tuners["a"].load_state_dict(state_a)
            model.tuners["b"].load_state_dict(state_b)
            found = raw_outputs(model, make_batch(1))
    except ValueError as error:
        sentence = str(error)
        assert sentence.endswith(", so they cannot be stacked: remove one of them")
        assert {first, second} <= {*re.findall(r"\w+", sentence)}
        return
    assert all(value.isfinite().all() for value in found.values())
    assert different(found, alone_a) and different(found, alone_b), "one of them has no effect"


# ---------------------------------------------------------------------- the suite itself


_BASE = test_the_untrained_method_equals_the_base_bit_for_bit_where_it_says_so
_SEAMS = test_the_method_works_with_the_seams_that_it_names
_IMAGES = test_the_image_features_depend_on_the_text_only_where_the_method_says_so
_BATCH = test_an_image_gives_the_same_alone_and_beside_others_with_longer_captions
_PICKLE_ERRORS = (AttributeError, pickle.PicklingError)
BROKEN = {
    broken.TrainsTheHost: (test_frozen_tensors_stay_bit_for_bit, AssertionError),
    broken.HasAnIdleParameter: (
        test_every_trainable_tensor_gets_a_gradient_within_three_steps,
        AssertionError,
    ),
    broken.Climbs: (test_the_loss_falls_on_one_image, AssertionError),
    broken.CountsStepsAside: (
        test_a_resumed_run_equals_the_straight_run_bit_for_bit,
        AssertionError,
    ),
    broken.OverflowsInBf16: (test_bf16_autocast_stays_finite, AssertionError),
    broken.ClaimsToStartAtTheBase: (_BASE, AssertionError),
    broken.StartsAtTheBaseWithoutSaying: (_BASE, AssertionError),
    broken.StaysWhenSwitchedOff: (test_switched_off_equals_the_base_bit_for_bit, AssertionError),
    broken.ClaimsThatImagesDependOnText: (_IMAGES, AssertionError),
    broken.MixesTheBatch: (_BATCH, AssertionError),
    broken.KeepsAStateAside: (
        test_a_saved_tuner_gives_a_fresh_model_the_same_output_bit_for_bit,
        AssertionError,
    ),
    broken.ConnectsALambda: (test_a_pickled_model_comes_back, _PICKLE_ERRORS),
    broken.Miscounts: (test_the_closed_formula_counts_what_trains, AssertionError),
    broken.NeedsMoreThanItSays: (_SEAMS, KeyError),
    broken.NeedsNothing: (_SEAMS, KeyError),
    broken.MergesNothing: (
        test_merging_keeps_the_output_and_unmerging_gives_the_base_back,
        AssertionError,
    ),
    broken.DropsOutWhenFrozen: (
        test_a_frozen_tuner_acts_without_dropout_and_takes_no_gradient,
        AssertionError,
    ),
}


def test_a_newly_registered_method_is_in_the_suite():
    assert "Shift" not in registered_methods()
    with registered(broken.Shift):
        assert registered_methods() == {**METHODS, "Shift": broken.Shift}
    assert registered_methods() == METHODS
    assert "Tuner" not in METHODS and len(METHODS) > 0


def test_a_method_that_keeps_every_promise_passes(small_host, tmp_path):
    with registered(broken.Shift):
        case = Case(broken.Shift, small_host, tmp_path)
        for check in dict.fromkeys(check for check, _ in BROKEN.values()):
            check(case)


@pytest.mark.parametrize("method", BROKEN)
def test_a_method_that_breaks_a_promise_fails(method, small_host, tmp_path):
    check, error = BROKEN[method]
    with registered(method), pytest.raises(error):
        check(Case(method, small_host, tmp_path))


def test_a_count_that_is_right_on_the_mini_host_alone_fails(small_host, glip_l, tmp_path):
    with registered(broken.CountsForOneHost):
        case = Case(broken.CountsForOneHost, small_host, tmp_path)
        test_the_closed_formula_counts_what_trains(case)
        with pytest.raises(AssertionError):
            test_the_closed_formula_counts_what_trains_on_glip_l(case, glip_l)
