"""What the command line tools share: from the command line to a config, from an error to one
sentence.

Nothing heavy is imported here or by a tool before it has read its arguments: ``--help`` is quick.
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
    """Run a tool's ``main``: an :class:`InputError`, and a disk that is full or closed to writing,
    become one sentence and exit code 2, Ctrl-C one and 130, any other error a traceback. Output
    that nobody reads any more ends the tool silently.
    """
    try:
        code = main()
        sys.stdout.flush()
    except InputError as error:
        # It may tell what a file says, which is not to command the terminal.
        lines = (printable(line, 10_000) for line in str(error).split("\n"))
        sys.stderr.write("error: " + "\n".join(lines) + "\n")
        code = 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread():  # as of ``| head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            sys.exit(1)
        if (told := disk_problem(error)) is None:
            raise
        sys.stderr.write(f"error: {told}\n")
        code = 2
    except KeyboardInterrupt:
        sys.stderr.write("\nerror: interrupted\n")
        code = 128 + signal.SIGINT
    sys.exit(code or 0)


def _is_unread() -> bool:
    """Whether who read what is printed has closed it; pipes of other kinds may break, too."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class Options(DictAction):
    """``KEY=VALUE`` pairs; what is no pair is said in one sentence, and a text keeps its spaces."""

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
            except (AssertionError, RecursionError):  # brackets that do not match; a dict
                parser.error(
                    f"{option_string} cannot read {value!r}: a list is [1,2], and what a dict holds"
                    " is set one by one, as in optim_wrapper.optimizer.lr=0.1"
                )


def name_and_path(argument: str) -> tuple[str | None, str]:
    """``[NAME=]PATH`` as name, None where there is none, and path. The name of a file or folder
    that exists may have ``=`` in it.
    """
    name, separator, path = argument.partition("=")
    return (name, path) if separator and not os.path.exists(argument) else (None, argument)


def own_name(name: str, path: str, taken: Mapping[str, str]) -> str:
    """The name, followed by that of the folder around ``path`` where another path has it already.

    Args:
        name: What to call the path.
        path: Of a file or folder.
        taken: Paths by their names.

    Raises:
        InputError: if another path has the longer name, too.
    """
    if name in taken:
        name = f"{name}, {Path(path).resolve().parent.name}"
    if name in taken:
        raise InputError(
            f"{path} and {taken[name]} would both be called {name!r}: write NAME={path}"
        )
    return name


def tool_parser(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows a tool's docstring line by line."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of MMDetection's tools that training and testing share."""
    parser.add_argument(
        "--work-dir", help="where logs and files go; default: work_dirs/<config name>"
    )
    add_data_arguments(parser)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torch.distributed.launch hands this over.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that change a config."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=Options,
        help="override settings, e.g. --cfg-options train_cfg.max_epochs=5 load_from=PATH",
    )
    parser.add_argument(
        "--data-root", help="another folder for the config's data_root, wherever it is used"
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What :func:`mmsdpt.apis.load_model` needs beside tuner files."""
    parser.add_argument("--config", help="config that the file was trained with")
    parser.add_argument("--base", help="file of the base weights, if it is elsewhere now")
    parser.add_argument("--text-encoder", help="folder of GLIP's BERT, if it is elsewhere now")


_DEFAULTS = dict(cfg_options=None, data_root=None, work_dir=None, launcher="none")


def load_config(
    args: argparse.Namespace,
    roles: Sequence[str] = (),
    adjust: Callable[[Config], None] | None = None,
) -> Config:
    """Read ``args.config`` with the overrides of :func:`add_common_arguments`, then import the
    modules that it names, which takes seconds.

    Args:
        args: The arguments: ``config``, and those of the others that a tool has.
        roles: Check before the import that weights are there, and the data of these roles: see
            :func:`mmsdpt.utils.preflight.require_all`.
        adjust: Changes the config before that check, by arguments of the tool's own.

    Raises:
        InputError: if the config file does not exist, or anything that is checked.
    """
    args = argparse.Namespace(**_DEFAULTS | vars(args))
    if not Path(args.config).is_file():
        raise InputError(f"config not found: {args.config}")
    if not args.config.endswith((".py", ".json", ".yaml", ".yml")):
        raise InputError(f"{args.config} is not a config, which ends in .py")
    if args.launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError(
            "--launcher pytorch is for processes that torchrun starts: torchrun --nproc_per_node 2"
            " tools/train.py CONFIG --launcher pytorch; one process needs no --launcher"
        )
    processes = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if roles and args.launcher == "none" and processes > 1:
        raise InputError(
            f"torchrun started {processes} processes, and without --launcher pytorch each would do"
            " all of the work: add --launcher pytorch"
        )
    make_projects_importable()
    cfg = read_config_file(args.config, import_custom_modules=False)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options or {})
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
    """MMEngine's ``Config.fromfile`` of a file that is there.

    Raises:
        InputError: if a file that it names, as in ``_base_``, is not there.
    """
    try:
        return Config.fromfile(path, **kwargs)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} needs {error.filename}, which is not there; paths in _base_ begin in the"
            " config's own folder"
        ) from None


