"""Stack a second method on a frozen first one, and test both tasks with either on or off.

``python tools/analysis_tools/compatibility.py`` runs the SDPT poster's compatibility table on mini
GLIP: Adapter or VPT trains on task A and is frozen, then SDPT, or another one of the same method,
trains on task B with both attached; docs/compatibility.md gets the table. ``--model glip_l`` runs
the same from COCO to Aquarium, where weights and data are. Results are kept in the work directory
as they come: the same command goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsdpt.analysis.commands import Run
from mmsdpt.analysis.report import Column, run_facts, to_markdown, write_report
from mmsdpt.analysis.table_runs import TableRun, add_run_arguments
from mmsdpt.utils.cli import run_tool

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
# First method to the second ones: the poster's rows.
SECOND = dict(adapter=("adapter", "sdpt"), vpt=("vpt", "sdpt"))
LABELS = dict(adapter="Adapter", vpt="VPT", sdpt="SDPT")
MEGA = 1e-6
_COSTS = ("trainable", "wall_s", "cpu_s", "peak_bytes")


@dataclass(frozen=True)
class Size:
    """The table on one model.

    Attributes:
        folder: Of the configs.
        ending_a: Of the configs on the first task.
        ending_b: Of those on the second.
        task_a: Name of the first task.
        task_b: Name of the second.
    """

    folder: Path
    ending_a: str
    ending_b: str
    task_a: str
    task_b: str

    def config(self, methods: str, ending: str) -> Path:
        """The config of stacked methods on a task."""
        return self.folder / f"{methods}_{ending}.py"


_FOLDER = CONFIGS / "compatibility"
SIZES = dict(
    mini=Size(_FOLDER / "mini", "mini_thermal", "mini_new_names", "thermal", "new_names"),
    glip_l=Size(_FOLDER, "glip_l_coco", "glip_l_aquarium", "COCO", "Aquarium"),
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SIZES, default="mini")
    parser.add_argument(
        "--first", nargs="+", choices=SECOND, default=list(SECOND), help="only the rows of these"
    )
    add_run_arguments(parser, "work_dirs/compatibility", ROOT / "docs" / "compatibility.md")
    return parser.parse_args(argv)


# ---------------------------------------------------------------------- cells


class Stacks:
    """The cells of the table: two tests without a method; per first method a training and two
    tests; per stack a training and four tests.

    Args:
        table: Runs them.
        size: Model and tasks.
    """

    def __init__(self, table: TableRun, size: Size) -> None:
        self.table, self.runs, self.size = table, table.runs, size

    def rows(self, first: Sequence[str]) -> list[dict[str, Any]]:
        """A row per stack with ``a_*`` and ``b_*``, the AP on both tasks with ``none``, ``old``,
        ``new`` or ``both`` slots on, and what the second training cost.
        """
        pairs = [(one, two) for one in first for two in SECOND[one]]
        self.table.expect(2 + 3 * len(first) + 5 * len(pairs))
        a, b = self.table.map(self._test_plain, (self.size.ending_a, self.size.ending_b))
        plain = _present(a_none=a, b_none=b)
        olds = dict(zip(first, self.table.map(self._first, first), strict=True))
        stacked = self.table.map(lambda pair: self._second(*pair, olds[pair[0]]), pairs)
        return [
            dict(first=LABELS[one], second=LABELS[two], **plain, **row)
            for (one, two), row in zip(pairs, stacked, strict=True)
        ]

    def _test_plain(self, ending: str) -> float | None:
        return self._test("none", ending, self.size.config("adapter_then_sdpt", ending), {})

    def _first(self, method: str) -> dict[str, Any]:
        """Train a first method on task A, and test both tasks with it alone."""
        size = self.size
        path = CONFIGS / "baselines" / f"{method}_{size.ending_a}.py"
        alone = size.config(method, size.ending_b)
        trained = self._train(method, path, [])
        file = _file(trained)
        return dict(
            file=file,
            a=self._test(method, size.ending_a, path, dict(default=file)),
            b=self._test(method, size.ending_b, alone, dict(old=file)),
        )

    def _second(self, one: str, two: str, old: Mapping[str, Any]) -> dict[str, Any]:
        """Train the second method on task B over the first, and test both tasks."""
        name, size, file = f"{one}_then_{two}", self.size, old["file"]
        path = size.config(name, size.ending_b)
        trained = None
        if file is None:
            self.runs.skip(f"{name}_train", f"the training of {one} failed")
        else:
            trained = self._train(name, path, [f"tuner_files.old={file}"])
        files = dict(old=file, new=_file(trained))
        row = _present(a_old=old["a"], b_old=old["b"])
        for key, ending in (("a", size.ending_a), ("b", size.ending_b)):
            config = size.config(name, ending)
            new = self._test(f"{name}_new", ending, config, dict(new=files["new"]))
            both = self._test(f"{name}_both", ending, config, files)
            row.update(_present(**{f"{key}_new": new, f"{key}_both": both}))
        row.update({key: trained[key] for key in _COSTS} if trained is not None else {})
        own = (f"{one}_train", f"{one}_on_", f"{name}_")
        errors = [cell for cell in self.table.book.errors if cell.startswith(own)]
        return dict(row, error=self.table.error(*errors)) if errors else row

    def _train(self, name: str, path: Path, options: Sequence[str]) -> dict[str, Any] | None:
        return self.runs.train(f"{name}_train", path, options)

    def _test(
        self, name: str, ending: str, path: Path, files: Mapping[str, str | None]
    ) -> float | None:
        cell = f"{name}_on_{ending}"
        present = {slot: file for slot, file in files.items() if file is not None}
        if len(present) < len(files):
            self.runs.skip(cell, f"a training that it needs failed: {', '.join(files)}")
            return None
        tested = self.runs.test(cell, path, present)
        return None if tested is None else tested["scores"]["coco/bbox_mAP"]


def _file(trained: Mapping[str, Any] | None) -> str | None:
    return None if trained is None else trained["tuner_file"]


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


# ---------------------------------------------------------------------- page


def page(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], size: Size) -> str:
    """The page of the docs."""
    scores = [
        Column("first", "in slot old", numeric=False),
        Column("second", "in slot new", numeric=False),
    ]
    for key, task in (("a", size.task_a), ("b", size.task_b)):
        for slots in ("none", "old", "new", "both"):
            scores.append(Column(f"{key}_{slots}", f"{task}: {slots}", ".1f", 100))
    costs = [
        *scores[:2],
        Column("trainable", "trainable", ","),
        Column("wall_s", "training, s", ".0f"),
        Column("cpu_s", "training, CPU s", ".0f"),
        Column("peak_bytes", "peak memory, MB", ",.0f", MEGA),
    ]
    if any("error" in row for row in rows):
        scores.append(Column("error", "error", numeric=False))
    return _PAGE.format(
        scores=to_markdown(scores, rows),
        costs=to_markdown(costs, rows),
        a=size.task_a,
        b=size.task_b,
        ending_a=size.ending_a,
        ending_b=size.ending_b,
        folder=size.folder.relative_to(ROOT).as_posix(),
        **run_facts(facts),
    )


_PAGE = """\
# Compatibility: a second method on a frozen first one

