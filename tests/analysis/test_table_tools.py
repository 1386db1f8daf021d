"""compare_methods.py and compatibility.py fill their tables, say what failed, and go on."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from mmsdpt.utils.errors import InputError
from tests.analysis.stub_tools import StubTools


def load_tool(repository: Path, name: str) -> ModuleType:
    path = repository / "tools" / "analysis_tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_tool", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compare(repository) -> ModuleType:
    return load_tool(repository, "compare_methods")


@pytest.fixture(scope="module")
def compatibility(repository) -> ModuleType:
    return load_tool(repository, "compatibility")


@pytest.fixture
def configs(repository) -> list[str]:
    names = ("baselines/lora_mini_thermal", "mini/sdpt_mini_thermal")
    return [str(repository / "configs" / f"{name}.py") for name in names]


@pytest.fixture
def run(tmp_path):
    """Run a tool with stubbed trainings; its exit status and the text that it wrote."""

    def call(tool: ModuleType, stub: StubTools, *arguments: str, out: str = "table.md"):
        path = tmp_path / out
        common = ["--work-dir", str(tmp_path / "work"), "--out", str(path)]
        return tool.main([*arguments, *common], stub), path.read_text(encoding="utf-8")

    return call


def table_rows(page: str) -> list[dict[str, str]]:
    """The rows of the first table of a page."""
    lines = [line for line in page.split("\n\n") if line.startswith("|")][0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_a_row_per_method_under_that_of_zero_shot(compare, run, configs):
    stub = StubTools()
    status, page = run(compare, stub, *configs, "--cfg-options", "train_cfg.max_epochs=1")
    assert status == 0
    zero, lora, sdpt = table_rows(page)
    assert (zero["method"], zero["AP"], zero["AP50"], zero["gain"]) == (
        "zero-shot",
        "20.0",
        "40.0",
        "",
    )
    assert [lora["method"], sdpt["method"]] == ["LoRA", "SDPT"]
    assert (lora["trainable"], lora["of the base"]) == ("12", "1.00%")
    assert (lora["AP"], lora["gain"]) == ("30.0", "+10.0")
    assert (lora["training, s"], lora["training, CPU s"], lora["peak memory, MB"]) == (
        "10",
        "9",
        "500",
    )
    # The base model is tested once for both.
    assert (len(stub.of("train.py")), len(stub.of("test.py"))) == (2, 3)
    assert all("train_cfg.max_epochs=1" in command for command in stub.commands)
    assert "compare_methods.py" in page and "max_epochs=1" in page and "not a ranking" in page


def test_a_failed_method_keeps_no_other_from_the_table(compare, run, configs):
    status, page = run(compare, StubTools(fails=["lora_mini_thermal_train"]), *configs)
    assert status == 1
    _, lora, sdpt = table_rows(page)
    assert (lora["AP"], lora["error"]) == ("", "RuntimeError: out of memory")
    assert (sdpt["AP"], sdpt["error"]) == ("30.0", "")

    stub = StubTools()
    status, page = run(compare, stub, *configs)
    assert status == 0 and "error" not in table_rows(page)[0]
    assert [Path(command[2]).stem for command in stub.commands] == ["lora_mini_thermal"] * 2


def test_methods_side_by_side_give_the_same_table(compare, run, configs):
    alone = table_rows(run(compare, StubTools(), *configs)[1])
    assert table_rows(run(compare, StubTools(), *configs, "--jobs", "2")[1]) == alone


def test_tasks_have_a_zero_shot_row_each(compare, run, configs, repository):
    other = str(repository / "configs/mini/sdpt_mini_new_names.py")
    _, page = run(compare, StubTools(), *configs, other)
    names = [row["method"] for row in table_rows(page)]
    assert names[:2] == ["zero-shot of lora_mini_thermal", "zero-shot of sdpt_mini_new_names"]


def test_all_values_are_in_csv_and_json(compare, run, configs):
    _, text = run(compare, StubTools(), *configs, out="table.csv")
    lines = list(csv.DictReader(text.splitlines()))
    assert [line["method"] for line in lines] == ["zero-shot", "LoRA", "SDPT"]
    assert lines[1]["config"] == "lora_mini_thermal" and lines[1]["trainable"] == "12"
    _, text = run(compare, StubTools(), *configs, out="table.json")
    content = json.loads(text)
    assert content["seed"] == 0 and "torch" in content["versions"]
    assert content["rows"][2]["ap"] == pytest.approx(0.3)


def test_a_format_that_is_none_is_refused_before_anything_runs(compare, run, configs):
    stub = StubTools()
    with pytest.raises(InputError, match="ends in"):
        run(compare, stub, *configs, out="table.txt")
    assert not stub.commands


def test_a_config_without_exactly_one_tuner_is_refused(compare, run, repository):
    stack = repository / "configs/compatibility/mini/vpt_then_sdpt_mini_thermal.py"
    with pytest.raises(InputError, match="2 tuners"):
        run(compare, StubTools(), str(stack))


def test_by_default_every_mini_config_of_a_method_is_compared(compare, repository):
    found = compare.default_configs()
    baselines = set((repository / "configs/baselines").glob("*_mini_thermal.py"))
    assert set(found) == {*baselines, repository / "configs/mini/sdpt_mini_thermal.py"}
    stems = [path.stem.removesuffix("_mini_thermal") for path in found]
    # The poster's order.
    assert stems.index("linear_probing") < stems.index("vpt") < stems.index("lora")
    assert stems[-1] == "sdpt"


def test_both_tasks_are_tested_with_every_choice_of_slots(compatibility, run):
    stub = StubTools()
    status, text = run(compatibility, stub, out="table.json")
    assert status == 0
    assert (len(stub.of("train.py")), len(stub.of("test.py"))) == (6, 22)
    rows = json.loads(text)["rows"]
    assert [(row["first"], row["second"]) for row in rows] == [
        ("Adapter", "Adapter"),
        ("Adapter", "SDPT"),
        ("VPT", "VPT"),
        ("VPT", "SDPT"),
    ]
    # The stub's score counts the slots that are on.
    for row in rows:
        for task in "ab":
            found = [round(row[f"{task}_{slots}"], 2) for slots in ("none", "old", "new", "both")]
            assert found == [0.2, 0.3, 0.3, 0.4]
        assert row["trainable"] == 12


def test_the_second_method_trains_over_the_file_of_the_first(compatibility, run, tmp_path):
    stub = StubTools()
    _, page = run(compatibility, stub, "--first", "vpt")
    first, *second = stub.of("train.py")
    assert Path(first[2]).name == "vpt_mini_thermal.py"
    file = tmp_path / "work" / "vpt_train" / "tuner.safetensors"
    assert [Path(command[2]).name for command in second] == [
        "vpt_then_vpt_mini_new_names.py",
        "vpt_then_sdpt_mini_new_names.py",
    ]
    assert all(f"tuner_files.old={file}" in command for command in second)
    row = table_rows(page)[1]
    assert (row["in slot old"], row["in slot new"]) == ("VPT", "SDPT")
    assert (row["thermal: none"], row["new_names: both"]) == ("20.0", "40.0")


def test_a_first_method_that_fails_leaves_the_other_rows(compatibility, run):
    status, page = run(compatibility, StubTools(fails=["vpt_train"]))
    assert status == 1
    errors = [row["error"] for row in table_rows(page)]
    assert errors[:2] == ["", ""] and all("out of memory" in error for error in errors[2:])


def test_the_glip_l_table_names_configs_that_exist(compatibility):
    size = compatibility.SIZES["glip_l"]
    for one, seconds in compatibility.SECOND.items():
        assert size.config(one, size.ending_b).is_file()
        for two in seconds:
            for ending in (size.ending_a, size.ending_b):
                assert size.config(f"{one}_then_{two}", ending).is_file()
