"""What the command line tools share: from the command line to a config, from an error to one
sentence.

Nothing heavy is imported here or by a tool before it has read its arguments: ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.utils import import_modules_from_strings

from .errors import InputError
from .preflight import require_all


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main``: an :class:`InputError` becomes one sentence and exit code 2, any other
    error a traceback.
    """
    try:
        code = main()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 2
    sys.exit(code or 0)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of MMDetection's tools that training and testing share."""
    parser.add_argument(
        "--work-dir", help="where logs and files go; default: work_dirs/<config name>"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="override settings, e.g. --cfg-options train_cfg.max_epochs=5 load_from=PATH",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--data-root", help="another folder for the config's data_root, wherever it is used"
    )
    # torch.distributed.launch hands this over.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace, roles: Sequence[str] = ()) -> Config:
    """Read ``args.config`` with the overrides of :func:`add_common_arguments`, then import the
    modules that it names, which takes seconds.

    Args:
        args: The arguments.
        roles: Check before the import that weights are there, and the data of these roles: see
            :func:`mmsdpt.utils.preflight.require_all`.

    Raises:
        InputError: if the config file does not exist, or anything that is checked.
    """
    if not Path(args.config).is_file():
        raise InputError(f"config not found: {args.config}")
    make_projects_importable()
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.data_root:
        replace_data_root(cfg, args.data_root)
    spread_text_encoder(cfg)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(args.config).stem)
    if roles:
        require_all(cfg, roles)
    if cfg.get("custom_imports"):
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def make_projects_importable() -> None:
    """Let configs name modules of ``projects/`` in ``custom_imports``, wherever a tool is started.

    The folder lies beside the package in a checkout; an installed package has none.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "projects").is_dir() and str(root) not in sys.path:
        sys.path.append(str(root))


def replace_data_root(cfg: Config, folder: str) -> None:
    """Replace the prefix ``cfg.data_root`` in every string of the config: datasets and evaluators
    spell it out. Where the datasets have another ``data_root`` of their own, that one is replaced.

    Raises:
        InputError: if the config has no ``data_root``, or its datasets have several others.
    """
    old = (cfg.get("data_root") or "").rstrip("/")
    if not old:
        raise InputError("--data-root needs a config with data_root")
    loaders = [cfg.get(f"{role}_dataloader") for role in ("train", "val", "test")]
    roots = {root.rstrip("/") for loader in loaders for root in data_roots(loader)}
    if roots and not any(f"{root}/".startswith(old + "/") for root in roots):
        if len(roots) > 1:
            raise InputError(
                f"--data-root replaces one folder, and the datasets have {', '.join(sorted(roots))}"
                ": change them in the config"
            )
        (old,) = roots
    cfg._cfg_dict = replace_prefix(cfg._cfg_dict, old + "/", folder.rstrip("/") + "/")


def data_roots(value) -> Iterator[str]:
    """Every ``data_root`` inside a config's value."""
    if isinstance(value, dict):
        if isinstance(value.get("data_root"), str):
            yield value["data_root"]
        for part in value.values():
            yield from data_roots(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from data_roots(part)


def replace_prefix(value, old: str, new: str):
    if isinstance(value, dict):
        for key in value:
            value[key] = replace_prefix(value[key], old, new)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(replace_prefix(item, old, new) for item in value)
    if isinstance(value, str) and f"{value}/".startswith(old):
        return new + value[len(old) :]
    return value


def spread_text_encoder(cfg: Config) -> None:
    """Let ``--cfg-options lang_model_name=PATH`` reach the two places that MMDetection's configs
    copy it to.
    """
    name = cfg.get("lang_model_name")
    if name is None or "language_model" not in cfg.get("model", {}):
        return
    cfg.model.language_model.name = name
    cfg.model.bbox_head.lang_model_name = name
