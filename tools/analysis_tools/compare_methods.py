"""Train and test every method on one small task, and write the table.

``python tools/analysis_tools/compare_methods.py`` runs tools/train.py and tools/test.py on all
``configs/baselines/*_mini_thermal.py`` and SDPT and writes docs/methods_on_mini.md; name other
configs to compare those. Results are kept in the work directory as they come: the same command goes
on where it was broken off, and repeats only what failed or has changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsdpt.analysis.cells import digest
from mmsdpt.analysis.commands import Run
from mmsdpt.analysis.report import Column, run_facts, to_markdown, versions, write_report
from mmsdpt.analysis.table_runs import TableRun, add_run_arguments
from mmsdpt.analysis.tool_runs import ToolRuns
from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.cli import run_tool
from mmsdpt.utils.errors import InputError
from projects.sdpt_poster.poster import ROWS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
ENDING = "_mini_thermal"
MEGA, KILO = 1e-6, 1e-3

COLUMNS = (
    Column("method", "method", numeric=False),
    Column("trainable", "trainable", ","),
    Column("share", "of the base", ".2%"),
    Column("ap", "AP", ".1f", 100),
    Column("ap50", "AP50", ".1f", 100),
    Column("gain", "gain", "+.1f", 100),
    Column("wall_s", "training, s", ".0f"),
    Column("cpu_s", "training, CPU s", ".0f"),
    Column("peak_bytes", "peak memory, MB", ",.0f", MEGA),
    Column("tuner_bytes", "tuner file, kB", ",.0f", KILO),
)
ERROR = Column("error", "error", numeric=False)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs", nargs="*", type=Path, help="configs with one tuner each; default: all of mini"
    )
    add_run_arguments(parser, "work_dirs/compare_methods", ROOT / "docs" / "methods_on_mini.md")
    args = parser.parse_args(argv)
    args.configs = args.configs or default_configs()
    return args


def poster_place(path: Path) -> int | None:
    """Row of the poster that a baseline's config belongs to."""
    stem = f"{path.parent.name}/{path.stem.removesuffix(ENDING)}"
    return next((i for i, row in enumerate(ROWS) if stem in row.stems), None)


def default_configs() -> list[Path]:
    """Mini configs of all methods: those of the poster in its order, then the others, then SDPT."""
    baselines = sorted((CONFIGS / "baselines").glob(f"*{ENDING}.py"))
    places = {path: poster_place(path) for path in baselines}
    baselines.sort(key=lambda path: len(ROWS) if (place := places[path]) is None else place)
    return [*baselines, CONFIGS / "mini" / f"sdpt{ENDING}.py"]


@dataclass(frozen=True)
class Method:
    """A config of the comparison.

    Attributes:
        path: Of the config.
        label: The poster's name of the method, or else the tuner's class.
        slot: Of its tuner.
        task: What decides the scores with the tuner off: equal for all methods on a task.
    """

    path: Path
    label: str
    slot: str
    task: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, runs: ToolRuns) -> Method:
        """Raises: InputError unless the config has exactly one tuner."""
        cfg = runs.config(path)
        slots = resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners"))
        if len(slots) != 1:
            raise InputError(f"{path} has {len(slots)} tuners: name configs with one tuner each")
        ((slot, tuner),) = slots.items()
        place = poster_place(path)
        label = tuner["type"].rpartition(".")[2] if place is None else ROWS[place].method
        content = cfg.to_dict()
        model = {k: v for k, v in content["model"].items() if k not in ("tuner", "tuners")}
        task = {key: content.get(key) for key in ("test_dataloader", "test_evaluator", "test_cfg")}
        task.update(model=model, base=runs.base_digest(cfg), versions=versions())
        return cls(path, label, slot, task)

    @property
    def zero_shot(self) -> str:
        """Name of the cell of the test with the tuner off."""
        return f"zero_shot_{digest(self.task)[:12]}"


def measure(methods: Sequence[Method], table: TableRun) -> list[dict[str, Any]]:
    """All cells, as rows of the table: zero-shot first."""
    runs = table.runs
    first: dict[str, Method] = {}
    for method in methods:
        first.setdefault(method.zero_shot, method)

    def test_base(name: str) -> dict[str, float]:
        method = first[name]
        return scores(runs.test(name, method.path, inputs=lambda: method.task))

    def train_and_test(method: Method) -> dict[str, Any]:
        train, test = f"{method.path.stem}_train", f"{method.path.stem}_test"
        trained = runs.train(train, method.path)
        if trained is None:
            runs.skip(test, f"its training failed: {table.error(train)}")
            return {}
        tested = runs.test(test, method.path, {method.slot: trained["tuner_file"]})
        share = trained["trainable"] / trained["base"]
        return dict(trained, share=share, **scores(tested))

    bases = dict(zip(first, table.map(test_base, first), strict=True))
    rows = []
    for name, base in bases.items():
        label = "zero-shot" if len(bases) == 1 else f"zero-shot of {first[name].path.stem}"
        rows.append(_row(table, [name], method=label, **base))
    for method, result in zip(methods, table.map(train_and_test, methods), strict=True):
        stem, zero = method.path.stem, bases[method.zero_shot]
        if "ap" in result and "ap" in zero:
            result["gain"] = result["ap"] - zero["ap"]
        cells = [f"{stem}_train", f"{stem}_test"]
        rows.append(_row(table, cells, method=method.label, config=stem, **result))
    return rows


def _row(table: TableRun, cells: Sequence[str], **values: Any) -> dict[str, Any]:
    error = table.error(*cells)
    return values if error is None else dict(values, error=error)


def scores(tested: Mapping[str, Any] | None) -> dict[str, float]:
    """AP and AP50 of a test, as fractions."""
    if tested is None:
        return {}
    found = tested["scores"]
    return dict(ap=found["coco/bbox_mAP"], ap50=found["coco/bbox_mAP_50"])


def page(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """The page of the docs."""
    columns = [*COLUMNS, ERROR] if any("error" in row for row in rows) else COLUMNS
    return _PAGE.format(table=to_markdown(columns, rows), **run_facts(facts))


_PAGE = """\
# All methods on one small task

Written by

```
{command}
```

which trains and tests each config with `tools/train.py` and `tools/test.py`, in processes of their
own.

**This is not a ranking.** A model of 3 M parameters, one small drawn task, one seed: another seed
moves every row by some points, and what helps a small detector that knows drawn scenes need not
help GLIP-L. It shows that every method trains and is tested by its config alone, and what it costs.

{table}

- **of the base**: trainable parameters over those of the model without a method. Where a method
  takes the place of the host's parameters (full fine-tuning, BitFit, linear probing), it trains
  copies of them.
- **AP**, **AP50**: COCO's, in percent, on the test split. **gain**: AP above zero-shot, the same
  model with the method switched off.
- **training, s** and **CPU s**: the whole process of `tools/train.py` by the clock and in processor
  time, with start, imports and one validation. Threads of each: {threads}; processes at a time:
  {jobs}. Both grow with what else the machine does at the same time.
- **peak memory**: resident memory of that process, with weights and libraries.

Seed {seed}; {versions}.
"""


def main(argv: Sequence[str] | None = None, run: Run | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    with TableRun(args, ROOT / "tools", run) as table:
        methods = [Method.read(path, table.runs) for path in args.configs]
        table.expect(len({method.zero_shot for method in methods}) + 2 * len(methods))
        rows = measure(methods, table)
        facts = table.facts(["python", "tools/analysis_tools/compare_methods.py", *argv])
        write_report(args.out, page(rows, facts), rows, facts)
        return table.exit_status()


if __name__ == "__main__":
    run_tool(main)
