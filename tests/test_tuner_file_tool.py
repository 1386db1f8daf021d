"""tools/tuner_file.py: what a tuner file says about itself, and whether it fits a config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401  registers what the config names
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import save_tuner
from tests import run_tools

CLASSES = ["hot arrow", "cold arrow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, repository) -> Path:
    """Two sets of base weights and a tuner that was trained on the first."""
    init_default_scope("mmdet")
    folder = tmp_path_factory.mktemp("tuner_file")
    cfg = Config.fromfile(repository / "configs/mini/sdpt_mini_thermal.py")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("tuners.")}
    save_file(state, folder / "base.safetensors")
    changed = dict(state)
    name = "bbox_head.head.log_scale"
    changed[name] = state[name] + 1
    save_file(changed, folder / "other_base.safetensors")
    save_tuner(model, folder / "tuner.safetensors", extra=dict(classes=CLASSES, epoch=10))
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the tool as from the command line; its exit code and what it printed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "160")
        code = run_tools.run("tuner_file.py", *arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def check(run, folder, repository):
    """Check the tuner file against the config of thermal with some settings changed."""

    def call(*options: str, base: str = "base.safetensors", flags: tuple = ()):
        config = repository / "configs/mini/sdpt_mini_thermal.py"
        options = (f"load_from={folder / base}", *options)
        file = folder / "tuner.safetensors"
        return run("check", file, config, *flags, "--cfg-options", *options)

    return call


def test_an_option_that_is_no_pair_is_refused_in_one_sentence(check):
    code, _, error = check("model.tuner.num_tokens")
    assert code == 2 and "KEY=VALUE pairs, got 'model.tuner.num_tokens'" in error.splitlines()[-1]


def test_inspect_shows_method_settings_shapes_base_and_extra(run, folder):
    code, out, _ = run("inspect", folder / "tuner.safetensors")
    assert code == 0
    for words in ("SDPT", "config.num_tokens", "3 x 10 x 256", "7,680", "GLIP", *CLASSES):
        assert words in out
    header = json.loads(run("inspect", folder / "tuner.safetensors", "--json")[1])
    assert header["base"] in out and len(header["base"]) == 64
    assert header["config"]["num_tokens"] == 10
    assert header["extra"] == dict(classes=CLASSES, epoch=10)


def test_inspect_of_another_file_is_one_sentence_and_exit_code_two(run, folder):
    code, out, error = run("inspect", folder / "base.safetensors")
    assert (code, out) == (2, "")
    assert "without mmsdpt's header" in error and error.count("\n") == 1
    assert run("inspect", folder / "nowhere.safetensors")[0] == 2


@pytest.mark.parametrize(
    "header",
    [
        dict(method="x\x1b[31m\x07\r\nok", extra={"\x1b]0;title\x07": "y"}),
        dict(method="\ud800", slot="\udfff"),
        dict(shapes={"a": ["x", None], "b": 5, "c": [[1]]}),
        dict(shapes="x", config=None, versions=[]),
        dict(method="m" * 10**6, extra=dict(text="t" * 10**6)),
        dict(config={str(i): i for i in range(100_000)}),
        dict(
            extra=json.loads("[" * 200 + "]" * 200),
            config=json.loads('{"a":' * 300 + "1" + "}" * 300),
        ),
    ],
    ids=["control characters", "surrogates", "shapes", "types", "long", "many", "deep"],
)
def test_inspect_prints_what_any_header_says_bounded_and_without_control_characters(
    run, tmp_path, header
):
    content = json.dumps(dict(format=1, **header))
    save_file({"a": torch.zeros(2)}, tmp_path / "odd.safetensors", metadata={"mmsdpt": content})
    code, out, error = run("inspect", tmp_path / "odd.safetensors")
    assert code == 0 and error == "" and len(out) < 100_000
    assert all(c.isprintable() or c == "\n" for c in out)
    assert out.encode()  # no surrogate is left


def test_check_says_that_a_file_fits(check):
    code, out, _ = check()
    assert code == 0
    assert "fits" in out and "SDPT in slot 'default'" in out


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["model.tuner.num_tokens=4"], "num_tokens: 10 in the file, 4 in the model"),
        (["model.tuner.sides=image"], "sides: dual in the file, image in the model"),
        (["model.tuner=None"], "has no tuner"),
        (["load_from=None"], "names no base weights"),
        (["load_from=nowhere.pth"], "checkpoint not found: nowhere.pth"),
    ],
)
def test_check_names_the_difference_and_ends_with_two(check, options, difference):
    code, out, error = check(*options)
    assert code == 2
    assert difference in error and error.count("\n") == 1
    assert "fits" not in out


def test_other_base_weights_are_told_apart_unless_they_are_skipped(check):
    code, _, error = check(base="other_base.safetensors")
    assert code == 2 and "other base weights" in error
    code, out, _ = check(base="missing.safetensors", flags=("--skip-base",))
    assert code == 0 and "base weights not compared" in out


def test_a_slot_is_asked_for_where_there_are_several(check):
    two = ["model.tuner=None", *(f"model.tuners.{slot}.type=mmsdpt.SDPT" for slot in "ab")]
    code, _, error = check(*two)
    assert code == 2 and "set --slot to one of a, b" in error
    code, out, _ = check(*two, flags=("--slot", "b"))
    assert code == 0 and "in slot 'b'" in out
    code, _, error = check(flags=("--slot", "c"))
    assert code == 2 and "it has no slot 'c'" in error
