"""Visualize models and runs: predictions before and after tuning, attention maps, curves.

  compare    predictions before and after tuning, images that changed most first
  attention  attention maps of X-MHA or of CLIP's class token, several methods side by side
  curves     loss, score and learning rate of runs

Each writes a page or a picture into --out. docs/seeing.md explains how to read them.
"""

import argparse
from pathlib import Path

from mmsdpt.utils.cli import add_data_arguments, load_config, run_tool, tool_parser
from mmsdpt.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, count, help in (
        ("compare", 24, "predictions before and after tuning"),
        ("attention", 4, "attention maps"),
    ):
        command = commands.add_parser(name, help=help, description=f"{help}.".capitalize())
        command.add_argument("config", help="config file: host and data")
        command.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="[NAME=]TUNER.safetensors files of any methods, and images or folders; default:"
            " test images of the config's data",
        )
        command.add_argument(
            "--classes", nargs="+", default=[], metavar="NAME", help="classes to detect or show"
        )
        command.add_argument(
            "--count",
            type=int,
            default=count,
            help="number of test images if none are given (%(default)s)",
        )
        add_data_arguments(command)
        if name == "compare":
            command.add_argument(
                "--score-thr", type=float, default=0.3, help="minimum score of a box (%(default)s)"
            )
            command.add_argument(
                "--top-k", type=int, help="maximum number of boxes or classes per image"
            )
        else:
            command.add_argument(
                "--direction",
                choices=["text_to_image", "image_to_text"],
                default="text_to_image",
                help="direction of X-MHA (%(default)s)",
            )
            command.add_argument(
                "--layers", action="store_true", help="also show each layer and head"
            )
    curves = commands.add_parser("curves", help="loss, score and learning rate of runs")
    curves.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="[NAME=]folder of a run")
    for command in commands.choices.values():
        command.add_argument("--out", help="output folder (work_dirs/seeing/COMMAND)")
    args = parser.parse_args()
    args.out = Path(args.out or f"work_dirs/seeing/{args.command}")
    return args


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers with which nothing would be shown."""
    for name in ("count", "top_k"):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be a positive integer, got {value}")
    if not 0 <= getattr(args, "score_thr", 0) <= 1:
        raise InputError(f"--score-thr must be between 0 and 1, got {args.score_thr:g}")


def main() -> None:
    args = parse_args()
    if args.command == "curves":
        from mmsdpt.visualization.curves import draw_curves

        print(draw_curves(args.work_dirs, args.out / "curves.png"))
        return
    check_numbers(args)
    cfg = load_config(args)
    # Imported here so that --help is fast.
    from mmsdpt.analysis.models import split_arguments

    tuners, images = split_arguments(args.files)
    shared = dict(words=args.classes, count=args.count)
    if args.command == "compare":
        from mmsdpt.analysis.compare import compare

        page = compare(
            cfg, tuners, images, args.out, score_thr=args.score_thr, top_k=args.top_k, **shared
        )
    else:
        from mmsdpt.analysis.attention_page import show_attention, summary

        page, table = show_attention(
            cfg,
            tuners,
            images,
            args.out,
            direction=args.direction,
            layers=args.layers,
            **shared,
        )
        if len(table):
            print(summary(table))
    print(page)


if __name__ == "__main__":
    run_tool(main)
