"""The plan of a study: its cells and their predicted cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from mmsdpt.engine.feature_cache import DRAWN
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.texts import read_json

from .images import DatasetCache
from .jobs import Job, Prepared, digest, in_one_line, prepare
from .measure import measure, test_key
from .records import FAILED, FINISHED, read_records
from .study import Study, records_file

MEASURED_FILE = "measured.json"
OPEN, MISSING = "open", "missing"


@dataclass
class Row:
    """A cell of the plan."""

    cell: str
    trainable: int | None  # parameters
    # Predicted time of the test, plus the training for its first cell; measured time if finished.
    # None: not measured.
    seconds: float | None
    memory: float | None  # in bytes: predicted peak, or what was measured
    state: str  # finished, failed, open, or missing (data or weights)


def measure_key(job: Job) -> str:
    """Key of jobs with the same cost per step."""
    config = job.config
    decides = [config.get(name) for name in ("model", "test_dataloader", "feature_cache")]
    for part, name in (("train_dataloader", "batch_size"), ("optim_wrapper", "type")):
        decides.append(config.get(part, {}).get(name))
    if config.get("encoder_dtype"):
        decides.append(config["encoder_dtype"])
    return digest(dict(decides=[job.kind, *decides, torch.get_num_threads()]))


def measure_all(prepared: Prepared, work_dir: Path, cache: DatasetCache) -> list[str]:
    """Measure each kind of job, and save the numbers in the work folder.

    Returns:
        Errors of kinds that could not be measured, in one sentence each.
    """
    problems = []
    known = read_measured(work_dir)
    for key, job in {measure_key(job): job for job in prepared.jobs}.items():
        try:
            known[key] = measure(job, work_dir, cache)
        except Exception as error:  # the others can still be measured
            problems.append(f"{job.training.folder}: {in_one_line(error)}")
        write_atomically(work_dir / MEASURED_FILE, json.dumps(known, indent=1).encode())
    return problems


def read_measured(work_dir: Path) -> dict[str, dict[str, float]]:
    """The numbers that :func:`measure_all` saved.

    Raises:
        InputError: if their file cannot be read.
    """
    path = work_dir / MEASURED_FILE
    return read_json(path) if path.is_file() else {}


def rows(study: Study, prepared: Prepared, work_dir: Path) -> list[Row]:
    """The cells of a study with their state and cost."""
    measured = read_measured(work_dir)
    path = records_file(study, work_dir)
    records = {each["cell"]: each for each in read_records(path, marks=False)}
    found: list[Row] = []
    shared: set[tuple[str, str, str]] = set()  # test sets whose features are already computed
    for job in prepared.jobs:
        cost = measured.get(measure_key(job))
        for number, test in enumerate(job.tests):
            place = (job.training.host, test.cell.data, test.cell.classes)
            record = records.get(test.cell.name, {})
            if record.get("digest") != test.digest:
                record = {}
            seconds, memory = None, None
            if record.get("status") == FINISHED:
                seconds = record["test_seconds"] + (0 if number else record["train_seconds"] or 0)
                memory = record["peak_memory_bytes"]
            elif cost:
                an_image = cost.get(test_key(test), cost["test"])
                seconds, memory = test.images * an_image, cost["memory"]
                if place not in shared:
                    seconds += test.images * cost["features"]
                if not number:
                    seconds += cost["build"] + training_seconds(job, cost, study)
            if cost and cost["features"]:
                shared.add(place)
            state = record.get("status", OPEN)
            found.append(Row(test.cell.name, job.trainable, seconds, memory, state))
    missing = dict.fromkeys(chain(*prepared.missing.values()))
    found += [Row(cell, None, None, None, MISSING) for cell in missing]
    order = {cell.name: place for place, cell in enumerate(study.cells())}
    return sorted(found, key=lambda row: order[row.cell])


def training_seconds(job: Job, cost: Mapping[str, float], study: Study) -> float:
    """Predicted time of a training with its validations."""
    if not cost["step"]:  # fitted to features: most of the training is computing them
        return job.images * cost["features"]
    seconds = job.images * cost["load"]
    epochs = job.config["train_cfg"]["max_epochs"]
    seconds += job.steps * cost["step"]
    if (kept := job.config.get("feature_cache")) is not None:
        views = kept.get("views") or 1
        times = min(epochs, 2 if views == DRAWN else views)  # drawn: with and without a flip
        seconds += job.images * times * cost.get("keep", 0.0)  # not in files of version 0.2
    if study.selection:
        times = 1 + -(-epochs // job.config["train_cfg"]["val_interval"])
        seconds += times * job.validation_images * (cost["test"] + cost["features"])
    return seconds


def show(
    study: Study,
    work_dir: Path,
    console: Console,
    *,
    measured: bool = False,
    threads: int | None = None,
    only: Sequence[str] = (),
) -> bool:
    """Print the plan of a study, after measuring (``measured``) or with earlier measurements.

    Args:
        console: A console without markup, as names and paths may contain brackets.

    Returns:
        Whether all cells can be computed.
    """
    if threads:
        torch.set_num_threads(threads)
    cache = DatasetCache()
    prepared = prepare(study, work_dir, cache).only(study, only)
    problems = []
    if measured:
        work_dir.mkdir(parents=True, exist_ok=True)
        problems = measure_all(prepared, work_dir, cache)
    found = rows(study, prepared, work_dir)
    console.print(f"{study.name}: {study.protocol}")
    line = "{:>12}{:>10}{:>12}  {:9} {}"
    console.print(line.format("trainable", "minutes", "memory, MB", "state", "cell"))
    for row in found:
        minutes = "" if row.seconds is None else f"{row.seconds / 60:.2f}"
        memory = "" if row.memory is None else f"{row.memory / 1e6:,.0f}"
        trainable = "" if row.trainable is None else f"{row.trainable:,}"
        text = line.format(trainable, minutes, memory, row.state, row.cell)
        console.print(text, soft_wrap=True, highlight=False)
    states = [row.state for row in found]
    open_ = [row for row in found if row.state in (OPEN, FAILED)]
    known = [row.seconds for row in open_ if row.seconds is not None]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    console.print(f"{len(found)} cells: {counts or 'none'}.")
    if known:
        more = "" if len(known) == len(open_) else f", and {len(open_) - len(known)} not measured"
        console.print(f"To do: {sum(known) / 60:.1f} minutes with --jobs 1{more}.")
    elif open_:
        console.print("Use --measure to estimate minutes and memory of open cells.")
    for left_out in study.left_out:
        label = study.methods[left_out].label
        console.print(f"Left out: {label}, which can only predict the classes it was trained on.")
    for problem in problems:
        console.print(Text.assemble(("not measured", "yellow"), f": {problem}"), soft_wrap=True)
    return not tell_problems(prepared, console)


def tell_problems(prepared: Prepared, console: Console) -> bool:
    """Print missing files and invalid settings. Returns whether there are any."""
    for what, problems in (("missing", prepared.missing), ("refused", prepared.refused)):
        for sentence, cells in problems.items():
            count = len(dict.fromkeys(cells))
            found = f", for {count} cell{'s' * (count > 1)}: {sentence}"
            console.print(Text.assemble((what, "red"), found), soft_wrap=True)
    return bool(prepared.missing or prepared.refused)