Written by

```
{command}
```

A method trains on task A ({a}), in slot `old`. It is attached and frozen, and a second one trains
on task B ({b}) with both attached, in slot `new`. Then both tasks are tested with no slot, either,
or both switched on. These are the rows of the SDPT poster's table: `old` is its row of a first
method alone, `both` its rows of two.

**One seed, small tasks**: differences of a few points say nothing.

AP in percent:

{scores}

The second training, `tools/train.py` as a process of its own with start and imports (peak memory:
resident, with weights and libraries). Threads of each: {threads}; processes at a time: {jobs}.

{costs}

Seed {seed}; {versions}.

## By hand

```
python tools/train.py configs/baselines/adapter_{ending_a}.py
python tools/train.py {folder}/adapter_then_sdpt_{ending_b}.py
python tools/test.py {folder}/adapter_then_sdpt_{ending_a}.py new=TUNER_FILE
python tools/test.py {folder}/adapter_then_sdpt_{ending_b}.py new=TUNER_FILE
```

The configs find the first method's file by `tuner_files = dict(old=...)`; to name another one,
write `old=FILE` in a test and `--cfg-options tuner_files.old=FILE` in a training. In a test a slot
without a file is switched off: without `new=FILE` the old method acts alone, with `new=FILE
--cfg-options tuner_files._delete_=True` the new one, with `--tuners-off` none. The same from COCO
to Aquarium on GLIP-L is in `configs/compatibility/`; `--model glip_l` runs all of it.

Any two methods stack whose mechanisms do not replace the same thing; those that do refuse, with a
sentence that names the place.
"""


def main(argv: Sequence[str] | None = None, run: Run | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    size = SIZES[args.model]
    with TableRun(args, ROOT / "tools", run) as table:
        rows = Stacks(table, size).rows(args.first)
        facts = table.facts(["python", "tools/analysis_tools/compatibility.py", *argv])
        write_report(args.out, page(rows, facts, size), rows, facts)
        return table.exit_status()


if __name__ == "__main__":
    run_tool(main)
