"""Helpers of the command-line tools: read configs and options, and report errors in one sentence.

Heavy imports come after the arguments are parsed, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import import_modules_from_strings

from .data_files import dataset_configs
from .detection_benchmarks import complete_detection_data
from .errors import InputError, disk_problem, nearest, printable
from .preflight import require_all
from .setting_kinds import check_kinds, check_same_kind, parts, setting

# Lets a config inherit "mmsdpt::sdpt/glip_l_coco_k10.py", wherever the package is installed.
MODULE2PACKAGE.setdefault("mmsdpt", "mmsdpt")


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main`` and turn errors into messages and exit codes.

    An :class:`InputError`, or a disk that is full or read-only, prints one sentence and exits with
    2. Ctrl-C exits with 130. Any other error is a traceback. A closed pipe, as with ``| head``,
    ends the tool silently.
    """
    try:
        code = main()
        sys.stdout.flush()
    except InputError as error:
        # The message may quote a file with control characters, which must not reach the terminal.
        lines = (printable(line, 10_000) for line in str(error).split("\n"))
        sys.stderr.write("error: " + "\n".join(lines) + "\n")
        code = 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread():  # for example with ``| head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            sys.exit(1)
        if (message := disk_problem(error)) is None:
            raise
        sys.stderr.write(f"error: {message}\n")
        code = 2
    except KeyboardInterrupt:
        sys.stderr.write("\nerror: interrupted\n")
        code = 128 + signal.SIGINT
    sys.exit(code or 0)


