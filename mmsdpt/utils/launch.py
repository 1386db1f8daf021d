"""Command line to config, the same for training and testing."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction

from .errors import InputError


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of MMDetection's tools that training and testing share."""
    parser.add_argument("--work-dir", help="where logs and files go; default: work_dirs/<config name>")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="override settings, e.g. --cfg-options train_cfg.max_epochs=5 load_from=PATH",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torch.distributed.launch hands this over.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` with the overrides of :func:`add_common_arguments`.

    Raises:
        InputError: if the config file does not exist.
    """
    if not Path(args.config).is_file():
        raise InputError(f"config not found: {args.config}")
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(args.config).stem)
    return cfg
