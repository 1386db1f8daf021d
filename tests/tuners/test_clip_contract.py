"""What every method promises beside the contract of test_contract.py on a host that classifies:
about text features that are kept, classes that change, texts in chunks.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import tests.tuners.broken_methods as broken
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils import memo
from tests.hosts.small_clip import NAMES
from tests.tuners import test_contract
from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_hosts import (
    different,
    disturb,
    losses_of,
    methods_of,
    registered,
    relative_error,
    tensors_of,
    total,
    trainable,
)
from tests.tuners.contract_runs import Case

METHODS = methods_of(CLIPHost)
OTHER_NAMES = ("green square", "heart", "mushroom with spots", "moon")
FEWER_NAMES = ("a yellow star", "raccoon")


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> CLIPHost:
    return CLIPHost.build(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module", params=METHODS)
def case(request, host, tmp_path_factory) -> Case:
    return Case(METHODS[request.param], host, tmp_path_factory.mktemp(request.param))


@contextmanager
def used(case: Case) -> Iterator[nn.Module]:
    """A trained model that has kept the text features of its classes."""
    model = copy.deepcopy(case.trained)
    case.raw(model)
    yield model


def assert_as_if_new(case: Case, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """The model's outputs are those of a copy, which has kept nothing."""
    batch = case.host.batch(3, dtype=dtype)
    assert different(case.raw(model, batch), case.raw(copy.deepcopy(model), batch)) == []