def _is_unread() -> bool:
    """Whether the reader has closed stdout; the error may also come from another pipe."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class Options(DictAction):
    """``KEY=VALUE`` pairs. Reports malformed pairs in one sentence; strings keep their spaces."""

    @staticmethod
    def _parse_iterable(val: str):
        if " " in val and not any(sign in val for sign in ",[]()"):
            return val.strip("'\"")
        return DictAction._parse_iterable(val)

    def __call__(self, parser, namespace, values, option_string=None):
        wrong = [value for value in values if "=" not in value]
        if wrong:
            parser.error(f"{option_string} takes KEY=VALUE pairs, got {wrong[0]!r}")
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (AssertionError, RecursionError):  # wrong brackets; a dict
                parser.error(
                    f"{option_string} cannot parse {value!r}: write a list as [1,2], and set keys"
                    " of a dict one by one, as in optim_wrapper.optimizer.lr=0.1"
                )


def name_and_path(argument: str) -> tuple[str | None, str]:
    """Split ``[NAME=]PATH`` into name (or None) and path. An existing path may contain ``=``."""
    name, separator, path = argument.partition("=")
    return (name, path) if separator and not os.path.exists(argument) else (None, argument)


def own_name(name: str, path: str, taken: Mapping[str, str]) -> str:
    """The name, extended by the parent folder of ``path`` if it is already taken.

    Args:
        name: Preferred name of the path.
        path: A file or folder.
        taken: Paths by their names.

    Raises:
        InputError: if the longer name is taken, too.
    """
    if name in taken:
        name = f"{name}, {Path(path).resolve().parent.name}"
    if name in taken:
        raise InputError(
            f"{path} and {taken[name]} would have the same name {name!r}: write NAME={path}"
        )
    return name


def tool_parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows a tool's docstring line by line."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that training and testing share with MMDetection's tools."""
    parser.add_argument(
        "--work-dir", help="folder for logs and results; default: work_dirs/<config name>"
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what started several processes; default: %(default)s, for a single one",
    )
    # torch.distributed.launch passes this.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that change a config."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=Options,
        help="override settings of the config, e.g. train_cfg.max_epochs=5 load_from=PATH",
    )
    parser.add_argument(
        "--data-root", help="folder of the data; replaces the config's data_root everywhere"
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`mmsdpt.apis.load_model` needs besides tuner files."""
    parser.add_argument("--config", help="config that the file was trained with")
    parser.add_argument("--base", help="file of the base weights, if it was moved")
    parser.add_argument("--text-encoder", help="folder of GLIP's BERT, if it was moved")


_DEFAULTS = dict(cfg_options=None, data_root=None, work_dir=None, launcher="none")


def load_config(
    args: argparse.Namespace,
    roles: Sequence[str] = (),
    adjust: Callable[[Config], None] | None = None,
) -> Config:
    """Read ``args.config`` with the overrides of :func:`add_common_arguments`, then import its
    ``custom_imports``, which takes seconds.

    Args:
        args: The arguments: ``config``, and any of the common ones that the tool has.
        roles: Before the import, check that the weights and the data of these roles exist: see
            :func:`mmsdpt.utils.preflight.require_all`.
        adjust: Changes the config before that check, for the tool's own arguments.

    Raises:
        InputError: if the config file does not exist, or a check fails.
    """
    args = argparse.Namespace(**_DEFAULTS | vars(args))
    if not Path(args.config).is_file():
        raise InputError(f"config not found: {args.config}")
    if not args.config.endswith((".py", ".json", ".yaml", ".yml")):
        raise InputError(f"{args.config} is not a config: expected a .py, .json or .yaml file")
    if args.launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError(
            "--launcher pytorch needs torchrun: torchrun --nproc_per_node 2 tools/train.py CONFIG"
            " --launcher pytorch; for a single process leave out --launcher"
        )
    processes = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if roles and args.launcher == "none" and processes > 1:
        raise InputError(
            f"torchrun started {processes} processes, but without --launcher pytorch each would do"
            " all the work: add --launcher pytorch"
        )
    make_projects_importable()
    cfg = read_config_file(args.config, import_custom_modules=False)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options or {})
    if "model" not in cfg:
        raise InputError(f"{args.config} has no model: use a config for tools/train.py")
    complete_detection_data(cfg, args.data_root)
    if args.data_root and "benchmark" not in cfg:
        replace_data_root(cfg, args.data_root)
    spread_text_encoder(cfg, args.cfg_options or {})
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(args.config).stem)
    if adjust is not None:
        adjust(cfg)
    if roles:
        require_all(cfg, roles)
    if cfg.get("custom_imports"):
        try:
            import_modules_from_strings(**cfg.custom_imports)
        except ImportError as error:
            raise InputError(f"custom_imports of {args.config}: {error}") from error
    return cfg


def read_config_file(path: str | Path, **kwargs: Any) -> Config:
    """MMEngine's ``Config.fromfile`` for an existing file.

    Raises:
        InputError: if a file that it inherits from (``_base_``) does not exist.
    """
    try:
        cfg = Config.fromfile(path, **kwargs)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} inherits from {error.filename}, which does not exist; paths in _base_ are"
            " relative to the config's folder"
        ) from None
    _drop_own_scope(cfg._cfg_dict)
    return cfg


def _drop_own_scope(value: Any) -> None:
    """Remove ``_scope_ = "mmsdpt"``, which MMEngine adds to what comes from a ``_base_`` with
    ``mmsdpt::``. Names of the toolboxes would not be found in that scope.
    """
    if isinstance(value, dict):
        if value.get("_scope_") == "mmsdpt":
            value.pop("_scope_")
        value = list(value.values())
    for each in value if isinstance(value, (list, tuple)) else ():
        _drop_own_scope(each)


# Settings that a run reads but a config may not have: arguments of MMEngine's Runner, and others.
OF_THE_RUNNER = (
    *("model", "work_dir", "data_preprocessor", "load_from", "resume", "launcher", "env_cfg"),
    *(f"{role}_{part}" for role in ("train", "val", "test") for part in ("dataloader", "cfg")),
    *("val_evaluator", "test_evaluator", "optim_wrapper", "param_scheduler", "auto_scale_lr"),
    *("default_hooks", "custom_hooks", "log_processor", "log_level", "visualizer"),
    *("default_scope", "randomness", "experiment_name", "runner_type", "custom_imports"),
    *("tuner_files", "resume_from", "find_unused_parameters", "data_root", "lang_model_name"),
    *("benchmark", "encoder_dtype", "feature_cache"),
    *("compile", "activation_checkpointing", "efficient_conv_bn_eval"),
)


def merge_options(
    cfg: Config,
    options: Mapping[str, Any],
    what: str = "--cfg-options ",
    known: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Merge settings by dotted name into a config, and check the types of its settings.

    Args:
        what: Prefix of an option's name in messages.
        known: Names that the config may lack, by the path of their dict; by default a run's.

    Raises:
        InputError: for an option that would have no effect, or has the wrong type.
    """
    _check_names(options, cfg, what, {"": OF_THE_RUNNER} if known is None else known)
    before = {name: setting(cfg, name) for name in options}
    try:
        cfg.merge_from_dict(options)
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise InputError(f"{what}{printable(given)} does not fit the config: {error}") from error
    check_kinds(cfg)
    for name, value in options.items():
        check_same_kind(name, before[name], value)


def _check_names(
    options: Mapping[str, Any], cfg: Config, what: str, known: Mapping[str, Sequence[str]]
) -> None:
    """Refuse an option that would have no effect: its first part is not in the config, or a later
    part is close to an existing key of a dict without a type, which no constructor checks.

    Raises:
        InputError: with the closest name.
    """
    for name in options:
        part: Any = cfg
        words = name.split(".")
        for number, word in enumerate(words):
            checked = number > 0 and "type" in part
            names = [*part, *known.get(".".join(words[:number]), ())]
            if word not in names and not checked:
                near = nearest(word, names, 0.8 if number else 0.6)
                if near or not number:
                    raise InputError(f"{what}{name}: the config has no {word}{near}")
            part = part.get(word)
            if isinstance(part, (list, tuple)):
                rest = words[number + 1 :]
                if rest and not (rest[0].isdigit() and int(rest[0]) < len(part)):
                    raise InputError(
                        f"{what}{name}: {word} is a list of length {len(part)}, and"
                        f" {rest[0]!r} is not a valid index (they start at 0)"
                    )
            if not isinstance(part, Mapping):
                break


def make_projects_importable() -> None:
    """Let configs name modules of ``projects/`` in ``custom_imports``, wherever a tool is started.

    The folder is beside the package in a checkout; an installed package does not have it.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "projects").is_dir() and str(root) not in sys.path:
        sys.path.append(str(root))


def replace_data_root(cfg: Config, folder: str) -> None:
    """Replace the prefix ``cfg.data_root`` in every string of the config, as datasets and
    evaluators contain it. If the datasets have a different ``data_root``, that one is replaced.

    Raises:
        InputError: if the config has no ``data_root``, or its datasets have several.
    """
    old = (cfg.get("data_root") or "").rstrip("/")
    if not old:
        raise InputError("--data-root needs a config that sets data_root")
    loaders = [cfg.get(f"{role}_dataloader") for role in ("train", "val", "test")]
    found = [part.get("data_root") for loader in loaders for _, part in parts(loader)]
    roots = {root.rstrip("/") for root in found if isinstance(root, str)}
    if roots and not any(f"{root}/".startswith(old + "/") for root in roots):
        if len(roots) > 1:
            raise InputError(
                f"--data-root replaces one folder, but the datasets use {', '.join(sorted(roots))}:"
                " change them in the config"
            )
        (old,) = roots
    for key in list(cfg):
        cfg[key] = replace_prefix(cfg[key], old + "/", folder.rstrip("/") + "/")


def replace_prefix(value, old: str, new: str):
    """A copy of a config's value in which paths that begin with ``old`` begin with ``new``."""
    if isinstance(value, dict):
        return type(value)({key: replace_prefix(value[key], old, new) for key in value})
    if isinstance(value, (list, tuple)):
        return type(value)(replace_prefix(item, old, new) for item in value)
    if isinstance(value, str) and f"{value}/".startswith(old):
        return new + value[len(old) :]
    return value


def spread_text_encoder(cfg: Config, options: Mapping[str, Any]) -> None:
    """Copy ``--cfg-options lang_model_name=PATH``, or its copy in the model, to all places of the
    config that use it.
    """
    name = cfg.get("lang_model_name")
    if "lang_model_name" not in options:
        name = options.get("model.language_model.name", name)
    if name is None or "language_model" not in cfg.get("model", {}):
        return
    cfg.model.language_model.name = name
    if "lang_model_name" in cfg.model.bbox_head:  # GLIP's head has text layers of BERT's size
        cfg.model.bbox_head.lang_model_name = name
    for dataset in dataset_configs((cfg.get("train_dataloader") or {}).get("dataset")):
        for step in dataset.get("pipeline") or ():
            if isinstance(step, dict) and step.get("language_model"):
                step["language_model"] = name
