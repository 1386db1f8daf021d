"""What the tools that run cells share: arguments, names of configs, the progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save

from mmsdpt.registry import MODELS
from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError

from .compose import Setup, num_blocks
from .configs import read_config
from .execute import Results, run_cells
from .methods import Method
from .plan import Cell
from .trainings import quiet_log

PACKAGE_WEIGHTS = {"mini_clip": "mmsdpt://mini_clip"}
RANDOM_WEIGHTS = "none"
_SHARED = "clip_fewshot"  # base of the datasets' configs


def add_run_arguments(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """Arguments of all tools that run cells."""
    parser.add_argument(
        "--model",
        default="clip_vit_b16",
        help="name of a config in configs/_base_/models, or path of your own (clip_vit_b16)",
    )
    parser.add_argument(
        "--load-from",
        help=f"base weights instead of those that the model's config names; '{RANDOM_WEIGHTS}':"
        " random ones, to try the software",
    )
    parser.add_argument("--data-root", default="data", help="folder of the datasets (data)")
    parser.add_argument(
        "--own-dataset",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="configs of datasets of your own, made like configs/_base_/datasets/clip_clothing.py",
    )
    parser.add_argument("--image-size", type=int, help="side of the images; default: the model's")
    parser.add_argument("--work-dir", default=work_dir, help=f"results and reports ({work_dir})")
    parser.add_argument("--epochs", type=int, help="of every training, instead of the methods' own")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings of all cells, e.g. --cfg-options optim_wrapper.optimizer.lr=0.01",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="(1 2 3)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that compute at a time (1)")
    parser.add_argument("--threads", type=int, help="PyTorch's threads of each")
    parser.add_argument(
        "--workers", type=int, help="processes that load images; on a CPU none, by default"
    )
    parser.add_argument("--redo", action="store_true", help="compute what is finished, too")


def find_model(name: str, bases: Path) -> Path:
    """The config of a model by its path or name.

    Args:
        name: Path (``*.py``) or name.
        bases: The folder ``configs/_base_``.

    Raises:
        InputError: if there is none.
    """
    path = Path(name) if name.endswith(".py") else bases / "models" / f"{name}.py"
    if not path.is_file():
        known = sorted(each.stem for each in (bases / "models").glob("*clip*.py"))
        raise InputError(
            f"there is no model {name}; there are {', '.join(known)}, and configs of your own by"
            " their path"
        )
    return path


def find_datasets(names: Sequence[str], own: Sequence[str], bases: Path) -> dict[str, Path]:
    """Configs of datasets by name, in this order.

    Args:
        names: Names of ``configs/_base_/datasets/clip_*.py``, or of one in ``own``.
        own: Paths of configs; their names are those of the files, without ``clip_``.
        bases: The folder ``configs/_base_``.

    Raises:
        InputError: if there is none, or two have one name.
    """
    folder = bases / "datasets"
    given: dict[str, Path] = {}
    for path in map(Path, own):
        name = path.stem.removeprefix("clip_")
        if not path.is_file():
            raise InputError(f"the dataset's config {path} does not exist")
        if name in given and given[name] != path:
            raise InputError(f"two datasets are called {name!r}: rename the config {path}")
        given[name] = path
    found: dict[str, Path] = {}
    for name in (*names, *given):
        path = given.get(name, folder / f"clip_{name.replace('-', '_')}.py")
        if not path.is_file():
            known = sorted(each.stem for each in folder.glob("clip_*.py") if each.stem != _SHARED)
            raise InputError(
                f"there is no dataset {name!r}; there are"
                f" {', '.join(each.removeprefix('clip_') for each in known)}, and your own with"
                " --own-dataset CONFIG"
            )
        found[name] = path
    return found


def make_setup(
    args: argparse.Namespace,
    bases: Path,
    datasets: dict[str, Path],
    methods: dict[str, Method],
) -> Setup:
    """The setup of the arguments of :func:`add_run_arguments`.

    Raises:
        InputError: if an argument makes no sense.
    """
    for name in ("epochs", "jobs", "threads", "image_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is at least 1, got {value}")
    model = find_model(args.model, bases)
    weights = args.load_from or PACKAGE_WEIGHTS.get(model.stem)
    if weights == RANDOM_WEIGHTS:
        weights = str(_random_weights(model, Path(args.work_dir) / model.stem))
    return Setup(
        runtime=bases / "clip_runtime.py",
        model=model,
        datasets=datasets,
        methods=methods,
        load_from=weights,
        data_root=args.data_root,
        image_size=args.image_size,
        epochs=args.epochs,
        options=args.cfg_options or {},
        workers=args.workers,
    )


def _random_weights(model: Path, folder: Path) -> Path:
    """A file of random weights, the same for all cells of a work directory."""
    path = folder / "random_weights.safetensors"
    if not path.is_file():
        quiet_log()
        with DefaultScope.overwrite_default_scope("mmpretrain"), torch.random.fork_rng():
            torch.manual_seed(0)
            host = MODELS.build(read_config(model).model)
            host.init_weights()
        state = {name: value.contiguous() for name, value in host.state_dict().items()}
        write_atomically(path, save(state))
    return path


def depth_notes(setup: Setup) -> list[str]:
    """What is to be said where a model has fewer blocks than methods give prompts to."""
    blocks = num_blocks(setup.model)
    deeper = [
        method.label
        for method in setup.methods.values()
        for tuner in method.parts()["tuners"].values()
        if (tuner.get("depth") or 0) > blocks
    ]
    if not deeper:
        return []
    return [
        f"The towers of this model have {blocks} blocks, fewer than the configs of"
        f" {', '.join(deeper)} give prompts to: here all blocks have them."
    ]


def run_with_progress(
    cells: Sequence[Cell], setup: Setup, args: argparse.Namespace, console: Console
) -> Results:
    """Run cells under a progress bar that says what fails as it fails.

    Args:
        cells: Cells.
        setup: What they share.
        args: Of :func:`add_run_arguments`.
        console: Where the bar is.
    """
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(cells))

        def show(cell: Cell, result: dict[str, Any]) -> None:
            what = describe(cell)
            if "error" in result:
                progress.console.print(f"[red]failed[/]: {what}: {result['error']}", soft_wrap=True)
                progress.update(task, advance=1)
            else:
                score = f"{what}: {result['accuracy']:.2f} %"
                progress.update(task, advance=1, description=score)

        return run_cells(
            cells,
            setup,
            Path(args.work_dir) / setup.model.stem,
            redo=args.redo,
            jobs=args.jobs,
            threads=args.threads,
            on_cell=show,
        )


def describe(cell: Cell) -> str:
    """A cell in words."""
    training = cell.training
    words = f"{training.method} on {cell.target}"
    if cell.classes != "all":
        words += f" ({cell.classes})"
    if training.source is not None:
        words += f", {training.shots} shots, seed {training.seed}"
    return words
