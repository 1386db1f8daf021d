"""Plan and run studies of methods, and write their tables and plots.

``python tools/experiments.py run projects/mudpt_paper/studies/few_shot_mini.py`` computes every
cell of the study that is not finished; after an interruption the same command continues. See
docs/experiments.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmsdpt.utils.cli import Options, make_projects_importable, run_tool, tool_parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="list the cells and their cost")
    run = commands.add_parser("run", help="compute the cells that are not finished")
    table = commands.add_parser("table", help="write the results as a page with tables and plots")
    plot = commands.add_parser("plot", help="write each plot as a file")
    for each in (plan, run, table, plot):
        each.add_argument("study", help="config of the study")
        each.add_argument(
            "--work-dir",
            default="work_dirs/experiments",
            help="folder of the results (default: work_dirs/experiments)",
        )
        each.add_argument(
            "--cfg-options",
            nargs="+",
            action=Options,
            metavar="KEY=VALUE",
            help="override settings of the study or, with the prefix cell., of every cell:"
            " study.seeds=1,2 cell.optim_wrapper.optimizer.lr=0.01",
        )
    for each in (plan, run):
        each.add_argument(
            "--only", nargs="+", default=[], help="only cells whose names contain one of these"
        )
        each.add_argument("--threads", type=int, help="PyTorch threads of each job")
    plan.add_argument(
        "--measure", action="store_true", help="first measure a few steps of each kind of cell"
    )
    run.add_argument("--jobs", type=int, default=1, help="jobs to run in parallel (default: 1)")
    run.add_argument("--address", help="a Ray cluster: auto, or HOST:PORT")
    run.add_argument("--gpus", type=float, help="GPUs per job, such as 1 or 0.5")
    run.add_argument("--redo", action="store_true", help="also recompute finished cells")
    formats = ["md", "csv", "tex", "html"]
    table.add_argument("--format", nargs="+", choices=formats, default=formats, help="default: all")
    plot.add_argument("--format", choices=["png", "pdf", "svg"], default="png", help="default: png")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    make_projects_importable()
    # Imported here so that --help is fast.
    from mmsdpt.experiments import commands

    return getattr(commands, args.command)(args)


if __name__ == "__main__":
    run_tool(main)
