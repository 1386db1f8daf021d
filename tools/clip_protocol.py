"""Run a protocol of prompt learning on CLIP and write its table and plots.

``python tools/clip_protocol.py few_shot --model mini_clip --datasets clothing_64px`` trains every
method on 1, 2, 4, 8 and 16 images of each class with three seeds and tests it on the full test set.
Every result is kept in the work directory as it comes: the same command goes on where it was broken
off, and repeats what failed or has other settings. See docs/clip_protocols.md.
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
    depth_notes,
    find_datasets,
    make_setup,
    run_with_progress,
)
from mmsdpt.protocols.curves import few_shot_curves
from mmsdpt.protocols.methods import ZERO_SHOT, choose_methods, presets
from mmsdpt.protocols.plan import DATASETS, PROTOCOLS, SOURCE, VARIANTS, left_out, plan
from mmsdpt.protocols.plot import save_plot
from mmsdpt.protocols.report import Facts, page
from mmsdpt.protocols.rows import to_rows
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TRANSFER = ("cross_dataset", "domain_generalisation")


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    known = presets(CONFIGS)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(known),
        help=f"names, or configs of your own (*.py); default: all of {', '.join(known)}",
    )
    parser.add_argument(
        "--datasets",
        nargs="*",
        help="names of configs/_base_/datasets/clip_*.py; default: those of the papers",
    )
    parser.add_argument(
        "--source",
        default=SOURCE,
        help=f"dataset that {' and '.join(TRANSFER)} train on ({SOURCE})",
    )
    parser.add_argument(
        "--shots",
        nargs="+",
        type=int,
        help="images of each class; default: 1 2 4 8 16 for few_shot, else 16",
    )
    add_run_arguments(parser, "work_dirs/clip_protocol")
    args = parser.parse_args(argv)
    if args.shots is None:
        args.shots = [1, 2, 4, 8, 16] if args.protocol == "few_shot" else [16]
    if args.datasets is None:
        usual = VARIANTS if args.protocol == "domain_generalisation" else DATASETS
        args.datasets = [] if args.own_dataset else list(usual)
    for name in ("shots", "seeds", "datasets", "methods"):
        setattr(args, name, list(dict.fromkeys(getattr(args, name))))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parse_args(argv)
    known = presets(CONFIGS)
    # The zero-shot model is always measured, as it is what tuning is compared with.
    methods = {ZERO_SHOT: known[ZERO_SHOT], **choose_methods(args.methods, known)}
    source = args.source if args.protocol in TRANSFER else None
    names = args.datasets if source is None else [source, *args.datasets]
    datasets = find_datasets(names, args.own_dataset, CONFIGS / "_base_")
    cells = plan(args.protocol, methods, list(datasets), args.shots, args.seeds, args.source)
    setup = make_setup(args, CONFIGS / "_base_", datasets, methods)
    console = Console()
    results = run_with_progress(cells, setup, args, console)

    model = setup.model.stem
    rows = to_rows(args.protocol, model, results)
    facts = Facts(
        protocol=args.protocol,
        model=model,
        methods=methods,
        datasets=list(datasets),
        shots=args.shots,
        seeds=args.seeds,
        source=source,
        command=shlex.join(["python", "tools/clip_protocol.py", *argv]),
        omitted=left_out(args.protocol, methods),
        notes=depth_notes(setup),
    )
    out = Path(args.work_dir) / model
    files = {
        out / f"{args.protocol}.md": page(rows, facts),
        out / f"{args.protocol}.csv": to_csv(rows),
    }
    for path, text in files.items():
        write_atomically(path, text.encode())
    written = list(files)
    if args.protocol == "few_shot":
        for title, curves in few_shot_curves(rows, facts).items():
            written.append(out / f"few_shot_{title}.png")
            save_plot(written[-1], curves, title, "training images of each class")
    for path in written:
        console.print(f"Wrote {path}", soft_wrap=True)
    failed = sum(row["error"] is not None for row in rows)
    if failed:
        console.print(f"[red]{failed} of {len(rows)} cells failed[/]: run the command again.")
    return 1 if failed else 0


if __name__ == "__main__":
    run_tool(main)
