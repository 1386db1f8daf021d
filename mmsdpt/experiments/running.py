"""Run all jobs of a study: one after the other in this process, or in parallel on Ray."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mmsdpt.utils.errors import InputError

from .images import DatasetCache
from .jobs import Job, Prepared, new_record, prepare
from .records import FINISHED, OUTDATED, Record, append_record, read_records
from .study import ZERO_SHOT, Study, Training, records_file
from .testing import warn_of_other_images
from .worker import Result, Worker, known_results, show_warnings

OnRecord = Callable[[Record], None]
_OBJECT_STORE = 200 * 1024**2  # bytes; jobs and results are small
_RETRIES = 1  # with the same worker, by Ray
_MOVES, _PAUSE = 3, 5.0  # to another worker; seconds before the first time
_STARTS = 4  # of Ray


class Ledger:
    """Writes the records of a run. The tests of the plain model must come first.

    Args:
        work_dir: Folder of the results.
        jobs: All jobs of the study. Records of their tests with other recipes are marked as
            outdated, so that no table mixes them with the current settings. Records that differ
            only in versions stay; tables list the versions.
        on_record: Called with each record of this run, including already finished ones.
    """

    def __init__(
        self, study: Study, work_dir: Path, jobs: Sequence[Job], on_record: OnRecord | None
    ) -> None:
        self.study, self.on_record = study, on_record
        self.path = records_file(study, work_dir)
        self.records: dict[str, Record] = {}
        self._results = {each["cell"]: each for each in read_records(self.path, marks=False)}
        self._written: dict[str, Mapping[str, Any]] = {
            each["cell"]: each for each in read_records(self.path)
        }
        for job in jobs:
            self._mark_outdated(job)
        plain = [x for x in self._written.values() if x["method"] == ZERO_SHOT]
        self._plain = {_place(each): each["metrics"] or None for each in plain}

    def _mark_outdated(self, job: Job) -> None:
        for test in job.tests:
            record = self._written.get(test.cell.name, {})
            others = record.get("recipe") not in (None, test.recipe)
            if others and record["status"] == FINISHED:
                kept = {name: record[name] for name in ("digest", "recipe", "versions")}
                kept.update(status=OUTDATED, time=time.time())
                mark = new_record(self.study, job, test, kept)
                append_record(self.path, mark)
                self._written[test.cell.name] = mark

    def known(self, job: Job) -> dict[str, Result]:
        """Results by digest of a job whose folder is missing: a study can continue from only its
        file of results.
        """
        found = {}
        for test in job.tests:
            record = self._results.get(test.cell.name, {})
            if record.get("status") == FINISHED and record.get("digest") == test.digest:
                found[test.digest] = {**record, "study": self.study.name, "recipe": test.recipe}
        return found

    def add(self, job: Job, found: Sequence[Mapping[str, Any]]) -> None:
        """Record the results of a job."""
        for test, result in zip(job.tests, found, strict=True):
            record = new_record(self.study, job, test, result)
            if _is_plain(job):
                self._plain[_place(record)] = record["metrics"] or None
            record["before"] = self._plain.get(_place(record))
            known = self._written.get(record["cell"], {})
            record["time"] = known.get("time", 0.0)
            if {**known, "recipe": record["recipe"]} != record:  # files of version 0.2 have none
                record["time"] = time.time()
                append_record(self.path, record)
            self.records[record["cell"]] = record
            if self.on_record is not None:
                self.on_record(record)


def _is_plain(job: Job) -> bool:
    return job.training.data is None and job.training.method == ZERO_SHOT


def _place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["host"], record["tested_on"], record["tested_classes"]


def run(
    study: Study,
    work_dir: str | os.PathLike,
    *,
    jobs: int = 1,
    threads: int | None = None,
    gpus: float | None = None,
    address: str | None = None,
    only: Sequence[str] = (),
    redo: bool = False,
    on_start: Callable[[Prepared], None] | None = None,
    on_record: OnRecord | None = None,
) -> tuple[dict[str, Record], Prepared]:
    """Compute all unfinished cells of a study.

    Args:
        work_dir: Folder of the results; must be shared between machines.
        jobs: Number of parallel jobs. 1: in this process, without Ray.
        threads: PyTorch threads per job; None: all cores, divided among the jobs.
        gpus: GPUs per job; None: 1, or less if there are more jobs than GPUs.
        address: Address of a Ray cluster (``auto``, ``HOST:PORT``); None: only this machine.
        only: Parts of cell names; other cells are left out.
        redo: Also recompute finished cells.
        on_start: Called with the prepared jobs.
        on_record: Called with the record of each cell.

    Returns:
        Records by cell, and what was prepared.

    Raises:
        InputError: before anything is computed, if a part of the study is invalid, or another
            process runs the study in this folder.
    """
    root = Path(work_dir).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root / f".{study.name}.lock"), ending_on_sigterm():
        show_warnings()
        cache = DatasetCache(keep_images=not torch.cuda.is_available())
        everything = prepare(study, root, cache)
        prepared = everything.only(study, only)
        if prepared.refused:
            raise InputError("; ".join(prepared.refused))
        if on_start is not None:
            on_start(prepared)
        results = Ledger(study, root, everything.jobs, on_record)
        todo: list[Job] = []
        finished: list[tuple[Job, list[Result]]] = []
        bases: set[Training | None] = set()  # of open jobs, which need their tuner files
        for job in reversed(prepared.jobs):  # what builds on another comes after it
            known = {} if redo else known_results(job, root)
            if not known and not redo and job.training not in bases:
                known = results.known(job)
            if all(test.digest in known for test in job.tests):
                finished.append((job, [known[test.digest] for test in job.tests]))
            else:
                todo.append(job)
                bases.add(job.training.on)
        todo = sorted(reversed(todo), key=lambda job: not _is_plain(job))
        finished.reverse()
        warn_of_other_images((test for job in todo for test in job.tests), cache)
        if todo and (jobs > 1 or address is not None):
            computed = _on_ray(todo, root, jobs, threads, gpus, address, redo)
        else:
            worker = Worker(root, threads, cache)
            computed = ((job, worker.compute(job, redo)) for job in todo)
        with closing(computed):
            # Results are recorded with those of the plain model, so it comes first.
            for job, found in _plain_first(finished, computed):
                results.add(job, found)
    return results.records, prepared


def _plain_first(
    finished: Sequence[tuple[Job, list[Result]]], computed: Iterator[tuple[Job, list[Result]]]
) -> Iterator[tuple[Job, list[Result]]]:
    """Finished and new results in one order, those of the plain model first."""
    yield from ((job, found) for job, found in finished if _is_plain(job))
    others = [(job, found) for job, found in finished if not _is_plain(job)]
    for job, found in computed:
        if not _is_plain(job):
            yield from others
            others = []
        yield job, found
    yield from others


# ------------------------------------------------------------------------------- several at a time


def _on_ray(
    todo: Sequence[Job],
    root: Path,
    jobs: int,
    threads: int | None,
    gpus: float | None,
    address: str | None,
    redo: bool,
) -> Generator[tuple[Job, list[Result]], None, None]:
    """Results of jobs as they finish, those of the plain model first.

    A worker has one job at a time. If it dies, Ray restarts it with its job. An idle worker is
    ended, so that another can take its place.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "parallel jobs need Ray: pip install 'mmsdpt[experiments]', or use --jobs 1"
        ) from None
    with _ray(jobs, threads, address) as threads, ending_on_sigterm():  # Ray has its own handler
        have = ray.cluster_resources()
        if gpus is None:
            gpus = min(1.0, have.get("GPU", 0) / jobs)
        kind = ray.remote(
            num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=_RETRIES
        )(_Remote)
        open_ = list(todo)  # neither finished nor running
        trainings = {job.training for job in todo}
        done: set[Any] = set()
        moved: Counter[str] = Counter()  # how often a job was moved to another worker
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, Job]] = {}
        while open_ or busy:
            ready = [j for j in open_ if j.training.on not in trainings or j.training.on in done]
            if any(_is_plain(job) for job in [*open_, *(job for _, job in busy.values())]):
                ready = [job for job in ready if _is_plain(job)]  # others are compared with it
            for job in ready:
                if not idle and len(busy) >= jobs:
                    break
                actor = idle.pop() if idle else kind.remote(str(root), threads, os.getcwd())
                busy[actor.compute.remote(job, redo)] = (actor, job)
                open_.remove(job)
            while idle:
                ray.kill(idle.pop())
            (reference,), _ = ray.wait(list(busy))
            actor, job = busy.pop(reference)
            try:
                found = ray.get(reference)
                idle.append(actor)
            except ray.exceptions.RayError as error:
                ray.kill(actor)
                moved[job.training.folder] += 1
                if moved[job.training.folder] <= _MOVES:
                    # Ray takes some seconds to notice that a machine is gone, and until then would
                    # start the next worker there.
                    time.sleep(_PAUSE * moved[job.training.folder])
                    open_.append(job)
                    continue
                found = [dict(error=_why(error))] * len(job.tests)
            done.add(job.training)
            yield job, found


