"""Trainings and tests of a table: cells that run tools/train.py and tools/test.py."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmsdpt.utils.base_weights import resolve_checkpoint
from mmsdpt.utils.cli import load_config

from .cells import CellBook, CellError, file_digest
from .commands import Run
from .report import versions

_TUNER_FILES = ("best_tuner.safetensors", "tuner.safetensors")
# The last row of TrainableTableHook's table: share, total, tensors, trainable.
_TABLE = re.compile(r"% of ([\d,]+)\W+[\d,]+\W+([\d,]+)")


class ToolRuns:
    """Trains and tests configs through the command line tools, once each.

    A training or test is known by its config's content with all overrides, the base weights and
    tuner files that it reads, and the versions of mmsdpt, PyTorch and MMDetection.

    Args:
        tools: Folder with train.py and test.py.
        work_dir: Where they write; each cell has a folder of its own.
        book: Keeps the results.
        run: Runs a command.
        options: Overrides for all configs, as after ``--cfg-options``.
        seed: Of all trainings.
        conditions: What else measured times depend on.
        on_cell: Called after each cell.
    """

    def __init__(
        self,
        tools: Path,
        work_dir: Path,
        book: CellBook,
        run: Run,
        options: Sequence[str] = (),
        seed: int = 0,
        conditions: Mapping[str, Any] | None = None,
        on_cell: Callable[[str], None] | None = None,
    ) -> None:
        self.tools, self.work_dir, self.book, self.run = tools, work_dir, book, run
        self.options = [f"randomness.seed={seed}", *options]
        self.conditions = dict(conditions or {})
        self.on_cell = on_cell
        self._configs: dict[tuple[str, ...], Config] = {}
        self._reading = threading.Lock()  # MMEngine reads configs through global state

    def config(self, path: Path, options: Sequence[str] = ()) -> Config:
        """The config as the tools will see it; not to be changed."""
        key = (str(path), *options)
        with self._reading:
            if key not in self._configs:
                self._configs[key] = self._read(path, options)
            return self._configs[key]

    def _read(self, path: Path, options: Sequence[str]) -> Config:
        parser = argparse.ArgumentParser()
        parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        parsed = parser.parse_args(["--cfg-options", *self.options, *options])
        overrides = dict(launcher="none", data_root=None, work_dir=None)
        return load_config(argparse.Namespace(config=str(path), **overrides, **vars(parsed)))

    def train(self, name: str, path: Path, options: Sequence[str] = ()) -> dict[str, Any] | None:
        """Train a config.

        Args:
            name: Of the cell and its folder.
            path: Of the config.
            options: More overrides.

        Returns:
            ``wall_s``, ``cpu_s``, ``peak_bytes``; ``trainable`` and ``base``, the parameters that
            train and all others; ``tuner_file`` (the best one, or the newest), its ``tuner_bytes``
            and ``tuner_digest``. None if it failed.
        """
        folder = self.work_dir / name

        def work() -> dict[str, Any]:
            log = _empty(folder)
            used = self.run(self._command("train.py", path, folder, options), log)
            trainable, total = read_trainable(log.read_text(encoding="utf-8", errors="replace"))
            return dict(
                asdict(used), trainable=trainable, base=total - trainable, **_tuner_file(folder)
            )

        return self._cell(name, partial(self._inputs, "train", path, options), work)

    def test(
        self,
        name: str,
        path: Path,
        files: Mapping[str, str] | None = None,
        inputs: Callable[[], Mapping[str, Any]] | None = None,
    ) -> dict[str, Any] | None:
        """Test a config.

        Args:
            name: Of the cell and its folder.
            path: Of the config.
            files: Tuner files by slot; a slot without a file is switched off.
            inputs: What decides the scores; by default all of the config.

        Returns:
            ``wall_s``, ``cpu_s``, ``peak_bytes``, and ``scores`` as the metric names them. None if
            it failed.
        """
        folder = self.work_dir / name

        def options() -> list[str]:
            # Files that the config itself names are put aside: a slot without a file is off.
            return ["tuner_files._delete_=True"] if self.config(path).get("tuner_files") else []

        def work() -> dict[str, Any]:
            log = _empty(folder)
            command = self._command("test.py", path, folder, options())
            chosen = [f"{slot}={file}" for slot, file in (files or {}).items()]
            position = command.index(str(path)) + 1
            command[position:position] = chosen or ["--tuners-off"]
            used = self.run(command, log)
            return dict(asdict(used), scores=read_scores(folder))

        def all_of_the_config() -> dict[str, Any]:
            return self._inputs("test", path, options(), files)

        return self._cell(name, inputs or all_of_the_config, work)

    def skip(self, name: str, reason: str) -> None:
        """A cell that cannot be tried, because another one failed."""
        self.book.fail(name, reason)
        if self.on_cell is not None:
            self.on_cell(name)

    def base_digest(self, cfg: Config) -> str | None:
        """Fingerprint of the base weights of a config; an address stands for itself."""
        if not cfg.get("load_from"):
            return None
        path = resolve_checkpoint(cfg.load_from)
        return file_digest(path) if Path(path).is_file() else path

    def _inputs(
        self,
        what: str,
        path: Path,
        options: Sequence[str],
        files: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        cfg = self.config(path, options)
        files = {**(cfg.get("tuner_files") or {}), **(files or {})}
        missing = [file for file in files.values() if not Path(file).is_file()]
        if missing:
            raise CellError(f"tuner file not found: {missing[0]}")
        return dict(
            what=what,
            config=cfg.to_dict(),
            base=self.base_digest(cfg),
            tuners={slot: file_digest(file) for slot, file in files.items()},
            versions=versions(),
            conditions=self.conditions,
        )

    def _cell(
        self,
        name: str,
        inputs: Callable[[], Mapping[str, Any]],
        work: Callable[[], Mapping[str, Any]],
    ) -> dict[str, Any] | None:
        result = self.book.run(name, inputs, work, _is_whole)
        if self.on_cell is not None:
            self.on_cell(name)
        return result

    def _command(self, tool: str, path: Path, folder: Path, options: Sequence[str]) -> list[str]:
        start = [sys.executable, str(self.tools / tool), str(path), "--work-dir", str(folder)]
        return [*start, "--cfg-options", *self.options, *options]


def read_trainable(log: str) -> tuple[int, int]:
    """Trainable and all parameters, from the table that a training logs.

    Raises:
        CellError: if there is no table.
    """
    found = _TABLE.findall(log)
    if not found:
        raise CellError("the training's log has no table of trainable parameters")
    total, trainable = (int(number.replace(",", "")) for number in found[-1])
    return trainable, total


def read_scores(folder: Path) -> dict[str, float]:
    """Scores that a test logged as JSON in its work directory.

    Raises:
        CellError: if there are none.
    """
    logged = sorted(folder.glob("*/*.json"))
    if not logged:
        raise CellError(f"the test logged no scores in {folder}")
    content = json.loads(logged[-1].read_text(encoding="utf-8"))
    times = ("data_time", "time")
    scores = {name: value for name, value in content.items() if name not in times}
    if not any(isinstance(value, (int, float)) for value in scores.values()):
        raise CellError(f"{logged[-1]} holds no scores")
    return scores


def _tuner_file(folder: Path) -> dict[str, Any]:
    for name in _TUNER_FILES:
        path = folder / name
        if path.is_file():
            size = path.stat().st_size
            return dict(tuner_file=str(path), tuner_bytes=size, tuner_digest=file_digest(path))
    raise CellError(f"the training left no tuner file in {folder}")


def _is_whole(result: Mapping[str, Any]) -> bool:
    """Whether the tuner file of a training is the one that it wrote."""
    if "tuner_file" not in result:
        return True
    path = Path(result["tuner_file"])
    return path.is_file() and file_digest(path) == result["tuner_digest"]


def _empty(folder: Path) -> Path:
    """Remove what an earlier try left in ``folder``; returns the path of the log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder / "output.log"
