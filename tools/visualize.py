"""Look at models and runs: boxes before and after, attention maps, curves.

  compare    what is found before and after, images that changed most first
  attention  where X-MHA, or CLIP's class token, looks; several methods side by side
  curves     loss, score and learning rate of runs

Each writes a page or a picture into --out. docs/seeing.md says how to read them.
"""

import argparse
from pathlib import Path

from mmsdpt.utils.cli import add_data_arguments, load_config, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, count, help in (
        ("compare", 24, "what is found before and after"),
        ("attention", 4, "where a model looks"),
    ):
        command = commands.add_parser(name, help=help, description=f"{help}.".capitalize())
        command.add_argument("config", help="config file: host and data")
        command.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="[NAME=]TUNER.safetensors files, of any methods, and images or folders; without"
            " images: test images of the config's data",
        )
        command.add_argument(
            "--classes", nargs="+", default=[], metavar="NAME", help="classes to look for or show"
        )
        command.add_argument(
            "--count", type=int, default=count, help="test images where none is named (%(default)s)"
        )
        add_data_arguments(command)
        if name == "compare":
            command.add_argument(
                "--score-thr", type=float, default=0.3, help="smallest score drawn (%(default)s)"
            )
            command.add_argument("--top-k", type=int, help="the most boxes or classes of an image")
        else:
            command.add_argument(
                "--direction",
                choices=["text_to_image", "image_to_text"],
                default="text_to_image",
                help="of X-MHA (%(default)s)",
            )
            command.add_argument("--layers", action="store_true", help="each layer and head, too")
    curves = commands.add_parser("curves", help="loss, score and learning rate of runs")
    curves.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="[NAME=]folder of a run")
    for command in commands.choices.values():
        command.add_argument("--out", help="where to write (work_dirs/seeing/COMMAND)")
    args = parser.parse_args()
    args.out = Path(args.out or f"work_dirs/seeing/{args.command}")
    return args


def main() -> None:
    args = parse_args()
    if args.command == "curves":
        from mmsdpt.visualization.curves import draw_curves

        print(draw_curves(args.work_dirs, args.out / "curves.png"))
        return
    cfg = load_config(args)
    # Not at the top: --help is quick.
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
