"""The commands of tools/experiments.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmsdpt.utils.errors import InputError

from .jobs import Prepared
from .loading import load_study
from .page import write_plots, write_tables
from .plan import show, tell_problems
from .records import FAILED, Record
from .running import ending_on_sigterm
from .running import run as run_study
from .study import Study, records_file


def read_study(args: argparse.Namespace) -> tuple[Study, Path]:
    """The study given by the arguments, and the folder of its results."""
    for name in ("jobs", "threads"):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be a positive integer, got {value}")
    return load_study(args.study, args.cfg_options), Path(args.work_dir)


def plan(args: argparse.Namespace) -> int:
    """Print the plan. Returns 1 if something is missing or invalid."""
    study, work_dir = read_study(args)
    options = dict(measured=args.measure, threads=args.threads, only=args.only)
    with ending_on_sigterm():  # a measurement has a temporary folder
        return 0 if show(study, work_dir, _console(), **options) else 1


def run(args: argparse.Namespace) -> int:
    """Compute the unfinished cells. Returns 1 if a cell failed or something is missing."""
    study, work_dir = read_study(args)
    console = _console()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("preparing", total=None)

        def start(prepared: Prepared) -> None:
            total = sum(len(job.tests) for job in prepared.jobs)
            progress.update(task, total=total, description="")

        def show_record(record: Record) -> None:
            if record["status"] == FAILED:
                text = f"failed: {record['cell']}: {record['error']}"
                progress.console.print(text, style="red", soft_wrap=True)
                progress.update(task, advance=1)
            else:
                scores = [f"{name} {value:.4g}" for name, value in record["metrics"].items()]
                first = scores[0] if scores else "no score"
                progress.update(task, advance=1, description=f"{record['cell']}: {first}")

        records, prepared = run_study(
            study,
            work_dir,
            jobs=args.jobs,
            threads=args.threads,
            gpus=args.gpus,
            address=args.address,
            only=args.only,
            redo=args.redo,
            on_start=start,
            on_record=show_record,
        )
    missing = tell_problems(prepared, console)
    failed = sum(record["status"] == FAILED for record in records.values())
    if failed:
        console.print(
            f"{failed} of {len(records)} cells failed: run the command again to retry them."
        )
    console.print(f"Results: {records_file(study, work_dir)}", soft_wrap=True, highlight=False)
    return 1 if failed or missing else 0


def table(args: argparse.Namespace) -> int:
    """Write the results as pages."""
    return _tell(write_tables(*read_study(args), args.format))


def plot(args: argparse.Namespace) -> int:
    """Write the plots."""
    return _tell(write_plots(*read_study(args), args.format))


def _console() -> Console:
    """A console without markup, as paths and names of users may contain brackets."""
    return Console(markup=False, emoji=False)


def _tell(written: Sequence[Path]) -> int:
    for path in written:
        _console().print(f"Wrote {path}", soft_wrap=True, highlight=False)
    return 0
