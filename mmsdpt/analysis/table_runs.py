"""What tools that fill a table with trainings and tests share: options, progress, processes."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from .cells import CellBook
from .commands import CommandRunner, Run
from .report import check_format, versions
from .tool_runs import ToolRuns

T = TypeVar("T")
R = TypeVar("R")

RESULTS = "results.json"


def add_run_arguments(parser: argparse.ArgumentParser, work_dir: str, out: Path) -> None:
    """Options of a tool that fills a table.

    Args:
        parser: Of the tool.
        work_dir: Default folder of the trainings and tests.
        out: Default file of the table.
    """
    parser.add_argument("--out", type=Path, default=out, help=".md for the page, .csv or .json")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path(work_dir),
        help="folder of the trainings and tests, and of the results as they come",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all trainings")
    parser.add_argument("--jobs", type=int, default=1, help="trainings or tests at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="override settings of all configs"
    )


class TableRun:
    """The trainings and tests of one call of a tool.

    Used in a ``with`` statement, which shows the progress; whatever breaks it off ends the
    processes that run.

    Args:
        args: With what :func:`add_run_arguments` adds.
        tools: Folder with train.py and test.py.
        run: Runs a command; by default as a measured process.
    """

    def __init__(self, args: argparse.Namespace, tools: Path, run: Run | None = None) -> None:
        check_format(args.out)
        self.args = args
        self.book = CellBook(args.work_dir / RESULTS)
        self._runner = CommandRunner(args.threads)
        self._bar = tqdm(total=0, unit="run", file=sys.stderr)
        self.runs = ToolRuns(
            tools,
            args.work_dir,
            self.book,
            run or self._runner,
            args.cfg_options,
            args.seed,
            conditions=dict(threads=args.threads, jobs=args.jobs),
            on_cell=self._advance,
        )

    def __enter__(self) -> TableRun:
        self._terminate = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        signal.signal(signal.SIGTERM, self._terminate)
        self._bar.close()

    def expect(self, cells: int) -> None:
        """Set the number of cells that the progress is measured against."""
        self._bar.total = cells
        self._bar.refresh()

    def _advance(self, name: str) -> None:
        self._bar.set_postfix_str(name, refresh=False)
        self._bar.update()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``work`` on all items, as many at a time as the tool was told."""
        pool = ThreadPoolExecutor(self.args.jobs)
        try:
            return list(pool.map(work, items))
        except BaseException:
            self._runner.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def error(self, *cells: str) -> str | None:
        """Why the first of these cells that failed did."""
        return next((self.book.errors[name] for name in cells if name in self.book.errors), None)

    def facts(self, command: Sequence[str]) -> dict[str, Any]:
        """What belongs to all results: the command, how it ran, and versions."""
        return dict(
            command=shlex.join(command),
            seed=self.args.seed,
            threads=self.args.threads,
            jobs=self.args.jobs,
            versions=versions(),
        )

    def exit_status(self) -> int:
        """1 if a cell failed, after saying which; 0 otherwise."""
        for name, error in self.book.errors.items():
            sys.stderr.write(f"failed: {name}: {error}\n")
        return 1 if self.book.errors else 0