def without_dropout(model: nn.Module) -> nn.Module:
    """For two passes that are compared and would draw different masks."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


# ---------------------------------------------------------------------- kept text features


def test_a_training_step_is_seen(case):
    with used(case) as model:
        before = case.raw(model)
        optimizer = torch.optim.SGD(trainable(model).values(), lr=0.1)
        total(losses_of(model.train(), case.host.batch(3))).backward()
        optimizer.step()
        model.eval()
        assert different(case.raw(model), before)
        assert_as_if_new(case, model)


def test_a_loaded_tuner_is_seen(case):
    path, wanted = save_tuner(case.trained, case.folder / "tuner.safetensors"), case.outputs
    with used(case) as model:
        disturb(model.tuners["default"])
        assert different(case.raw(model), wanted)
        load_tuner(model, path)
        assert different(case.raw(model), wanted) == []


def test_loaded_base_weights_are_seen(case):
    with used(case) as model:
        state = {name: v for name, v in tensors_of(model).items() if not name.startswith("tuners.")}
        model.load_state_dict({name: 1.1 * v for name, v in state.items()}, strict=False)
        assert_as_if_new(case, model)


def test_another_precision_is_seen(case):
    """And the same again, which was kept before."""
    with used(case) as model:
        assert_as_if_new(case, model.double(), torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_as_if_new(case, model, torch.float64)
        assert_as_if_new(case, model, torch.float64)


def test_a_switched_slot_is_seen(case):
    with used(case) as model:
        on = case.raw(model)
        with model.tuners_off():
            assert different(case.raw(model), case.host.outputs[3])
            found = case.raw(model)
            assert different(found, {name: case.host.outputs[3][name] for name in found}) == []
        assert different(case.raw(model), on) == []


def test_features_kept_in_inference_mode_serve_training_later(case):
    with used(case) as model:
        model = without_dropout(copy.deepcopy(model))  # which has kept none
        batch = case.host.batch(3)
        with torch.inference_mode():
            model(batch[0])
        losses = losses_of(model.train(), batch)
        total(losses).backward()
        wanted = losses_of(without_dropout(copy.deepcopy(case.trained)).train(), batch)
        assert different(losses, wanted) == []


# ---------------------------------------------------------------------- classes


def test_classes_change_between_calls(case):
    """Or the method says that it knows only its own, and works with them again."""
    with used(case) as model:
        for names in (OTHER_NAMES, FEWER_NAMES):
            model.set_classes(names)
            try:
                found = model(case.host.batch(3)[0])
            except ValueError as error:
                assert str(error).startswith(case.name) and "\n" not in str(error)
                assert "classes" in str(error)
                continue
            assert found.shape == (3, len(names))
            assert_as_if_new(case, model)
        model.set_classes(NAMES)
        assert different(case.raw(model), case.outputs) == []


def test_the_texts_depend_on_the_image_only_where_the_method_says_so(case):
    def texts(first: int) -> dict[str, Tensor]:
        images, _ = case.host.batch(1, first=first)
        state = ForwardState(images=images, class_names=NAMES)
        model = copy.deepcopy(case.trained)
        with torch.no_grad():
            model.encode_image(images, state)
            return dict(features=model.encode_classes(state))

    assert bool(different(texts(0), texts(1))) is case.method.text_depends_on_image


def test_texts_in_chunks_give_the_same_loss_and_gradients(case):
    """The activations of a chunk are computed again in the backward pass."""
    found = []
    for token_chunk in (6_000, 8):
        model = without_dropout(copy.deepcopy(case.trained).double().train())
        model.token_chunk = token_chunk
        losses = losses_of(model, case.host.batch(3, dtype=torch.float64))
        total(losses).backward()
        # A tensor that does not act, as the projections of a probe's texts, has no gradient.
        gradients = {name: p.grad for name, p in trainable(model).items() if p.grad is not None}
        found.append({**losses, **gradients})
    assert relative_error(found[1], found[0]) < 1e-9


# ---------------------------------------------------------------------- copies and slots


def test_a_copy_stands_on_its_own(case):
    twin = copy.deepcopy(case.trained)
    assert different(case.raw(twin), case.outputs) == []
    disturb(twin.tuners["default"])
    assert different(case.raw(twin), case.outputs)
    assert different(case.raw(case.trained), case.outputs) == []


@pytest.mark.parametrize(
    ("fixed", "learning"), [*itertools.combinations_with_replacement(METHODS, 2)]
)
def test_a_method_trains_on_top_of_a_frozen_one_or_says_why_it_cannot(host, fixed, learning):
    slots = dict(
        fixed=host.config_of(METHODS[fixed], frozen=True),
        learning=host.config_of(METHODS[learning]),
    )
    try:
        with host.attached(**slots) as model:
            total(losses_of(model.train(), host.batch(1))).backward()
            reached = {name for name, p in model.named_parameters() if p.grad is not None}
            model.zero_grad()
    except ValueError as error:
        assert "cannot be stacked" in str(error) and "\n" not in str(error)
        return
    assert reached and all(name.startswith("tuners.learning.") for name in reached)


# ---------------------------------------------------------------------- the suite itself


BROKEN: dict[type, Callable[[Case], None]] = {
    broken.ForgetsWhatItWasTrainedFor: test_a_loaded_tuner_is_seen,
    broken.KeepsClassesAside: test_classes_change_between_calls,
    broken.CountsRecomputations: test_texts_in_chunks_give_the_same_loss_and_gradients,
    broken.ClaimsThatTextsDependOnImages: (
        test_the_texts_depend_on_the_image_only_where_the_method_says_so
    ),
    broken.ClaimsThatItsTextsAreForAll: (
        test_the_texts_depend_on_the_image_only_where_the_method_says_so
    ),
    broken.SharesItsCopysParameters: test_a_copy_stands_on_its_own,
    broken.OverflowsInFp16: (
        test_contract.test_autocast_stays_finite_and_leaves_the_parameters_in_float32
    ),
}
SEEN = (test_a_training_step_is_seen, test_a_loaded_tuner_is_seen, test_another_precision_is_seen)


def test_a_method_that_keeps_every_promise_passes(host, tmp_path):
    with registered(broken.ShiftPooledText):
        case = Case(broken.ShiftPooledText, host, tmp_path)
        for check in dict.fromkeys((*BROKEN.values(), *SEEN)):
            check(case)


@pytest.mark.parametrize("method", BROKEN)
def test_a_method_that_breaks_a_promise_fails(method, host, tmp_path):
    with registered(method), pytest.raises((AssertionError, RuntimeError)):
        BROKEN[method](Case(method, host, tmp_path))


@pytest.mark.parametrize("check", SEEN)
def test_a_host_that_keeps_features_too_long_fails(check, host, tmp_path, monkeypatch):
    with registered(broken.ShiftPooledText):
        case = Case(broken.ShiftPooledText, host, tmp_path)
        assert len(case.outputs)
        monkeypatch.setattr(memo, "tensor_versions", lambda tensors: ())
        with pytest.raises((AssertionError, RuntimeError)):
            check(case)
