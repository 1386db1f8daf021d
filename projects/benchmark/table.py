"""The whole table of docs/performance.md in one run: time, memory and the limit of every method.

``python -m projects.benchmark.table --out work_dirs/benchmark``

Every measurement is a step in a process of its own on one thread, with drawn weights, and counts
processor seconds. Results are kept in the folder: a run that is interrupted resumes, and
``--rows sdpt_l`` measures some rows alone (regular expressions over their names; ``--list``
shows them). The full GLIP-L in MMDetection's form takes three minutes and 13 GB a step;
``--size 512`` or ``--small``, GLIP-T at 480 pixels, takes less.

The limit of a step is the time that its multiply-adds would take at the matrix rate, which is
measured in the same run: one large product of matrices in float32, or in bfloat16. The latter is no
step's to reach: softmax, sampling and norms stay in float32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from mmsdpt.utils.errors import InputError
from projects.benchmark.rows import Row, Run, all_rows, growth, select

GIGA = 1e9


def matrix_rate(amp: bool = False, size: int = 1536) -> float:
    """Multiply-adds per second of one thread in a large product, in float32 or bfloat16."""
    import torch

    torch.set_num_threads(1)
    size = 256 if amp else size  # some processors emulate bfloat16, and need minutes
    a = torch.randn(size, size, dtype=torch.bfloat16 if amp else torch.float32)
    seconds = []
    for _ in range(6):
        start = time.process_time()
        a @ a
        seconds.append(time.process_time() - start)
    return size**3 / min(seconds)


def _child(run: Run, bert: str, path: str) -> None:
    """Measure in a forked process, which has the imports of its parent and a peak of its own."""
    from mmengine.logging import MMLogger

    # MMEngine logs the first values of every parameter to the logger that was made first.
    MMLogger.get_instance("benchmark", log_level="WARNING")
    from projects.benchmark import measurements

    result = getattr(measurements, run.measure)(run, bert)
    Path(path).write_text(json.dumps(result))


class Measurements:
    """Results of runs, kept in a folder.

    Args:
        folder: For one JSON file per run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, run: Run) -> Path:
        digest = hashlib.sha256(repr(run).encode()).hexdigest()[:12]
        return self.folder / f"{Path(run.config).stem}-{run.form}-{digest}.json"

    def get(self, run: Run) -> dict[str, Any] | None:
        path = self._path(run)
        return json.loads(path.read_text())["result"] if path.is_file() else None

    def add(self, run: Run, bert: str) -> None:
        """Measure ``run`` in a process of its own, unless its result is there.

        Raises:
            RuntimeError: where that process fails, which has printed why.
        """
        if self.get(run) is not None:
            return
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "result.json"
            child = multiprocessing.get_context("fork").Process(
                target=_child, args=(run, bert, str(out))
            )
            child.start()
            child.join()
            if child.exitcode:
                raise RuntimeError(f"measuring {run} ended with exit code {child.exitcode}")
            content = dict(run=run.settings(), result=json.loads(out.read_text()))
        self._path(run).write_text(json.dumps(content, indent=1) + "\n")


def _shown(row: Row, results: Mapping[str, dict], rates: Mapping[bool, float]) -> list[str]:
    """The cells of a row; ``rates`` by whether in bfloat16."""
    value = row.value(results)
    met = "" if row.target is None else ("yes" if row.met(value) else "no")
    target = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
    ours = results["ours"]
    cpu, macs, memory = (ours.get(f"{row.step}_{key}") for key in ("cpu_s", "macs", "bytes"))
    least = macs / rates[row.amp] if macs else None
    return [
        row.name,
        f"{value:.3g}",
        target,
        met,
        "" if cpu is None else f"{cpu:.2f}",
        "" if least is None else f"{least:.2f}",
        "" if least is None else f"{100 * least / cpu:.0f} %",
        "" if memory is None else f"{memory / GIGA:.2f}",
        row.what,
    ]


def make_table(rows: list[Row], measurements: Measurements, rates: Mapping[bool, float]) -> Table:
    """A line per row that has all of its measurements."""
    table = Table(title_justify="left")
    heads = ("", "value", "target", "met", "CPU s", "limit, s", "reached", "peak GB", "what")
    for i, head in enumerate(heads):
        text = i in (0, len(heads) - 1)
        table.add_column(head, justify="left" if text else "right", no_wrap=i == 0)
    for row in rows:
        results = {name: measurements.get(run) for name, run in row.runs.items()}
        if all(results.values()):
            table.add_row(*_shown(row, results, rates))
    return table


def plot_growth(measurements: Measurements, path: Path) -> None:
    """CPU seconds of a step against batch, image, caption and tokens, as far as they are measured.

    Raises:
        InputError: if nothing is.
    """
    from matplotlib.figure import Figure

    series = {
        title: sorted(
            (x, found["train_cpu_s"])
            for x, run in runs.items()
            if (found := measurements.get(run)) is not None
        )
        for title, runs in growth().items()
    }
    if not any(series.values()):
        raise InputError(
            "--plot needs measurements of how the cost grows: --rows batch_ size_ classes_ k_"
        )
    figure = Figure(figsize=(12, 3), layout="constrained")
    for axis, (title, points) in zip(figure.subplots(1, len(series)), series.items(), strict=True):
        axis.plot(*zip(*points, strict=True) if points else ((), ()), marker="o")
        axis.set_xlabel(title)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("CPU s of a training step")
    figure.savefig(path, dpi=120)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="work_dirs/benchmark", help="folder for the results")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only rows whose name matches")
    parser.add_argument("--small", action="store_true", help="GLIP-T instead of GLIP-L")
    parser.add_argument("--size", type=int, help="of GLIP-L's images (default: 800 pixels)")
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    parser.add_argument("--plot", metavar="FILE", help="draw how the cost grows, too")
    parser.add_argument("--show", action="store_true", help="print what is there, measure nothing")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    console = Console()
    console.width = max(console.width, 150)
    rows = select(all_rows(args.small, args.size), args.rows)
    if args.list:
        for row in rows:
            console.print(f"{row.name:28} {row.what}")
        return 0
    measurements = Measurements(Path(args.out))
    rates = {amp: matrix_rate(amp) for amp in (False, True)}
    in_float32, in_bfloat16 = (rates[amp] / GIGA for amp in (False, True))
    console.print(
        "Matrix rate of one thread, 10^9 multiply-adds per second:"
        f" {in_float32:.1f} in float32, {in_bfloat16:.1f} in bfloat16."
    )
    if rates[True] < rates[False]:
        rows = [row for row in rows if not row.amp]
        console.print("This processor has no fast bfloat16: rows in mixed precision are left out.")
    if not args.show:
        import mmsdpt.engine
        import mmsdpt.hosts
        import mmsdpt.tuners  # noqa: F401  imported once, for all processes
        from projects.benchmark.random_bert import make_bert

        runs = list(dict.fromkeys(run for row in rows for run in row.runs.values()))
        with tempfile.TemporaryDirectory() as bert:
            make_bert(bert)
            for run in tqdm(runs, file=sys.stderr):
                measurements.add(run, bert)
    console.print(make_table(rows, measurements, rates))
    if args.plot:
        plot_growth(measurements, Path(args.plot))
    return 0


if __name__ == "__main__":
    from mmsdpt.utils.cli import run_tool

    run_tool(main)
