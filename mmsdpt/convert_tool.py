"""Command-line options of the converters. Imports nothing heavy, so that ``--help`` is fast."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any


def converter_parser(
    prog: str, description: str, src: str, missing: str
) -> argparse.ArgumentParser:
    """A parser with the options that all converters have.

    Args:
        prog: Name of the tool.
        description: One sentence.
        src: Description of the source.
        missing: Default for images without labels, ``keep`` or ``skip``.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("src", help=src)
    parser.add_argument(
        "--out", required=True, help="output folder, with annotations/*.json and images/*/"
    )
    parser.add_argument(
        "--split",
        help=(
            "draw train,val,test at random: fractions such as 0.75,0.145,0.105, or numbers of"
            " images (not percent) such as 150,29,17, which leave out the others; default: the"
            " splits of the source"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of --split (default: 0)")
    parser.add_argument(
        "--classes",
        help="classes to convert, a,b,c in the order of their ids; quote names with a comma, as in"
        " '\"a, b\",c' (default: all)",
    )
    parser.add_argument(
        "--rename",
        action="extend",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help='rename a class, as in --rename RBC="red blood cell"; classes with the same'
        " new name are merged",
    )
    mode = parser.add_mutually_exclusive_group()
    for name, told in (
        ("copy", "copy the images (default)"),
        ("link", "link to the images"),
        ("in-place", "leave the images where they are and write absolute paths"),
    ):
        mode.add_argument(f"--{name}", dest="images", action="store_const", const=name, help=told)
    parser.set_defaults(images="copy")
    parser.add_argument(
        "--missing-labels",
        choices=("keep", "skip"),
        default=missing,
        help="images without labels: keep them as images without boxes, or skip them (default:"
        f" {missing})",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier conversion in --out"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="write nothing and exit with code 1 if there is any problem",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def run_converter(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    converter: str,
    own_options: Sequence[str] = (),
) -> int:
    """Parse, convert, print the report.

    Args:
        parser: See :func:`converter_parser`.
        argv: Arguments; None: the process's.
        converter: Name of the function in :mod:`mmsdpt.datasets.converters`.
        own_options: Options of only this tool, which the function takes under the same names.

    Returns:
        0, or 1 if ``--strict`` found problems; invalid input exits with 2.
    """
    args = parser.parse_args(argv)
    # Imported after the arguments are parsed, as importing the package takes seconds.
    from mmsdpt.datasets import converters
    from mmsdpt.utils.class_names import chosen_names, parse_renames
    from mmsdpt.utils.errors import InputError, disk_problem

    convert: Callable[..., Any] = getattr(converters, converter)
    try:
        report = convert(
            args.src,
            args.out,
            split=None if args.split is None else converters.parse_split(args.split),
            seed=args.seed,
            classes=chosen_names(args.classes),
            rename=parse_renames(args.rename),
            images=args.images,
            missing_labels=args.missing_labels,
            overwrite=args.overwrite,
            strict=args.strict,
            progress=not args.quiet,
            **{name: getattr(args, name) for name in own_options},
        )
    except converters.ProblemsFound as error:
        sys.stdout.write(f"{error.report.table()}\n")
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return 1
    except InputError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except OSError as error:
        parser.exit(2, f"{parser.prog}: error: {disk_problem(error) or error}\n")
    sys.stdout.write(f"{report.table()}\n")
    return 0
