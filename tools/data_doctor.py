"""Say which file, entry, folder, count or image of data is wrong.

``python tools/data_doctor.py FOLDER`` looks at data of your own: COCO, VOC or YOLO for detection,
a folder of images for each class for classification. ``python tools/data_doctor.py --data-root
data`` looks at every benchmark that is there; ``--datasets dtd odinw13/pothole`` at these, which
must be there. Exit code 1 where something is wrong. See docs/detection_data.md and
docs/classification_data.md.
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
    parser.add_argument("folder", nargs="?", help="folder of data of your own")
    parser.add_argument("--data-root", default="data", help="folder of the datasets; default: data")
    parser.add_argument(
        "--datasets",
        nargs="+",
        metavar="NAME",
        help="benchmarks that must be there; default: those that are",
    )
    parser.add_argument(
        "--check-images",
        action="store_true",
        help="decode every image of the benchmarks, about 1,000 a second; FOLDER's always are",
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
            find_benchmark(name)  # says so where there is none
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
