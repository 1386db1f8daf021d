"""Measure how well images and class texts are aligned, with and without tuners.

``python tools/analysis_tools/alignment.py CONFIG [TUNER_FILE]`` tests the config's test set and
prints accuracy, the mean cosine of an image with its own class and with others, their difference,
and the modality gap: see mmsdpt/evaluation/alignment.py. Without a tuner file only the model
without tuners is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmsdpt.utils.cli import add_common_arguments, load_config, run_tool, tool_parser
from mmsdpt.utils.errors import InputError

MEASURES = ("accuracy", "matched", "unmatched", "margin", "gap")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", help="config of a CLIP classifier")
    parser.add_argument("tuner_file", nargs="?", help="tuner file (.safetensors)")
    parser.add_argument("--slot", default="default", help="slot of the tuner (%(default)s)")
    add_common_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.tuner_file and not Path(args.tuner_file).is_file():
        raise InputError(f"tuner file not found: {args.tuner_file}")
    cfg = load_config(args)
    if cfg.model.type != "mmsdpt.CLIP":
        raise InputError(
            f"{args.config} has a model of type {cfg.model.type}, expected mmsdpt.CLIP"
        )
    from mmengine.registry import init_default_scope

    from mmsdpt.experiments.images import DatasetCache
    from mmsdpt.experiments.testing import evaluate
    from mmsdpt.experiments.training import build_host
    from mmsdpt.tuners.files import load_tuner

    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    cfg.model.predict_features = True
    cfg.test_evaluator = [dict(type="Accuracy", topk=(1,)), dict(type="mmsdpt.AlignmentMetric")]
    cache = DatasetCache()
    host = build_host(cfg, cache)
    if args.tuner_file and args.slot not in host.tuners:
        raise InputError(
            f"{args.tuner_file}: the tuner slots of {args.config} are"
            f" {', '.join(host.tuners) or 'none'}; name one of them with --slot"
        )
    images = cache.test_images(cfg.test_dataloader)
    table = Table()
    for name in ("", *MEASURES):
        table.add_column(name, justify="right" if name else "left")

    def measure(name: str) -> None:
        found = evaluate(host, cfg, images)
        table.add_row(
            name, f"{found['accuracy']:.2f} %", *(f"{found[m]:.4f}" for m in MEASURES[1:])
        )

    with host.tuners_off():
        measure("without tuners")
    if args.tuner_file:
        load_tuner(host, args.tuner_file, args.slot)
        # Without a file a slot would act with the random initial values of training.
        for slot in host.tuners.keys() - {args.slot, *(cfg.get("tuner_files") or ())}:
            host.set_slot_enabled(slot, False)
        measure(Path(args.tuner_file).name)
    Console(markup=False).print(table)


if __name__ == "__main__":
    run_tool(main)
