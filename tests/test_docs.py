"""Promises of the pages and of comments in configs: links lead somewhere, commands and code name
what is there."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from mmsdpt.experiments.loading import load_study
from mmsdpt.utils.cli import Options

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "projects/*/README.md", "mmsdpt/assets/*/README.md")
    for path in ROOT.glob(pattern)
)
# A changelog names what was there.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
# What runs, and where its file is.
SCRIPT = re.compile(r"(?:tools|projects)/[\w/]+\.py")
MODULE = re.compile(r"-m (projects(?:\.\w+)+|mmsdpt(?:\.\w+)+)")
CONFIG = re.compile(r"(?:configs|projects)/[\w/]+\.py")
# Configs that docs/new_dataset.md tells its reader to write.
OF_THE_READER = {"configs/mini/sdpt_mini_fruit.py"}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@lru_cache
def options(command: tuple[str, ...]) -> set[str]:
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout, f"python {' '.join(command)} is no command"
    return set(re.findall(r"--[a-z][\w-]*", done.stdout))


def blocks(page: Path, *kinds: str) -> list[str]:
    # Blocks of all kinds, or the end of one would be taken for the beginning of the next.
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind in kinds]


def commands(page: Path) -> list[str]:
    """Commands of the page's shell blocks, with what continues them, and of its sentences."""
    text = "\n".join(blocks(page, "", "bash")).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [
        re.sub(r"^tools/", "python tools/", " ".join(line.split()))
        for line in [*text.splitlines(), *re.findall(r"`([^`]+)`", prose)]
        if re.match(r"python |make |pip |tools/\S+ \S", line)
    ]


def commands_of_configs() -> list[str]:
    """Commands in the comments of configs."""
    files = [*ROOT.glob("configs/**/*.py"), *ROOT.glob("projects/**/studies/**/*.py")]
    text = "\n".join(path.read_text() for path in files)
    lines = re.sub(r"\\\n#", " ", text).splitlines()
    return sorted({line.lstrip("# ") for line in lines if re.match(r"# +python (-m |\S+/)", line)})


def check(line: str) -> None:
    """Scripts, configs and options of the command exist."""
    for path in {*SCRIPT.findall(line), *CONFIG.findall(line)} - OF_THE_READER:
        assert (ROOT / path).is_file(), f"{line}: {path} is not there"
    words = shlex.split(line, comments=True)[1:]
    if "tools/train.py" in words[1:]:  # behind torch.distributed.run, whose options are others'
        words = words[words.index("tools/train.py") :]
    head = tuple(words[:2] if words[0] == "-m" else words[:1])
    if not (SCRIPT.fullmatch(head[0]) or MODULE.fullmatch(" ".join(head))):
        return
    known = options(head)
    rest = words[len(head) :]
    if rest and re.fullmatch(r"\w+", rest[0]) and known <= {"--help"}:  # a subcommand
        known = options((*head, rest[0]))
    unknown = {w.partition("=")[0] for w in rest if w.startswith("--")} - known
    assert not unknown, f"{line}: no option {', '.join(unknown)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} is not there"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", t).lower().replace(" ", "-") for t in titles}
            assert heading in anchors, f"{target}: no such heading"


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_commands_name_scripts_configs_and_options_that_exist(page):
    for line in commands(page):
        if line.startswith("python "):
            check(line)


def test_commands_in_comments_of_configs_name_what_exists():
    lines = commands_of_configs()
    assert lines
    for line in lines:
        check(line)


@pytest.mark.parametrize("folder", ["configs", "mmsdpt", "projects", "tests", "tools"])
def test_code_and_configs_name_pages_that_exist(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for page in re.findall(r"\bdocs/\w+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{name(path)}: {page} is not there"


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_studies_take_the_options_that_commands_give_them(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=Options)
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if "tools/experiments.py" in words and CONFIG.fullmatch(words[3]):
            options, _ = parser.parse_known_args(words[4:])
            assert load_study(words[3], options.cfg_options).cells()


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_targets_of_make_and_extras_of_pip_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = set(re.findall(r'^    "([\w-]+)": \[', (ROOT / "setup.py").read_text(), re.MULTILINE))
    for line in commands(page):
        if line.startswith("make "):
            assert targets & set(line.split()), f"{line}: no such target"
        if line.startswith("pip "):
            named = re.findall(r"(?:mmsdpt|\.)\[([\w,-]+)\]", line)
            assert {extra for found in named for extra in found.split(",")} <= extras, line


@pytest.mark.parametrize("page", PRESENT, ids=name)
def test_python_in_pages_parses_and_imports_what_exists(page):
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("mmsdpt"):
                module = importlib.import_module(node.module)
                for each in node.names:
                    assert hasattr(module, each.name), f"{node.module} has no {each.name}"