# What a run reads where a config may not have it: arguments of MMEngine's Runner, and the rest.
OF_THE_RUNNER = (
    *("model", "work_dir", "data_preprocessor", "load_from", "resume", "launcher", "env_cfg"),
    *(f"{role}_{part}" for role in ("train", "val", "test") for part in ("dataloader", "cfg")),
    *("val_evaluator", "test_evaluator", "optim_wrapper", "param_scheduler", "auto_scale_lr"),
    *("default_hooks", "custom_hooks", "log_processor", "log_level", "visualizer"),
    *("default_scope", "randomness", "experiment_name", "runner_type", "custom_imports"),
    *("tuner_files", "resume_from", "find_unused_parameters", "data_root", "lang_model_name"),
    *("benchmark", "feature_cache"),
    *("compile", "activation_checkpointing", "efficient_conv_bn_eval"),
)


def merge_options(
    cfg: Config,
    options: Mapping[str, Any],
    what: str = "--cfg-options ",
    known: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Merge settings by dotted name into a config, and check that its settings have their kinds.

    Args:
        what: In front of an option's name in a sentence.
        known: Names that the config may lack, by the place of their dict; by default a run's.

    Raises:
        InputError: for an option that would do nothing, or does not fit what it takes the place of.
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
    """Refuse an option that would do nothing: its first word is nothing that a config has, or a
    later one is much like a neighbour in a dict without a type, which no constructor checks.

    Raises:
        InputError: with the nearest name.
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
                    raise InputError(f"{what}{name}: there is no {word} in the config{near}")
            part = part.get(word)
            if isinstance(part, (list, tuple)):
                rest = words[number + 1 :]
                if rest and not (rest[0].isdigit() and int(rest[0]) < len(part)):
                    raise InputError(
                        f"{what}{name}: {word} is a list of {len(part)}, and"
                        f" {rest[0]!r} is no place in it; the first is 0"
                    )
            if not isinstance(part, Mapping):
                break


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
    found = [part.get("data_root") for loader in loaders for _, part in parts(loader)]
    roots = {root.rstrip("/") for root in found if isinstance(root, str)}
    if roots and not any(f"{root}/".startswith(old + "/") for root in roots):
        if len(roots) > 1:
            raise InputError(
                f"--data-root replaces one folder, and the datasets have {', '.join(sorted(roots))}"
                ": change them in the config"
            )
        (old,) = roots
    for key in list(cfg):
        cfg[key] = replace_prefix(cfg[key], old + "/", folder.rstrip("/") + "/")


def replace_prefix(value, old: str, new: str):
    """A config's value with ``new`` where a path in it begins with ``old``; it is left as it is."""
    if isinstance(value, dict):
        return type(value)({key: replace_prefix(value[key], old, new) for key in value})
    if isinstance(value, (list, tuple)):
        return type(value)(replace_prefix(item, old, new) for item in value)
    if isinstance(value, str) and f"{value}/".startswith(old):
        return new + value[len(old) :]
    return value


def spread_text_encoder(cfg: Config, options: Mapping[str, Any]) -> None:
    """Let ``--cfg-options lang_model_name=PATH``, or that of its copy in the model, reach all
    places that configs copy it to.
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
