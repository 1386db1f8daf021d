"""Trainings and tests run through the tools as a user would, and are repeated only when needed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from mmsdpt.analysis.cells import CellBook, CellError
from mmsdpt.analysis.tool_runs import ToolRuns, read_scores, read_trainable
from mmsdpt.utils.base_weights import resolve_checkpoint
from tests.analysis.stub_tools import StubTools

TOOLS = Path("tools")


@pytest.fixture
def config(repository) -> Path:
    return repository / "configs/mini/sdpt_mini_thermal.py"


@pytest.fixture
def stacked(repository) -> Path:
    """It names a tuner file of its own."""
    return repository / "configs/compatibility/mini/vpt_then_sdpt_mini_new_names.py"


@pytest.fixture
def make(tmp_path):
    """New runs on the same work directory, as another call of a tool has them."""

    def call(stub: StubTools, **kwargs) -> ToolRuns:
        book = CellBook(tmp_path / "work" / "results.json")
        return ToolRuns(TOOLS, tmp_path / "work", book, stub, **kwargs)

    return call


def test_a_training_is_the_tools_command_with_seed_and_overrides(make, config, tmp_path):
    stub = StubTools()
    make(stub, options=["train_cfg.max_epochs=1"], seed=7).train("sdpt_train", config, ["a.b=c"])
    folder = tmp_path / "work" / "sdpt_train"
    (command,) = stub.commands
    assert command[:5] == [sys.executable, "tools/train.py", str(config), "--work-dir", str(folder)]
    assert command[5:] == ["--cfg-options", "randomness.seed=7", "train_cfg.max_epochs=1", "a.b=c"]


def test_a_training_gives_its_cost_and_its_tuner_file(make, config, tmp_path):
    result = make(StubTools()).train("sdpt_train", config)
    file = tmp_path / "work" / "sdpt_train" / "tuner.safetensors"
    assert (result["trainable"], result["base"]) == (12, 1200)
    assert (result["wall_s"], result["cpu_s"], result["peak_bytes"]) == (10.0, 9.0, 500_000_000)
    assert (result["tuner_file"], result["tuner_bytes"]) == (str(file), file.stat().st_size)


def test_the_best_tuner_file_is_preferred(make, config):
    class WithBest(StubTools):
        def __call__(self, command, log):
            used = super().__call__(command, log)
            (log.parent / "best_tuner.safetensors").write_bytes(b"best")
            return used

    assert make(WithBest()).train("a", config)["tuner_file"].endswith("best_tuner.safetensors")


def test_slots_without_a_file_are_off_in_a_test(make, config, stacked, tmp_path):
    stub = StubTools()
    runs = make(stub)
    file = tmp_path / "tuner.safetensors"
    file.write_bytes(b"tuner")
    runs.test("off", config)
    runs.test("on", config, dict(default=str(file)))
    runs.test("new", stacked, dict(new=str(file)))
    words = [command[2 : command.index("--work-dir")] for command in stub.commands]
    assert words == [
        [str(config), "--tuners-off"],
        [str(config), f"default={file}"],
        [str(stacked), f"new={file}"],
    ]
    # What the config itself names for the other slot is put aside, and only where there is any.
    put_aside = ["tuner_files._delete_=True" in command for command in stub.commands]
    assert put_aside == [False, False, True]
    assert not runs.config(stacked, ["tuner_files._delete_=True"]).tuner_files


def test_what_is_finished_is_not_run_again(make, config):
    stub = StubTools()
    for _ in range(2):
        runs = make(stub)
        trained = runs.train("train", config)
        tested = runs.test("test", config, dict(default=trained["tuner_file"]))
    assert len(stub.commands) == 2
    assert tested["scores"] == {"coco/bbox_mAP": pytest.approx(0.3), "coco/bbox_mAP_50": 0.4}


@pytest.mark.parametrize(
    "change",
    [dict(seed=1), dict(options=["max_epochs=1"]), dict(conditions=dict(threads=2))],
    ids=["seed", "options", "threads"],
)
def test_another_setting_trains_again(make, config, change):
    stub = StubTools()
    make(stub).train("train", config)
    make(stub, **change).train("train", config)
    assert len(stub.commands) == 2


def test_other_base_weights_train_again(make, config, tmp_path):
    stub = StubTools()
    weights = tmp_path / "base.safetensors"
    shutil.copy(resolve_checkpoint("mmsdpt://mini_glip"), weights)
    options = [f"load_from={weights}"]
    for _ in range(2):
        make(stub, options=options).train("train", config)
    assert len(stub.commands) == 1
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    make(stub, options=options).train("train", config)
    assert len(stub.commands) == 2


def test_a_tuner_file_that_is_gone_or_changed_trains_again(make, config):
    stub = StubTools()
    file = Path(make(stub).train("train", config)["tuner_file"])
    file.write_bytes(b"something else")
    make(stub).train("train", config)
    file.unlink()
    make(stub).train("train", config)
    assert len(stub.commands) == 3 and file.is_file()


def test_another_tuner_file_tests_again(make, config, tmp_path):
    stub, file = StubTools(), tmp_path / "tuner.safetensors"
    for content in (b"one", b"one", b"two"):
        file.write_bytes(content)
        make(stub).test("test", config, dict(default=str(file)))
    assert len(stub.commands) == 2


def test_a_missing_tuner_file_fails_the_cell_without_a_run(make, config, tmp_path):
    stub = StubTools()
    runs = make(stub)
    assert runs.test("test", config, dict(default=str(tmp_path / "none"))) is None
    assert not stub.commands and "not found" in runs.book.errors["test"]


def test_missing_base_weights_fail_the_cell(make, config):
    runs = make(StubTools(), options=["load_from=nowhere.pth"])
    assert runs.train("train", config) is None
    assert "checkpoint not found" in runs.book.errors["train"]


def test_a_failed_training_leaves_its_log_and_is_tried_again(make, config, tmp_path):
    runs = make(StubTools(fails=["train.py"]))
    assert runs.train("train", config) is None
    assert runs.book.errors == dict(train="RuntimeError: out of memory")
    assert "out of memory" in (tmp_path / "work" / "train" / "output.log").read_text()
    assert make(StubTools()).train("train", config) is not None


def test_every_cell_is_reported_to_the_progress(make, config):
    seen = []
    runs = make(StubTools(fails=["train.py"]), on_cell=seen.append)
    runs.train("train", config)
    runs.skip("test", "its training failed")
    assert seen == ["train", "test"]
    assert runs.book.errors["test"] == "its training failed"


def test_a_log_without_table_or_scores_is_told(tmp_path):
    with pytest.raises(CellError, match="no table"):
        read_trainable("Epoch [1]")
    with pytest.raises(CellError, match="no scores"):
        read_scores(tmp_path)
