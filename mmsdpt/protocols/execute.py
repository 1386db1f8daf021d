"""All cells of a protocol, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from .compose import Setup
from .plan import Cell, Training, by_training
from .results import cell_file, write_result
from .workshop import Workshop

Results = dict[Cell, dict[str, Any]]
_LOOK_AGAIN = 1.0  # seconds between looks at processes that may have ended


def run_cells(
    cells: Sequence[Cell],
    setup: Setup,
    root: Path,
    redo: bool = False,
    jobs: int = 1,
    threads: int | None = None,
    on_cell: Callable[[Cell, dict[str, Any]], None] | None = None,
) -> Results:
    """The results of all cells; ``error`` says why there is none.

    Args:
        cells: Cells; those of one training are computed together.
        setup: What all cells share.
        root: Folder of the results.
        redo: Compute what is finished, too.
        jobs: Processes that compute at a time. One: this one.
        threads: Threads of each; None: as PyTorch has it, divided among them.
        on_cell: Called after each cell.
    """
    groups = list(by_training(cells).items())
    found: Results = {}

    def note(cell: Cell, result: dict[str, Any]) -> None:
        found[cell] = result
        if on_cell is not None:
            on_cell(cell, result)

    if jobs <= 1:
        if threads:
            torch.set_num_threads(threads)
        workshop = Workshop(setup, root, redo)
        for training, group in groups:
            for cell, result in workshop.compute(training, group):
                note(cell, result)
    else:
        threads = threads or max(1, torch.get_num_threads() // jobs)
        _run_in_processes(groups, (setup, root, redo, threads), jobs, note)
    return {cell: found[cell] for cell in cells}


def _run_in_processes(
    groups: Sequence[tuple[Training, Sequence[Cell]]],
    settings: tuple[Setup, Path, bool, int],
    jobs: int,
    note: Callable[[Cell, dict[str, Any]], None],
) -> None:
    """Each process has a queue of its own, so that it is known which group a dead one had."""
    context = multiprocessing.get_context("spawn")
    results: Queue = context.Queue()
    waiting = list(reversed(groups))
    busy: dict[int, tuple[Any, Queue, list[Cell]]] = {}

    def give(number: int, process: Any, tasks: Queue) -> None:
        if waiting:
            training, group = waiting.pop()
            busy[number] = (process, tasks, list(group))
            tasks.put((training, group))
        else:
            busy.pop(number, None)
            tasks.put(None)

    def start(number: int) -> None:
        tasks: Queue = context.Queue()
        process = context.Process(target=_work, args=(number, settings, tasks, results))
        process.daemon = False  # it may start processes that load images
        process.start()
        give(number, process, tasks)

    # Threads of processes that wait by spinning take each other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for number in range(min(jobs, len(groups))):
        start(number)
    try:
        while busy:
            try:
                number, cell, result = results.get(timeout=_LOOK_AGAIN)
            except queue.Empty:
                for number, (process, _, left) in list(busy.items()):
                    if not process.is_alive() and results.empty():
                        error = dict(
                            error=f"its process ended with exit status {process.exitcode}, perhaps"
                            " for lack of memory: try fewer --jobs"
                        )
                        for cell in left:
                            write_result(cell_file(settings[1], cell), error)
                            note(cell, error)
                        del busy[number]
                        if waiting:
                            start(number)
                continue
            process, tasks, left = busy[number]
            if cell is None:
                give(number, process, tasks)
            else:
                left.remove(cell)
                note(cell, result)
    finally:
        for process, _, _ in busy.values():
            process.terminate()


def _work(
    number: int, settings: tuple[Setup, Path, bool, int], tasks: Queue, results: Queue
) -> None:
    """What each process does."""
    _end_with_parent()
    setup, root, redo, threads = settings
    # The runner sets how processes start, and warns where another way was set before.
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(threads)
    workshop = Workshop(setup, root, redo)
    try:
        for training, group in iter(tasks.get, None):
            for cell, result in workshop.compute(training, group):
                results.put((number, cell, result))
            results.put((number, None, None))
    except KeyboardInterrupt:
        return  # the one that started it says so


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, be it killed.

    Nothing would hear of its results, and it would compute for minutes before it noticed. What it
    was writing is not lost: files appear under their names only when they are complete.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
