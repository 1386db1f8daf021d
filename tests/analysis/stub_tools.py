"""In place of tools/train.py and tools/test.py: what they would leave behind, in no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from mmsdpt.analysis.cells import CellError
from mmsdpt.analysis.commands import Usage
from mmsdpt.engine.hooks.trainable_table import trainable_table


def small_model() -> nn.Module:
    """12 parameters train, 1,200 do not."""
    model = nn.ModuleDict(dict(host=nn.Linear(1199, 1), tuners=nn.Linear(11, 1)))
    model["host"].requires_grad_(False)
    return model


class StubTools:
    """A command runner; remembers the commands.

    Args:
        fails: Parts of the commands that fail.
    """

    def __init__(self, fails: Sequence[str] = ()) -> None:
        self.fails = fails
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], log: Path) -> Usage:
        self.commands.append(list(command))
        if any(part in " ".join(command) for part in self.fails):
            log.write_text("RuntimeError: out of memory\n")
            raise CellError("RuntimeError: out of memory")
        folder = Path(command[command.index("--work-dir") + 1])
        assert folder == log.parent
        if command[1].endswith("train.py"):
            log.write_text(f"2025/01/01 - INFO -\n{trainable_table(small_model())}\nEpoch [1]\n")
            (folder / "tuner.safetensors").write_bytes(" ".join(command).encode())
        else:
            log.write_text("Epoch(test)\n")
            # The score tells which slots were on.
            on = sum(1 for word in command[: command.index("--work-dir")] if "=" in word)
            (folder / "20250101").mkdir()
            scores = {"coco/bbox_mAP": 0.2 + 0.1 * on, "coco/bbox_mAP_50": 0.4, "time": 1.0}
            (folder / "20250101" / "20250101.json").write_text(json.dumps(scores))
        return Usage(wall_s=10.0, cpu_s=9.0, peak_bytes=500_000_000)

    def of(self, tool: str) -> list[list[str]]:
        """The commands of one tool."""
        return [command for command in self.commands if command[1].endswith(tool)]