def _why(error: Exception) -> str:
    """Why a job has no result even after restarts."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        "its worker died repeatedly, perhaps out of memory: use fewer --jobs"
        f" ({type(error).__name__}: {lines[-1] if lines else 'no message'})"
    )


class _Remote(Worker):
    """A worker in a separate process."""

    def __init__(self, work_dir: str, threads: int, folder: str) -> None:
        os.chdir(folder)  # paths of data are relative to it
        super().__init__(work_dir, threads)


@contextmanager
def _ray(jobs: int, threads: int | None, address: str | None) -> Iterator[int]:
    """Context with a Ray cluster: a local one that ends with the context, or an existing one.

    Yields:
            Threads of each job.
    """
    import ray

    # Threads that wait by spinning would block each other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: others would starve it
    common: dict[str, Any] = dict(log_to_driver=False, logging_level="ERROR")
    if address is not None:
        ray.init(address=address, **common)
        try:
            yield threads or 1
        finally:
            ray.shutdown()
        return
    threads = threads or max(1, _cores() // jobs)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # socket paths must be short
    try:
        _start_ray(
            num_cpus=jobs * threads,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _temp_dir=folder,
            **common,
        )
        yield threads
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start_ray(**options: Any) -> None:
    """Start Ray on this machine, with retries: a busy one may need more than Ray's 30 seconds."""
    import ray

    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises plain Exception
            ray.shutdown()
            if attempt == _STARTS:
                raise InputError(
                    f"Ray could not be started ({error}): retry when the machine is less busy, or"
                    " use --jobs 1"
                ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock the results of a study for this process; the lock ends with the process."""
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"another process runs this study in {path.parent}: wait for it, or choose another"
            " --work-dir"
        ) from None


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that everything is cleaned up."""

    def end(number: int, _: Any) -> None:
        signal.alarm(0)  # Ray aborts the process three seconds after SIGTERM, during the cleanup
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
