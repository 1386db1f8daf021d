"""Promises of the data doctor: it names what is wrong, and says OK only where nothing is."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from types import MappingProxyType

import pytest
from rich.console import Console

from mmsdpt.datasets.classification import BENCHMARKS, doctor
from mmsdpt.utils.errors import InputError
from tests.datasets.miniature_layouts import ALL_NAMES, VARIANT_FOLDERS, make_dataset
from tests.run_tools import load_tool

STANDARD = {
    "imagenet": (1000, {"train": 1281167, "test": 50000}),
    "caltech-101": (100, {"train": 4128, "val": 1649, "test": 2465}),
    "oxford_pets": (37, {"train": 2944, "val": 736, "test": 3669}),
    "stanford_cars": (196, {"train": 6509, "val": 1635, "test": 8041}),
    "oxford_flowers": (102, {"train": 4093, "val": 1633, "test": 2463}),
    "food-101": (101, {"train": 50500, "val": 20200, "test": 30300}),
    "fgvc_aircraft": (100, {"train": 3334, "val": 3333, "test": 3333}),
    "sun397": (397, {"train": 15880, "val": 3970, "test": 19850}),
    "dtd": (47, {"train": 2820, "val": 1128, "test": 1692}),
    "eurosat": (10, {"train": 13500, "val": 5400, "test": 8100}),
    "ucf101": (101, {"train": 7639, "val": 1898, "test": 3783}),
    "imagenetv2": (1000, {"test": 10000}),
    "imagenet-sketch": (1000, {"test": 50889}),
    "imagenet-adversarial": (200, {"test": 7500}),
    "imagenet-rendition": (200, {"test": 30000}),
}


@pytest.fixture
def small(monkeypatch):
    """Let three classes of 5, 2 and 3 images be the right numbers."""
    counts = {"train": 15, "val": 6, "test": 9}
    expected = {
        name: replace(each, num_classes=3, counts={split: counts[split] for split in each.counts})
        for name, each in BENCHMARKS.items()
    }
    monkeypatch.setattr(doctor, "BENCHMARKS", MappingProxyType(expected))


def test_the_expected_numbers_are_those_of_the_standard_splits():
    found = {name: (each.num_classes, dict(each.counts)) for name, each in BENCHMARKS.items()}
    assert found == STANDARD


@pytest.mark.parametrize("name", ALL_NAMES)
def test_what_is_right_is_ok(tmp_path, small, name):
    make_dataset(name, tmp_path)
    finding = doctor.examine(name, tmp_path, check_images=True)
    assert (finding.state, finding.problems, finding.num_classes) == ("OK", [], 3)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_wrong_counts_are_said_with_the_right_ones(tmp_path, name):
    make_dataset(name, tmp_path)
    finding = doctor.examine(name, tmp_path)
    classes, counts = STANDARD[name]
    assert finding.state == "WRONG"
    assert f"3 classes instead of {classes}" in finding.problems
    for split, count in counts.items():
        assert f"{finding.counts[split]} {split} images instead of {count:,}" in finding.problems


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name, each in BENCHMARKS.items() for path in (*each.folders, *each.files)],
)
def test_a_missing_folder_or_file_is_named_once(tmp_path, small, name, path):
    make_dataset(name, tmp_path)
    whole = tmp_path / path
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    problems = doctor.examine(name, tmp_path).problems
    assert sum(problem.count(f"{whole} is missing") for problem in problems) == 1


def test_missing_and_broken_images_are_counted_and_the_first_named(tmp_path, small):
    home = make_dataset("dtd", tmp_path)
    images = sorted((home / "images/owl").iterdir())
    for path in images[:4]:  # of five for training
        path.unlink()
    images[4].write_bytes(images[4].read_bytes()[:300])
    (missing,) = doctor.examine("dtd", tmp_path).problems
    assert missing.startswith("4 of 15 train images are missing: dtd/images/owl/")
    assert missing.count("owl") == 3 and missing.endswith(", ...")
    advanced = []
    missing, broken = doctor.examine("dtd", tmp_path, True, advanced.append).problems
    assert broken.startswith(f"1 train images cannot be read: dtd/images/owl/{images[4].name} (")
    assert sum(advanced) == 15 - 4 + 6 + 9


def test_a_misspelled_folder_is_noticed(tmp_path, small):
    make_dataset("dtd", tmp_path)
    (tmp_path / "dtd").rename(tmp_path / "DTD")
    make_dataset("sun397", tmp_path)
    (tmp_path / "sun397/SUN397").rename(tmp_path / "sun397/SUN_397")
    finding = doctor.examine("dtd", tmp_path)
    assert finding.state == "not there" and "did you mean DTD?" in finding.problems[0]
    problem = doctor.examine("sun397", tmp_path).problems[0]
    assert problem.endswith("SUN397 is missing; did you mean SUN_397?")


def test_imagenets_names_do_for_its_variants(tmp_path, small):
    make_dataset("imagenet", tmp_path)
    for name in VARIANT_FOLDERS:
        make_dataset(name, tmp_path)
        (tmp_path / name / "classnames.txt").unlink()
        assert doctor.examine(name, tmp_path).state == "OK"


def test_what_was_not_asked_for_may_be_absent(tmp_path, small):
    make_dataset("dtd", tmp_path)
    good, absent = doctor.examine("dtd", tmp_path), doctor.examine("eurosat", tmp_path)
    assert doctor.all_well([good, absent], required=False)
    assert not doctor.all_well([good, absent], required=True)
    assert not doctor.all_well([absent], required=False)
    (tmp_path / "eurosat").mkdir()
    assert not doctor.all_well([good, doctor.examine("eurosat", tmp_path)], required=False)


def test_the_table_shows_paths_as_they_are(tmp_path, small):
    finding = doctor.Finding("dtd", problems=["the folder [red]/x is missing"])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(doctor.as_table([finding]))
    assert "the folder [red]/x is missing" in console.export_text()


def test_a_narrow_table_cuts_no_address(small):
    finding = doctor.Finding("dtd", problems=["download it from https://example.org/" + "a" * 60])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(doctor.as_table([finding]))
    text = console.export_text()
    assert text.count("a") >= 60 and "…" not in text


@pytest.fixture
def tool(monkeypatch):
    """``main`` of tools/data_doctor.py."""
    monkeypatch.setenv("COLUMNS", "200")
    return load_tool("data_doctor.py").main


def test_the_tool_prints_a_table_and_fails_where_something_is_wrong(tmp_path, tool, capsys):
    make_dataset("dtd", tmp_path)
    assert tool(["--data-root", str(tmp_path), "--check-images"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG" in printed and "instead of 47" in printed and "not there" in printed


def test_the_tool_is_content_with_what_is_right(tmp_path, small, tool, capsys):
    make_dataset("dtd", tmp_path)
    assert tool(["--data-root", str(tmp_path)]) == 0
    assert tool(["--data-root", str(tmp_path), "--datasets", "dtd"]) == 0
    assert tool(["--data-root", str(tmp_path), "--datasets", "dtd", "eurosat"]) == 1
    with pytest.raises(InputError, match="nowhere is missing; set --data-root"):
        tool(["--data-root", str(tmp_path / "nowhere")])
