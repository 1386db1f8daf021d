"""Train a config: ``python tools/train.py configs/sdpt/glip_l_coco_k10.py``. Flags as in
MMDetection.
"""

import argparse
import os

from mmsdpt.utils.cli import add_common_arguments, load_config, run_tool
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.preflight import TRAINING


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--amp", action="store_true", help="train with automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="resume from this checkpoint, or from the newest one in the work directory",
    )
    parser.add_argument(
        "--cache-features",
        type=int,
        metavar="K",
        help="cache the frozen features of K fixed views of each training image",
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.resume:
        named = None if args.resume == "auto" else args.resume
        args.cfg_options = {**(args.cfg_options or {}), "resume": True, "resume_from": named}
    if args.cache_features is not None:
        args.cfg_options = {**(args.cfg_options or {}), "feature_cache.views": args.cache_features}
    cfg = load_config(args, TRAINING)
    # Imported here so that --help and the check for a missing config are fast.
    from mmengine.device import get_device

    from mmsdpt.engine import build_runner
    from mmsdpt.engine.optim import use_mixed_precision

    if args.amp:
        use_mixed_precision(cfg.optim_wrapper, get_device())
    if args.auto_scale_lr:
        cfg.setdefault("auto_scale_lr", {})
        if "base_batch_size" not in cfg.auto_scale_lr:
            raise InputError("--auto-scale-lr needs auto_scale_lr.base_batch_size in the config")
        cfg.auto_scale_lr.enable = True
    build_runner(cfg).train()


if __name__ == "__main__":
    run_tool(main)
