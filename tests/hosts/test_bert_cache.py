"""The cache of the text encoder with tuners inside: never what has changed since."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from mmsdpt.hosts.grounding.text import BertModel
from mmsdpt.hosts.seams import ForwardState
from tests.hosts.small_bert import (
    CAPTIONS,
    Adapter,
    CaptionWords,
    Deep,
    Offset,
    Words,
    attach,
    bert,
    close,
    small_bert,
    small_bert_folder,
)
from tests.hosts.text_spy import CHANGES, Spy, in_place


@pytest.fixture
def model(tmp_path) -> BertModel:
    return small_bert(small_bert_folder(tmp_path)).requires_grad_(False)


@pytest.fixture
def cached(model):
    """A model with tuners at all seams inside, frozen, and what compares cached to uncached."""
    tuners = [attach(t, model, frozen=True) for t in (Words, CaptionWords, Deep, Adapter)]

    def check() -> Tensor:
        hidden = model(CAPTIONS, cache=True)["hidden"]
        close(hidden, model(CAPTIONS)["hidden"])
        return hidden

    return model, tuners, check


def test_features_with_frozen_tuners_are_cached(cached):
    model, _, check = cached
    check()
    spy = Spy(model)
    model(CAPTIONS, cache=True)
    assert spy.encoded == 0


def test_a_handler_sees_only_its_caption_where_the_result_is_kept(model):
    tuner = attach(Words, model, frozen=True)
    given = ForwardState(images=torch.zeros(3, 3, 8, 8), captions=CAPTIONS)
    model(CAPTIONS, cache=True, state=given)
    assert [list(state.captions) for state in tuner.states] == [[c] for c in CAPTIONS]
    assert all(state.images is None and not state.samples for state in tuner.states)
    model(CAPTIONS, state=given)
    assert tuner.states[-1] is given


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tuner_is_never_answered_from_the_cache(cached, which, change):
    _, tuners, check = cached
    before = check()
    change(tuners[which])
    assert (check() - before).abs().max() > 1e-6


def test_a_changed_buffer_is_never_answered_from_the_cache(cached):
    _, tuners, check = cached
    before = check()
    tuners[3].scale.mul_(3)
    assert (check() - before).abs().max() > 1e-6


def test_a_switched_tuner_is_never_answered_from_the_cache(cached):
    _, tuners, check = cached
    with_all = check()
    seen = [with_all]
    for tuner in tuners:
        tuner.enabled = False
        seen.append(check())
        assert all((seen[-1] - other).abs().max() > 1e-6 for other in seen[:-1])
    for tuner in tuners:
        tuner.enabled = True
    assert torch.equal(check(), with_all)


def test_a_tuner_in_the_place_of_another_is_never_answered_from_the_cache(cached):
    """Also where the new one gets the memory of the old one."""
    model, tuners, check = cached
    seen = [check()]
    for _ in range(5):
        old = tuners.pop()
        for kind in model.seams().values():
            for seam in kind:
                seam._handlers = [entry for entry in seam._handlers if entry[0] is not old]
        del old
        tuners.append(attach(Adapter, model, frozen=True))
        seen.append(check())
        assert (seen[-1] - seen[-2]).abs().max() > 1e-6


def test_a_value_in_the_place_of_a_parameter_is_never_answered_from_the_cache(model):
    """The memory of a value that is let go may come back with the next one: the same address, the
    same version, another content.
    """
    norm = bert(model).encoder.layer[1].output.LayerNorm
    host = norm.weight
    seen = []
    for i in range(10):
        norm._parameters["weight"] = host * (1 + i)
        seen.append(model(CAPTIONS[:1], cache=True)["hidden"])
        norm._parameters["weight"] = host
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(seen, seen[1:], strict=False))


def test_a_tuner_that_trains_is_not_cached(model):
    tuner = attach(Words, model)
    with pytest.raises(ValueError, match="cut the gradient of Words, which acts in the text"):
        model(CAPTIONS, cache=True)
    with torch.no_grad():
        close(model(CAPTIONS, cache=True)["hidden"], model(CAPTIONS)["hidden"])
    tuner.enabled = False
    model(CAPTIONS, cache=True)


def test_dropout_of_a_tuner_is_not_cached(cached):
    model, tuners, check = cached
    tuners[3].drop.train()
    with pytest.raises(ValueError, match="draw of dropout: Adapter, .* is in training mode"):
        model(CAPTIONS, cache=True)
    tuners[3].enabled = False
    check()


def test_changes_of_the_features_are_never_cached(model):
    plain = model(CAPTIONS, cache=True)["hidden"]
    tuner = attach(Offset, model).train()  # what trains after the cache does not matter to it
    spy = Spy(model)
    for _ in range(2):
        changed = model(CAPTIONS, cache=True)["hidden"]
        close(changed, plain + tuner.offset[: plain.shape[1]])
        (gradient,) = torch.autograd.grad(changed.sum(), [tuner.offset])
        assert gradient.abs().max() > 0
        in_place(tuner)
    tuner.enabled = False
    assert torch.equal(model(CAPTIONS, cache=True)["hidden"], plain)
    assert spy.encoded == 0


def test_copies_act_on_their_own(cached):
    model, tuners, check = cached
    expected = check()
    host = nn.ModuleDict({"model": model, "tuners": nn.ModuleList(tuners)})
    for twin in (copy.deepcopy(host), pickle.loads(pickle.dumps(host))):
        spy = Spy(twin["model"])
        assert torch.equal(twin["model"](CAPTIONS, cache=True)["hidden"], expected)
        assert spy.encoded == len(CAPTIONS)  # a copy's cache is empty
        in_place(twin["tuners"][0])
        assert (twin["model"](CAPTIONS)["hidden"] - expected).abs().max() > 1e-6
    assert torch.equal(check(), expected)
