"""The results of a study: a file with one JSON object a line, one line for each cell.

A study ``NAME`` keeps its results in ``WORK_DIR/NAME.jsonl``, beside the folders of its cells.
Lines are only ever appended, by one process: the one that runs the study. A cell that is computed
again (it failed, or its settings changed) gets another line, and the newest one counts. A line that
was cut off when the process was killed is passed over: the cell's own folder still has the result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

FINISHED, FAILED = "finished", "failed"


class Record(TypedDict):
    """One cell: a training and a test of it. What is not known, or has no meaning, is None.

    Attributes:
        study: Name of the study.
        protocol: ``few_shot``, ``base_to_new``, ``transfer``, ``comparison`` or ``stacking``.
        cell: Name of the cell, unique in a work folder: its path there, without the ending.
        host: Name of the model's config.
        method: Name of the method; with several slots that of the one that was trained.
        label: Of the method, for tables and plots.
        trained_on: Data that the method was trained on; None where nothing is trained.
        trained_classes: ``all``, ``base`` or ``new``; None where nothing is trained.
        shots: Training images of each class; None: all, or nothing is trained.
        seed: Of the draw of the images and of the training; None where nothing is trained.
        settings: Settings of the tuner that the study varies, by name.
        on_top_of: Name of the frozen method that was there first.
        tested_on: Data of the test.
        tested_classes: ``all``, ``base`` or ``new``.
        slots_on: Slots that were switched on in the test: ``default``, or ``old`` and ``new``.
        metrics: Numbers by name. ``accuracy`` is in percent, beside ``correct``, ``total``,
            ``num_classes`` and the alignment (``matched``, ``unmatched``, ``margin``, ``gap``);
            those of detection are as the metric names and scales them: ``coco/bbox_mAP`` is a
            fraction.
        before: The same numbers for the model with all tuners off; None where that test is not
            part of the study or not finished.
        trainable: Trained parameters; 0 where nothing is trained.
        base_parameters: All parameters of the model without tuners.
        epochs: Epochs that were trained.
        best_epoch: The epoch whose state was kept by validation: 0 is the untrained model. None
            without selection: the last one.
        steps: Optimizer steps.
        train_seconds: Of the training by the clock, without building the model.
        train_cpu_seconds: The same in processor time of all threads.
        test_seconds: Of the test by the clock.
        peak_memory_bytes: Highest memory of the training, or of the test where nothing is trained:
            on a GPU what PyTorch allocated there, else the resident memory of the process.
        tuner_file: What was learned, relative to the work folder.
        tuner_bytes: Size of that file.
        device: ``cpu`` or ``cuda``.
        threads: Threads of PyTorch.
        versions: Of Python and the packages that results depend on.
        digest: SHA-256 of all that the result depends on.
        status: ``finished`` or ``failed``.
        error: Why it failed, in one sentence.
        time: When the record was written: seconds since 1970.
    """

    study: str
    protocol: str
    cell: str
    host: str
    method: str
    label: str
    trained_on: str | None
    trained_classes: str | None
    shots: int | None
    seed: int | None
    settings: dict[str, Any]
    on_top_of: str | None
    tested_on: str
    tested_classes: str
    slots_on: list[str]
    metrics: dict[str, float]
    before: dict[str, float] | None
    trainable: int | None
    base_parameters: int | None
    epochs: int | None
    best_epoch: int | None
    steps: int | None
    train_seconds: float | None
    train_cpu_seconds: float | None
    test_seconds: float | None
    peak_memory_bytes: int | None
    tuner_file: str | None
    tuner_bytes: int | None
    device: str | None
    threads: int | None
    versions: dict[str, str]
    digest: str
    status: str
    error: str | None
    time: float


def append_record(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Append one line, and wait until it is on the disk."""
    line = json.dumps(record, sort_keys=True) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:  # a line that was cut off keeps its own line
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(path: str | os.PathLike, cells: Iterable[str] | None = None) -> list[dict]:
    """The newest record of each cell; see :class:`Record`.

    Args:
        path: The file of a study; without a file there are no records.
        cells: Names of the cells wanted, in this order; None: all, in the order of their first
            records.
    """
    newest: dict[str, dict] = {}
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "cell" in record:
            newest[record["cell"]] = record
    wanted = newest if cells is None else cells
    return [newest[name] for name in wanted if name in newest]
