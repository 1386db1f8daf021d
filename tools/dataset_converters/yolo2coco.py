"""YOLO labels to COCO JSON: ``python tools/dataset_converters/yolo2coco.py SRC/data.yaml --out
DIR``.
"""

import argparse
import sys
from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="yolo2coco.py", description="Convert a YOLO dataset to COCO JSON."
    )
    parser.add_argument("src", help="the dataset's data.yaml, or the folder that holds it")
    parser.add_argument(
        "--out", required=True, help="folder for the result: annotations/*.json and images/*/"
    )
    parser.add_argument(
        "--root", help="folder that holds the whole dataset (default: that of data.yaml)"
    )
    parser.add_argument(
        "--classes", help="classes to convert, a,b,c in the order of their ids (default: all)"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--copy",
        dest="images",
        action="store_const",
        const="copy",
        help="copy the images (default)",
    )
    mode.add_argument(
        "--link", dest="images", action="store_const", const="link", help="link to the images"
    )
    mode.add_argument(
        "--in-place",
        dest="images",
        action="store_const",
        const="in-place",
        help="leave the images where they are and write absolute paths",
    )
    parser.set_defaults(images="copy")
    parser.add_argument(
        "--missing-labels",
        choices=("keep", "skip"),
        default="keep",
        help=(
            "images without a label file: keep them as images without boxes (default), or skip them"
        ),
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier conversion in --out"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="write nothing and exit with 1 if there is any problem",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the conversion. Returns 0, or 1 if ``--strict`` met problems; bad arguments exit with
    2.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    # After the arguments are read: importing the package takes seconds, and --help should not.
    from mmsdpt.datasets.converters import ConverterError, ProblemsFound, convert_yolo

    try:
        report = convert_yolo(
            args.src,
            args.out,
            root=args.root,
            classes=(
                None if args.classes is None else [name.strip() for name in args.classes.split(",")]
            ),
            images=args.images,
            missing_labels=args.missing_labels,
            overwrite=args.overwrite,
            strict=args.strict,
            progress=not args.quiet,
        )
    except ProblemsFound as error:
        print(error.report.table())
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except (ConverterError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
