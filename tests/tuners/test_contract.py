"""What every method promises, on every host that has the seams it needs. A method is under this
contract as soon as it is registered: nothing here names one, and its properties are asked of its
class. What hosts that classify promise beside this is in test_clip_contract.py.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

import tests.tuners.broken_methods as broken
from mmsdpt.hosts.seams import SeamMap
from mmsdpt.tuners.files import TunerFileError, load_tuner, save_tuner
from tests.oracles.trainable import expected_count
from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_glip import GLIPHost
from tests.tuners.contract_grounding_dino import GroundingDINOHost
from tests.tuners.contract_hosts import (
    Host,
    Outputs,
    different,
    disturb,
    losses_of,
    methods_of,
    registered,
    registered_methods,
    relative_error,
    tensors_of,
    total,
    trainable,
)
from tests.tuners.contract_runs import Case, rewritten

HOSTS: dict[str, type[Host]] = {host.name: host for host in (GLIPHost, GroundingDINOHost, CLIPHost)}
METHODS = registered_methods()


# GLIP shows what a method does in a detector; on Grounding DINO, the slower one, only those are in
# every run that act where it differs.
OFTEN = {"GroundingDINO": {"SDPT", "GLIPPrompt"}}
# Every pair of methods is tried, but in every run only a method beside itself and beside these.
OFTEN_STACKED = {"SDPT", "MuDPT"}
# In every run these also train together: what they share lies between and after the encoders.
OFTEN_TRAINED = ({"Apollo", "DPT"}, {"Apollo", "PMF"}, {"DPT", "PMF"})


def _case(host: str, *methods: str, often: bool = True):
    often = often and set(methods) <= OFTEN.get(host, METHODS.keys())
    marks = () if often else pytest.mark.slow
    return pytest.param((host, *methods), marks=marks, id="-".join((host, *methods)))


CASES = [_case(host, name) for host in HOSTS for name in methods_of(HOSTS[host])]
PAIRS = [
    _case(host, one, other, often=one == other or bool({one, other} & OFTEN_STACKED))
    for host in HOSTS
    for one, other in itertools.combinations_with_replacement(methods_of(HOSTS[host]), 2)
]
TRAINED_PAIRS = [
    _case(host, one, other, often={one, other} in OFTEN_TRAINED)
    for host in HOSTS
    for one, other in itertools.combinations(methods_of(HOSTS[host]), 2)
]

pytestmark = pytest.mark.usefixtures("short_beginnings")


@pytest.fixture(scope="module")
def host_of(tmp_path_factory) -> Callable[..., Host]:
    """Hosts by name, each built once."""

    @functools.cache
    def of(name: str, small: bool = False) -> Host:
        return HOSTS[name].build(tmp_path_factory.mktemp(name), small)

    return of


@pytest.fixture(scope="module")
def small_host(host_of) -> Host:
    """For the tests of this suite."""
    return host_of("GLIP", small=True)


@pytest.fixture(scope="module", params=CASES)
def case(request, host_of, tmp_path_factory) -> Case:
    """A method on a host; the scope makes pytest finish with one before the next."""
    host, name = request.param
    return Case(METHODS[name], host_of(host), tmp_path_factory.mktemp(name))


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
    names = case.host.base_losses
    assert sum(after[name] for name in names) < sum(before[name] for name in names)


def test_a_resumed_run_equals_the_straight_run_bit_for_bit(case):
    first = 2 * (case.epochs - 1)
    assert case.resumed.losses == {i: case.run.losses[i] for i in (first, first + 1)}
    assert different(case.resumed.state, case.run.state) == []


def test_autocast_stays_finite_and_leaves_the_parameters_in_float32(case):
    model, batch = case.trained.train(), case.host.batch(3, small=True)
    for dtype in case.host.autocasts:
        with torch.autocast("cpu", dtype=dtype):
            losses = losses_of(model, batch)
        total(losses).backward()
        found = {**losses, **{name: p.grad for name, p in trainable(model).items()}}
        assert [n for n, value in found.items() if not value.isfinite().all()] == [], dtype
        assert {value.dtype for value in found.values()} == {torch.float32}, dtype
        model.zero_grad()
    model.eval()


def test_losses_in_bfloat16_are_those_of_float32(case):
    """Within a thousandth where weights are trained ones."""
    model, batch = case.trained, case.host.batch(3)
    with torch.no_grad():
        expected = total(losses_of(model, batch))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = total(losses_of(model, batch))
    assert 0 < abs(found - expected) < case.host.bfloat16_error * expected


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
        off = case.host.all_outputs(case.trained, case.host.batch(count))
        assert different(off, case.host.outputs[count]) == []
    case.trained.set_slot_enabled("default", True)
    assert different(case.raw(case.trained), on) == []


def test_the_image_features_depend_on_the_text_only_where_the_method_says_so(case):
    one = case.host.image_features(case.trained, ("red circle", "raccoon"))
    other = case.host.image_features(case.trained, ("jellyfish", "striped blue star"))
    assert bool(different(one, other)) is case.method.image_depends_on_text


def test_an_image_gives_the_same_alone_and_beside_others_with_longer_captions(case):
    """Together as in training, alone as in testing, where what cannot change is kept."""
    model = copy.deepcopy(case.trained).double()
    together = case.raw(model, case.host.batch(3, dtype=torch.float64), training=True)
    alone = case.raw(model, case.host.batch(1, first=1, dtype=torch.float64))
    assert relative_error(case.host.of_image(together, 1, alone), alone) < 1e-9


# ---------------------------------------------------------------------- files and copies


def test_a_saved_tuner_gives_a_fresh_model_the_same_output_bit_for_bit(case):
    path, wanted = save_tuner(case.trained, case.folder / "tuner.safetensors"), case.outputs
    with case.attached(seed=1) as fresh:
        load_tuner(fresh, path)
        assert different(case.raw(fresh), wanted) == []


def test_a_tuner_saved_before_it_was_used_gives_the_same_output_bit_for_bit(case):
    path, wanted = case.folder / "unused.safetensors", case.untrained[3]
    with case.attached() as model:
        save_tuner(model, path)
    with case.attached(seed=1) as fresh:
        load_tuner(fresh, path)
        assert different(case.raw(fresh), wanted) == []


def test_a_pickled_model_comes_back(case):
    twin = pickle.loads(pickle.dumps(case.trained))
    assert different(case.raw(twin), case.outputs) == []


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
        (dict(tensors=larger), rf"other names or shapes: {first}: \(.*2,?\) in the file"),
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
    tuner = case.trained.tuners["default"]
    assert tuner.num_trainable() == expected_count(tuner) == counted


def test_the_closed_formula_counts_what_trains_on_the_large_host(case, large):
    seams = large(case.host.paper).seams()
    with torch.device("meta"), case.host.on_seams(case.method, seams) as tuner:
        assert all(p.is_meta for p in tuner.parameters())
        count = sum(p.numel() for p in tuner.parameters())
        assert tuner.num_trainable() == expected_count(tuner) == count


# ---------------------------------------------------------------------- seams


def test_a_host_without_a_needed_seam_is_refused_by_name(case):
    seams, name = case.host.model.seams(), case.name
    assert set(case.method.needs) <= set(seams), "the defaults do not fit the mini host"
    for kind in case.method.needs:
        rest = {other: points for other, points in seams.items() if other != kind}
        for left in (rest, {}):
            words = f"^{name} needs '{kind if left else '.*'}' seams, and Other has (.*, )?"
            with pytest.raises(ValueError, match=words) as caught:
                with case.host.on_seams(case.method, SeamMap("Other", left)):
                    pass
            assert "\n" not in str(caught.value)


def test_the_method_works_with_the_seams_that_it_names(case):
    seams = case.host.model.seams()
    needed = SeamMap("Other", {kind: seams[kind] for kind in case.method.needs})
    with case.host.on_seams(case.method, needed) as tuner:
        assert tuner.num_trainable() > 0


@pytest.fixture(scope="module")
def plain(host_of) -> Callable[[str], nn.Module]:
    return functools.cache(lambda name: HOSTS[name].plain())


def test_a_host_of_the_toolboxs_own_parts_is_refused_with_what_to_use_instead(case, plain):
    host, name = case.host, case.name
    seams = plain(host.name).seams()
    words = f"{name} needs '.*' seams, and {host.name} has .*; .*{host.plain_hint}"
    if set(case.method.needs) <= set(seams):
        words = f"^{name} finds "  # it looks for certain parameters
        try:
            with host.on_seams(case.method, seams):
                return
        except ValueError as error:
            assert re.match(words, str(error))
            return
    with pytest.raises(ValueError, match=words), host.on_seams(case.method, seams):
        pass


# ---------------------------------------------------------------------- merging


def test_merging_keeps_the_output_and_unmerging_gives_the_base_back(case):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        model = copy.deepcopy(case.trained).to(dtype)
        tuner, batch = model.tuners["default"], case.host.batch(3, dtype=dtype)
        if not case.method.mergeable:
            with pytest.raises(ValueError, match=f"^{case.name} cannot be merged"):
                tuner.merge()
            with pytest.raises(ValueError, match="is not merged"):
                tuner.unmerge()
            return
        before, base = case.raw(model, batch), tensors_of(model)
        tuner.merge()
        merged = tensors_of(model)
        assert different(merged, base), "merging must change the weights of the host"
        assert all(name not in trainable(model) for name in different(merged, base))
        with model.tuners_off():
            assert relative_error(case.raw(model, batch), before) < tolerance
        assert relative_error(case.raw(model, batch), before) < tolerance
        tuner.unmerge()
        assert relative_error(tensors_of(model), base) < tolerance
        assert relative_error(case.raw(model, batch), before) < tolerance


# ---------------------------------------------------------------------- stacking


def test_a_frozen_tuner_acts_without_dropout_and_takes_no_gradient(case):
    state, wanted = tensors_of(case.trained.tuners["default"]), case.outputs
    with case.attached(seed=1, frozen=True) as model:
        model.tuners["default"].load_state_dict(state)
        model.train()
        assert trainable(model) == {}
        assert not any(module.training for module in model.tuners["default"].modules())
        assert different(case.raw(model), wanted) == []


@pytest.fixture(scope="module")
def alone(host_of) -> Callable[[str, str], tuple[Outputs, Outputs]]:
    """By host and method, the state of a tuner away from its start, and what a host with it alone
    gives.
    """

    @functools.cache
    def of(host_name: str, name: str):
        host = host_of(host_name, small=True)
        with host.attached(only=host.config_of(METHODS[name])) as model:
            disturb(model.tuners["only"])
            return tensors_of(model.tuners["only"]), host.raw_outputs(model, host.batch(1))

    return of


@pytest.mark.parametrize("pair", PAIRS)
def test_two_methods_stack_or_say_why_they_do_not(host_of, alone, pair):
    host, first, second = pair
    (state_a, alone_a), (state_b, alone_b) = alone(host, first), alone(host, second)
    at = host_of(host, small=True)
    configs = dict(a=at.config_of(METHODS[first]), b=at.config_of(METHODS[second]))
    try:
        with at.attached(**configs) as model:
            model.tuners["a"].load_state_dict(state_a)
            model.tuners["b"].load_state_dict(state_b)
            found = at.raw_outputs(model, at.batch(1))
    except ValueError as error:
        sentence = str(error)
        assert sentence.endswith(", so they cannot be stacked: remove one of them")
        assert {first, second} <= {*re.findall(r"\w+", sentence)}
        return
    assert all(value.isfinite().all() for value in found.values())
    assert different(found, alone_a) and different(found, alone_b), "one of them has no effect"


@pytest.mark.parametrize("pair", TRAINED_PAIRS)
def test_two_methods_train_together_in_either_order_or_in_neither(host_of, pair):
    host, *names = pair
    at, refused = host_of(host, small=True), []
    for one, other in (names, names[::-1]):
        configs = dict(a=at.config_of(METHODS[one]), b=at.config_of(METHODS[other]))
        try:
            with at.attached(**configs) as model:
                loss = total(losses_of(model.train(), at.batch(1)))
                loss.backward()
                assert loss.isfinite() and any(p.grad is not None for p in model.parameters())
        except ValueError as error:
            assert "so they cannot be stacked: " in str(error)
            refused.append((one, other))
    assert len(refused) != 1, refused


# ---------------------------------------------------------------------- the suite itself


_BASE = test_the_untrained_method_equals_the_base_bit_for_bit_where_it_says_so
_AUTOCAST = test_autocast_stays_finite_and_leaves_the_parameters_in_float32
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
    broken.OverflowsInBf16: (_AUTOCAST, AssertionError),
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


def test_a_newly_registered_method_is_in_the_suite_of_the_hosts_that_have_its_seams():
    before = {host: methods_of(HOSTS[host]) for host in HOSTS}
    assert all(before.values()) and not any("Shift" in methods for methods in before.values())
    with registered(broken.Shift, broken.ShiftPooledText):
        for host in (GLIPHost, GroundingDINOHost):
            assert methods_of(host) == {**before[host.name], "Shift": broken.Shift}
        pooled = {"ShiftPooledText": broken.ShiftPooledText}
        assert methods_of(CLIPHost) == {**before["CLIP"], **pooled}
    assert registered_methods() == METHODS
    assert "Tuner" not in METHODS


def test_every_registered_method_belongs_to_a_host():
    assert {name for host in HOSTS.values() for name in methods_of(host)} == set(METHODS)


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


def test_a_count_that_is_right_on_the_mini_host_alone_fails(small_host, large, tmp_path):
    with registered(broken.CountsForOneHost):
        case = Case(broken.CountsForOneHost, small_host, tmp_path)
        test_the_closed_formula_counts_what_trains(case)
        with pytest.raises(AssertionError):
            test_the_closed_formula_counts_what_trains_on_the_large_host(case, large)
