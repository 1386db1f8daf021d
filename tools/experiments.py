"""Studies of methods: plan, run, table, plot.

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
            help="folder of the results (work_dirs/experiments)",
        )
        each.add_argument(
            "--cfg-options",
            nargs="+",
            action=Options,
            metavar="KEY=VALUE",
            help="override settings of the study, and, with cell., of every cell: study.seeds=1,2"
            " cell.optim_wrapper.optimizer.lr=0.01",
        )
    for each in (plan, run):
        each.add_argument(
            "--only", nargs="+", default=[], help="only cells with one of these in their names"
        )
        each.add_argument("--threads", type=int, help="PyTorch threads of each job")
    plan.add_argument(
        "--measure", action="store_true", help="take one short step of each kind of cell first"
    )
    run.add_argument("--jobs", type=int, default=1, help="trainings or tests at a time (1)")
    run.add_argument("--address", help="a Ray cluster: auto, or HOST:PORT")
    run.add_argument("--gpus", type=float, help="GPUs of each job (1, or a share)")
    run.add_argument("--redo", action="store_true", help="recompute finished cells, too")
    formats = ["md", "csv", "tex", "html"]
    table.add_argument(
        "--format", nargs="+", choices=formats, default=formats, help="all by default"
    )
    plot.add_argument("--format", choices=["png", "pdf", "svg"], default="png", help="png")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    make_projects_importable()
    # Imported only here: the help is to come at once.
    from mmsdpt.experiments import commands

    return getattr(commands, args.command)(args)


if __name__ == "__main__":
    run_tool(main)
