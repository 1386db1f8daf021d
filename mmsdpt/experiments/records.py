"""The results of a study: a file with one JSON object per line, one line per cell.

A study ``NAME`` keeps its results in ``WORK_DIR/NAME.jsonl``, beside the folders of its cells.
Lines are only appended, and only by the process that runs the study. A cell that is computed again
(it failed, or its settings changed) gets another line, and the newest one counts. One that is not
yet computed again with its current settings is marked by a line without numbers. An invalid line,
such as one cut off when the process was killed, is skipped: the cell's folder still has the result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from mmsdpt.utils.atomic import naming

FINISHED, FAILED, OUTDATED = "finished", "failed", "outdated"
_ALWAYS = frozenset(  # in a record of any version
    ("cell", "host", "method", "settings", "tested_on", "tested_classes", "slots_on")
    + ("metrics", "digest", "status")
)


class Record(TypedDict):
    """One cell: a training and one of its tests. Unknown or meaningless values are None."""

    study: str
    protocol: str
    cell: str  # unique in a work folder: its path there, without the extension
    host: str
    method: str  # with several slots the one that was trained
    label: str  # of the method, for tables and plots
    trained_on: str | None  # data; None where nothing is trained
    trained_classes: str | None  # all, base or new
    shots: int | None  # training images of each class; None: all, or nothing is trained
    seed: int | None  # of the draw of the images and of the training
    settings: dict[str, Any]  # those that the study varies
    on_top_of: str | None  # the frozen method that was there first
    tested_on: str
    tested_classes: str  # all, base or new
    slots_on: list[str]  # in the test: default, or old and new
    # accuracy in percent, beside correct, total, num_classes and the alignment (matched, unmatched,
    # margin, gap); of detection as the metric names and scales them: coco/bbox_mAP is a fraction.
    metrics: dict[str, float]
    before: dict[str, float] | None  # the same with all tuners off, if the study tests that
    trainable: int | None  # parameters; 0 where nothing is trained
    base_parameters: int | None  # of the model without tuners
    epochs: int | None  # that were trained
    best_epoch: int | None  # whose state was kept by validation, 0: untrained; None: the last
    steps: int | None  # of the optimizer
    train_seconds: float | None  # by the clock, without building the model
    train_cpu_seconds: float | None  # processor time of all threads
    # Median of a step with its loading: processor time on a CPU, else by the clock.
    step_seconds: float | None
    test_seconds: float | None  # by the clock
    # Of the training, or of the test where nothing is trained: on a GPU what PyTorch allocated
    # there, else the resident memory of the process.
    peak_memory_bytes: int | None
    tuner_file: str | None  # relative to the work folder
    tuner_bytes: int | None
    device: str | None  # cpu or cuda
    threads: int | None  # of PyTorch
    versions: dict[str, str]  # of Python and the packages that results depend on
    digest: str  # SHA-256 of all that the result depends on
    recipe: str | None  # the same without versions; None: of a version that did not know it
    status: str  # finished, failed, or outdated: there were numbers, of another recipe
    error: str | None  # one sentence
    time: float  # when the record was written: seconds since 1970


def append_record(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Append one line, and wait until it is written to disk."""
    line = json.dumps(record, sort_keys=True) + "\n"
    with naming(path), os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:  # a line that was cut off keeps its own line
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(
    path: str | os.PathLike, cells: Iterable[str] | None = None, marks: bool = True
) -> list[dict]:
    """The newest record of each cell; see :class:`Record`.

    Args:
        path: The file of a study; if it is missing, there are no records.
        cells: Names of the requested cells, in this order; None: all, in the order of their first
            records.
        marks: False: ignore marks of outdated cells and return their earlier records.
    """
    newest: dict[str, dict] = {}
    path = Path(path)
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:  # of bytes that are no UTF-8, too
            continue
        if not isinstance(record, dict) or not record.keys() >= _ALWAYS:
            continue
        if marks or record["status"] != OUTDATED:
            newest[record["cell"]] = record
    wanted = newest if cells is None else cells
    return [newest[name] for name in wanted if name in newest]
