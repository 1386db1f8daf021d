"""The tools of the command line in the process of a test."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmsdpt.utils.cli import run_tool

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def load_tool(name: str) -> ModuleType:
    """A tool as a module, by its path below ``tools``."""
    spec = importlib.util.spec_from_file_location(f"{Path(name).stem}_tool", TOOLS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> int:
    """Run a tool as from the command line, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_tool(load_tool(name).main)
    return ended.value.code
