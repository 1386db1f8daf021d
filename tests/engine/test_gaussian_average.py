"""The average over epochs: the formula's, at the end of a run, and the same in a resumed one."""

from __future__ import annotations

import math

import pytest
from mmengine.hooks import Hook

from mmsdpt.engine.hooks import GaussianAverageHook
from mmsdpt.tuners import PromptSRC
from mmsdpt.utils.errors import InputError
from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_hosts import different, tensors_of
from tests.tuners.contract_runs import Run

EPOCHS = 3


class Record(Hook):
    """What trains, after each epoch, before it is averaged."""

    priority = "HIGH"

    def __init__(self) -> None:
        self.states: list[dict] = []

    def __deepcopy__(self, memo: dict):
        return self

    def after_train_epoch(self, runner) -> None:
        self.states.append(tensors_of(runner.host.tuners))


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> CLIPHost:
    return CLIPHost.build(tmp_path_factory.mktemp("host"))


def run(host: CLIPHost, folder, hooks, resume_from=None) -> Run:
    host.hooks = (*CLIPHost.hooks, *hooks)
    with host.attached(seed=bool(resume_from), default=host.config_of(PromptSRC)) as model:
        optimizer = dict(type="SGD", lr=0.05)
        return Run(host, model, optimizer, folder, EPOCHS, resume_from)


def test_the_model_ends_with_the_average_and_a_resumed_run_with_the_same(host, tmp_path):
    average, record = dict(type="mmsdpt.GaussianAverageHook", mean=2.5, std=0.8), Record()
    straight = run(host, tmp_path / "straight", [average, record])
    w = [math.exp(-((e - 2.5) ** 2) / (2 * 0.8**2)) for e in (1, 2, 3)]
    for name in record.states[0]:
        wanted = sum(a / sum(w) * state[name] for a, state in zip(w, record.states, strict=True))
        found = straight.state[f"tuners.{name}"]
        assert (found - wanted).abs().max() < 1e-6
        assert (found - record.states[-1][name]).abs().max() > 1e-5
    checkpoint = tmp_path / "straight" / f"epoch_{EPOCHS - 1}.pth"
    resumed = run(host, tmp_path / "resumed", [average], checkpoint)
    assert different(resumed.state, straight.state) == []
    plain = run(host, tmp_path / "plain", [])
    assert plain.losses == straight.losses  # training is not changed
    with pytest.raises(InputError, match="has no running average"):
        without = tmp_path / "plain" / f"epoch_{EPOCHS - 1}.pth"
        run(host, tmp_path / "refused", [average], without)


@pytest.mark.parametrize("scope", ["mmsdpt", "mmengine"])
def test_a_run_that_may_stop_early_is_refused(host, tmp_path, scope):
    """It would end without the average."""
    average = dict(type="mmsdpt.GaussianAverageHook", mean=2.5, std=0.8)
    early = dict(type=f"{scope}.EarlyStoppingHook", monitor="accuracy", patience=2)
    with pytest.raises(InputError, match="early stopping may end it before: leave out one"):
        run(host, tmp_path, [average, early])


def test_mean_and_std_follow_the_length_of_the_run():
    hook = GaussianAverageHook(mean=15, std=1, epochs=20)
    for epochs in (2, 20, 40):
        weights = hook.weights(epochs)
        assert sum(weights) == pytest.approx(1)
        highest = max(range(epochs), key=weights.__getitem__) + 1
        assert highest == pytest.approx(0.75 * epochs, abs=0.51)
    assert GaussianAverageHook(mean=500, std=1).weights(3)[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["mean", "std", "epochs"])
def test_numbers_that_are_not_positive_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must be above 0, got -1"):
        GaussianAverageHook(**{**dict(mean=1, std=1), name: -1})
