"""Test a config with tuner files: ``python tools/test.py CONFIG TUNER_FILE``. Flags as in
MMDetection.

Without a file the base model is tested. A file is a tuner file (.safetensors) or a checkpoint of a
run (.pth). For several slots write SLOT=FILE for each.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import TYPE_CHECKING

from mmengine.config import Config, ConfigDict

from mmsdpt.utils.atomic import check_writable
from mmsdpt.utils.cli import add_common_arguments, load_config, name_and_path, run_tool, tool_parser
from mmsdpt.utils.data_files import innermost_datasets
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.preflight import TEST

if TYPE_CHECKING:
    from mmengine.evaluator import BaseMetric
    from mmengine.runner import Runner


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "tuner_files", nargs="*", metavar="[SLOT=]FILE", help="tuner file or checkpoint of a run"
    )
    parser.add_argument(
        "--out",
        help="write predictions to a .pkl file as MMDetection does, or to a .json file: boxes in"
        " COCO's result format, or the probabilities for each image",
    )
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument(
        "--show-dir",
        help="write pictures with predictions, and an index.html, to this folder in the work"
        " directory",
    )
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds between pictures with --show"
    )
    parser.add_argument(
        "--tuners-off", action="store_true", help="attach the tuners but switch them off"
    )
    parser.add_argument(
        "--slots-off", nargs="+", default=[], metavar="SLOT", help="switch off only these slots"
    )
    add_common_arguments(parser)
    return parser.parse_args()


def slot_files(arguments: list[str], slots: list[str]) -> dict[str, str]:
    """``[SLOT=]FILE`` arguments to files by slot."""
    found: dict[str, str] = {}
    for argument in arguments:
        slot, path = name_and_path(argument)
        if slot is None:
            slot = slots[0] if len(slots) == 1 else ""
        if slot not in slots:
            raise InputError(
                f"{argument}: the tuner slots of the config are {', '.join(slots) or 'none'}; write"
                " SLOT=FILE"
            )
        if slot in found:
            raise InputError(f"slot {slot} has two files: {found[slot]} and {path}")
        if not os.path.isfile(path):
            raise InputError(f"tuner file not found: {path}")
        found[slot] = path
    return found


def take_tuner_files(cfg: Config, arguments: list[str]) -> None:
    """Replace the tuner files that the config names by those of the command line."""
    slots = list(cfg.model.get("tuners") or ()) or ["default"] * bool(cfg.model.get("tuner"))
    cfg.tuner_files = {**(cfg.get("tuner_files") or {}), **slot_files(arguments, slots)}
    if all(str(path).endswith(".safetensors") for path in cfg.tuner_files.values()):
        # Parameters trained beside a tuner are switched with its slot.
        cfg.model.pop("trainable", None)


def add_pictures(cfg: ConfigDict, args: argparse.Namespace) -> None:
    """Draw predictions, as the toolboxes' test tools do."""
    found = cfg.default_hooks.get("visualization") or {}
    kept = {name: found[name] for name in ("score_thr", "top_k", "interval") if name in found}
    hook = ConfigDict(type="mmsdpt.VisualizationHook", **kept)
    if args.show_dir:
        hook.out_dir = os.path.join(cfg.work_dir, args.show_dir)
    if args.show:
        hook.show, hook.wait_time = True, args.wait_time
    cfg.default_hooks.visualization = hook


def dump(runner: Runner, path: str) -> BaseMetric:
    """The metric that writes the predictions."""
    from mmdet.evaluation import MultiDatasetsEvaluator

    from mmsdpt.evaluation import JsonResults, PickledResults

    if isinstance(runner.test_evaluator, MultiDatasetsEvaluator):  # it accepts only its own metrics
        raise InputError(
            "--out supports only one test dataset: test each of the joined datasets separately"
        )
    if not path.endswith(".json"):
        return PickledResults(out_file_path=path)
    dataset = next(innermost_datasets(runner.test_dataloader.dataset))
    metric = JsonResults(path, getattr(dataset, "cat_ids", None))
    metric.dataset_meta = getattr(dataset, "metainfo", None)
    return metric


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.out and not args.out.endswith((".pkl", ".pickle", ".json")):
        raise InputError(f"--out must end in .pkl or .json, got {args.out}")
    if args.out:
        check_writable(args.out)
    cfg = load_config(args, TEST, partial(take_tuner_files, arguments=args.tuner_files))
    # Imported here so that --help and the check for a missing config are fast.
    from mmsdpt.engine import build_runner
    from mmsdpt.engine.hooks import TipAdapterHook

    cfg.resume = False
    if args.show or args.show_dir:
        add_pictures(cfg, args)
    runner = build_runner(cfg)
    if args.out:
        runner.test_evaluator.metrics.append(dump(runner, args.out))
    unknown = [slot for slot in args.slots_off if slot not in runner.host.tuners]
    if unknown:
        raise InputError(
            f"--slots-off {unknown[0]}: the config has tuner slots"
            f" {', '.join(runner.host.tuners) or 'none'}"
        )
    caches = [hook for hook in runner.hooks if isinstance(hook, TipAdapterHook)]
    filled = {hook.slot for hook in caches if hook.fills_for_test(runner.host)}
    for slot in runner.host.tuners:
        # Without a file it would act with the random initial values of training.
        lacks_file = slot not in cfg.tuner_files and slot not in filled
        if args.tuners_off or slot in args.slots_off or lacks_file:
            runner.host.set_slot_enabled(slot, False)
            runner.logger.info(f"Testing with tuner slot {slot} switched off")
    runner.test()


if __name__ == "__main__":
    run_tool(main)
