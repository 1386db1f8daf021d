"""Study the questions that MuDPT's paper leaves open: prompt length, depth, number of injection
layers, direction.

``python tools/analysis_tools/prompt_study.py --model mini_clip --datasets clothing_64px`` trains
MuDPT with one setting changed at a time and writes a table and a plot for each question. Results
are kept as those of tools/clip_protocol.py are.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmsdpt.analysis.report import to_csv
from mmsdpt.protocols.command_line import (
    add_run_arguments,
    find_datasets,
    find_model,
    make_setup,
    run_with_progress,
)
from mmsdpt.protocols.compose import num_blocks
from mmsdpt.protocols.methods import ZERO_SHOT, choose_methods, presets
from mmsdpt.protocols.plan import plan
from mmsdpt.protocols.plot import save_plot
from mmsdpt.protocols.report import Facts
from mmsdpt.protocols.rows import to_rows
from mmsdpt.protocols.study import curves, questions, study_page
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUESTIONS = ("length", "depth", "layers", "direction")


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--depths", nargs="+", type=int, help="default: 1, 3, 6, 9, 12 or what the model has"
    )
    parser.add_argument(
        "--layers", nargs="+", type=int, default=[1, 2, 3, 4], help="of the injection transformer"
    )
    parser.add_argument("--method", default="mudpt", help="config with a MuDPT tuner (mudpt)")
    parser.add_argument("--datasets", nargs="*", default=[], help="as of tools/clip_protocol.py")
    parser.add_argument("--shots", type=int, default=16, help="images of each class (16)")
    add_run_arguments(parser, "work_dirs/prompt_study")
    args = parser.parse_args(argv)
    if not args.datasets and not args.own_dataset:
        parser.error("name datasets with --datasets or --own-dataset")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parse_args(argv)
    known = presets(CONFIGS)
    (base,) = choose_methods([args.method], known).values()
    blocks = num_blocks(find_model(args.model, CONFIGS / "_base_"))
    depths = args.depths or sorted({min(depth, blocks) for depth in (1, 3, 6, 9, 12)})
    asked = questions(base, args.questions, args.lengths, depths, args.layers)
    methods = {ZERO_SHOT: known[ZERO_SHOT]}
    for question in asked:
        methods.update({method.name: method for method in question.variants.values()})
    datasets = find_datasets(args.datasets, args.own_dataset, CONFIGS / "_base_")
    setup = make_setup(args, CONFIGS / "_base_", datasets, methods)
    cells = plan("few_shot", methods, list(datasets), [args.shots], args.seeds)
    console = Console()
    results = run_with_progress(cells, setup, args, console)

    model = setup.model.stem
    rows = to_rows("few_shot", model, results)
    facts = Facts(
        protocol="few_shot",
        model=model,
        methods=methods,
        datasets=list(datasets),
        shots=[args.shots],
        seeds=args.seeds,
        command=shlex.join(["python", "tools/analysis_tools/prompt_study.py", *argv]),
    )
    out = Path(args.work_dir) / model
    files = {
        out / "prompt_study.md": study_page(asked, rows, facts),
        out / "prompt_study.csv": to_csv(rows),
    }
    for path, text in files.items():
        write_atomically(path, text.encode())
    written = list(files)
    for question in asked:
        written.append(out / f"prompt_study_{question.name}.png")
        lines = curves(question, rows, facts, ZERO_SHOT)
        names, log = question.ticks, question.name == "length"
        title = f"{args.shots} images of each class"
        save_plot(written[-1], lines, title, question.x_label, log=log, names=names)
    for path in written:
        console.print(f"Wrote {path}", soft_wrap=True)
    failed = sum(row["error"] is not None for row in rows)
    if failed:
        console.print(f"[red]{failed} of {len(rows)} cells failed[/]: run the command again.")
    return 1 if failed else 0


if __name__ == "__main__":
    run_tool(main)
