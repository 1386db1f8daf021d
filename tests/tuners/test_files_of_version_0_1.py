"""Tuner files and run checkpoints that version 0.1 wrote load, and mean what they meant."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmsdpt.tuners.files import TunerFileError, load_tuner, read_tuner_header

FOLDER = Path(__file__).resolve().parents[1] / "data" / "version_0_1"


def _load_reference():
    """The module beside the files."""
    spec = importlib.util.spec_from_file_location("version_0_1", FOLDER / "reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = _load_reference()
RECORDS = reference.records()
# Both sides compute in float64, where another order of summation moves these numbers by up to
# about 1e-13 of their magnitude; a tensor in another place moves them by more than 1e-6.
TOLERANCE = 1e-9
# What a config must say today to mean what it meant.
NOW_SAID = {"clip/mudpt_figure": dict(outer_norms=True)}
# Runs are in float32: two steps of AdamW on rounding errors of 1e-7.
RUN_TOLERANCE = 1e-3


def build(host: str, tuner: dict) -> torch.nn.Module:
    return reference.build(host, RECORDS["hosts"][host], tuner)


def test_every_file_has_a_record():
    files = {f"{p.parent.name}/{p.stem}" for p in FOLDER.glob("*/*.safetensors")}
    assert files == RECORDS["files"].keys()
    assert {p.parent.name for p in FOLDER.glob("*/run.pth")} == RECORDS["runs"].keys()


@pytest.mark.parametrize("name", sorted(RECORDS["files"]))
def test_a_tuner_file_of_version_0_1_computes_what_it_did(name):
    record = RECORDS["files"][name]
    path = FOLDER / f"{name}.safetensors"
    assert read_tuner_header(path)["versions"]["mmsdpt"] == RECORDS["version"]
    model = build(record["host"], {**record["tuner"], **NOW_SAID.get(name, {})})
    load_tuner(model, path)
    found = reference.numbers(model, record["host"])
    assert reference.worst(found, record["numbers"]) < TOLERANCE


def test_the_numbers_depend_on_the_file():
    record = RECORDS["files"]["glip/sdpt"]
    untrained = reference.numbers(build("glip", record["tuner"]), "glip")
    assert reference.worst(untrained, record["numbers"]) > 1e-6


def test_a_file_of_version_0_1_is_refused_where_a_setting_differs():
    tuner = dict(RECORDS["files"]["glip/sdpt"]["tuner"], share=False)
    with pytest.raises(TunerFileError, match="other settings of SDPT: share: True in the file"):
        load_tuner(build("glip", tuner), FOLDER / "glip" / "sdpt.safetensors")


class Beginning(Hook):
    """What a run has when its first step is about to begin."""

    def before_train(self, runner) -> None:
        self.progress = (runner.epoch, runner.iter)
        self.state = {name: x.clone() for name, x in runner.host.state_dict().items()}
        self.moments = copy.deepcopy(runner.optim_wrapper.state_dict()["state"])


@pytest.mark.parametrize("host", sorted(RECORDS["runs"]))
@pytest.mark.usefixtures("short_beginnings")
def test_a_run_of_version_0_1_is_resumed_and_ends_as_it_did(host, tmp_path):
    record, path = RECORDS["runs"][host], FOLDER / host / "run.pth"
    runner, losses = reference.make_run(host, build(host, record["tuner"]), tmp_path, path)
    beginning = Beginning()
    runner.register_hook(beginning)
    runner.train()

    written = torch.load(path, weights_only=True)
    assert beginning.progress == (2, 4)
    for name, value in written["state_dict"].items():
        assert torch.equal(beginning.state[name], value), name
    moments = written["optimizer"]["state"]
    assert moments and beginning.moments.keys() == moments.keys()
    for i, of_parameter in moments.items():
        for name, value in of_parameter.items():
            assert torch.equal(beginning.moments[i][name], value), (i, name)

    assert sorted(losses.of_step) == [4, 5], "the third epoch alone"
    for step, found in losses.of_step.items():
        assert found == pytest.approx(record["losses"][str(step)], rel=RUN_TOLERANCE)
    end = reference.numbers(runner.model.cpu(), host)
    assert reference.worst(end, record["numbers"]) < RUN_TOLERANCE
