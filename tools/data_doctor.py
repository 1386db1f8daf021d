"""Check a dataset and report which files, entries, folders, counts or images are wrong.

``python tools/data_doctor.py FOLDER`` checks your own data: COCO, VOC or YOLO for detection, one
folder of images per class for classification. ``python tools/data_doctor.py --data-root data``
checks every benchmark that it finds; ``--datasets dtd odinw13/pothole`` checks only these and
reports any that is missing. The exit code is 1 if a problem was found. See
docs/detection_data.md and docs/classification_data.md.
"""

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmsdpt.utils.cli import run_tool, tool_parser
from mmsdpt.utils.errors import InputError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("folder", nargs="?", help="folder of your own data")
    parser.add_argument("--data-root", default="data", help="folder of the datasets; default: data")
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        help="benchmarks to check, which must exist; default: all that are found",
    )
    parser.add_argument(
        "--check-images",
        action="store_true",
        help="decode every image of the benchmarks (about 1,000 per second); always on for FOLDER",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.folder is not None:
        from mmsdpt.datasets.folder_doctor import examine_folder

        own = examine_folder(args.folder)
        print("\n".join(finding.text() for finding in own))
        return int(any(finding.problems for finding in own))
    from mmsdpt.datasets.classification.benchmarks import BENCHMARKS
    from mmsdpt.datasets.classification.doctor import all_well, as_table, examine
    from mmsdpt.datasets.detection_doctor import examine_detection, present_benchmarks
    from mmsdpt.utils.detection_benchmarks import find_benchmark

    for name in args.datasets or ():
        if name not in BENCHMARKS:
            find_benchmark(name)  # raises if the name is unknown
    if not Path(args.data_root).is_dir():
        raise InputError(f"the folder {args.data_root} is missing; set --data-root")
    console = Console(soft_wrap=False)
    findings = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in args.datasets or [*BENCHMARKS, *present_benchmarks(args.data_root)]:
            look = examine if name in BENCHMARKS else examine_detection
            known = BENCHMARKS[name] if name in BENCHMARKS else find_benchmark(name)
            total = sum(known.counts.values()) if args.check_images else None
            task = progress.add_task(name, total=total)
            advance = partial(progress.advance, task)
            findings.append(look(name, args.data_root, args.check_images, advance))
            progress.remove_task(task)
    console.print(as_table(findings))
    return 0 if all_well(findings, required=args.datasets is not None) else 1


if __name__ == "__main__":
    run_tool(main)
