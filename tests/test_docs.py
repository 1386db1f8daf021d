"""Promises of the pages: their links lead somewhere, and their commands name what is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "projects/*/README.md", "mmsdpt/assets/*/README.md")
    for path in ROOT.glob(pattern)
)
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
    return set(re.findall(r"--[a-z][\w-]*", done.stdout))


def commands(page: Path) -> list[str]:
    """Lines of the page's shell blocks that run something of ours, with what continues them."""
    # Blocks of all kinds, or the end of one would be taken for the beginning of the next.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    text = "\n".join(text for kind, text in blocks if kind in ("", "bash"))
    text = text.replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("python ")]


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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_scripts_configs_and_options_that_exist(page):
    for line in commands(page):
        for path in {*SCRIPT.findall(line), *CONFIG.findall(line)} - OF_THE_READER:
            assert (ROOT / path).is_file(), f"{line}: {path} is not there"
        words = shlex.split(line, comments=True)[1:]
        head = tuple(words[:2] if words[0] == "-m" else words[:1])
        if not (SCRIPT.fullmatch(head[0]) or MODULE.fullmatch(" ".join(head))):
            continue
        known = options(head)
        rest = words[len(head) :]
        if rest and re.fullmatch(r"\w+", rest[0]) and known <= {"--help"}:  # a subcommand
            known = options((*head, rest[0]))
        unknown = {w.partition("=")[0] for w in rest if w.startswith("--")} - known
        assert not unknown, f"{line}: no option {', '.join(unknown)}"
