"""The demo of ``tools/demo.py``: test, train, test, and test with the tuner switched off."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from mmcv.image import imread
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.structures import InstanceData
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mmsdpt.engine import TunerRunner, build_runner
from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.cli import load_config
from mmsdpt.utils.errors import InputError
from mmsdpt.visualization import Boxes

from .comparison import ComparisonPicture

FEW_SHOT = "mmsdpt.FewShotDataset"

# ---------------------------------------------------------------------- config


def demo_config(args: argparse.Namespace) -> Config:
    """The config for all runs: the shots put in, validation left out, as the test follows soon.

    Raises:
        InputError: if the config is not one of a tuner, trained on a few-shot selection.
    """
    cfg = load_config(args)
    slots = resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners"))
    if len(slots) != 1:
        raise InputError(
            f"the demo shows one tuner, {args.config} has {len(slots)}: set model.tuner"
        )
    few_shot = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    if few_shot.get("type") != FEW_SHOT:
        raise InputError(
            f"the demo chooses the shots by seed and needs a config whose training dataset is"
            f" {FEW_SHOT}, {args.config} has {few_shot.get('type')}"
        )
    few_shot.shots = args.shots
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.default_hooks.checkpoint.interval = -1  # only at the end: nobody resumes so short a run
    cfg.resume = False
    if cfg.get("feature_cache") is None:
        # Images are flipped or not: what the frozen encoders make of both is computed once.
        cfg.feature_cache = dict(views="drawn")
    return cfg


def method_of(cfg: Config) -> str:
    """The name of the config's tuner, for titles."""
    (tuner,) = resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners")).values()
    return tuner["type"].removeprefix("mmsdpt.")


# ---------------------------------------------------------------------- one run


@dataclass
class Score:
    """A test: AP and AP50 in percent, and the detections by image id."""

    ap: float
    ap50: float
    seconds: float
    detections: dict[int, InstanceData]


@dataclass
class Run:
    """What one seed gave."""

    seed: int
    method: str
    zero_shot: Score
    tuned: Score
    switched_off: Score
    seconds: float
    trainable: int
    total: int
    tuner_file: Path

    @property
    def off_is_exact(self) -> bool:
        """Whether every detection with the tuner off equals the zero-shot one bit for bit."""
        before, after = self.zero_shot.detections, self.switched_off.detections
        return before.keys() == after.keys() and all(
            torch.equal(before[image][key], after[image][key])
            for image in before
            for key in ("bboxes", "scores", "labels")
        )


class ProgressHook(Hook):
    """Progress bars of training and testing, and the detections of the last test.

    Args:
        progress: Where the bars are shown.
    """

    priority = "VERY_LOW"

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.title = ""
        self.detections: dict[int, InstanceData] = {}

    def _start(self, total: int) -> None:
        self._bar = self.progress.add_task(self.title, total=total, note="")

    def before_train(self, runner: TunerRunner) -> None:
        self._start(runner.max_iters)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.progress.update(self._bar, advance=1, note=f"loss {outputs['loss'].item():.3f}")

    def before_test(self, runner: TunerRunner) -> None:
        self.detections = {}
        self._start(len(runner.test_dataloader))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()) -> None:
        for sample in outputs:
            self.detections[sample.img_id] = sample.pred_instances.cpu()
        self.progress.update(self._bar, advance=1)

    def after_test_epoch(self, runner, metrics=None) -> None:
        self.progress.update(self._bar, note=f"AP {_percent(metrics, 'bbox_mAP'):.1f}")


def _percent(metrics: dict, name: str) -> float:
    # MMDetection gives no number at all where nothing was detected in any image.
    return 100 * metrics.get(f"coco/{name}", 0.0)


def run_seed(
    cfg: Config, seed: int, out: Path, progress: Progress, zero_shot: Score | None = None
) -> tuple[Run, TunerRunner]:
    """Test, train, test and test again, with one model and one runner.

    Args:
        cfg: From :func:`demo_config`; stays as it is.
        seed: Of the choice of shots, the tokens' values and the order of training.
        out: Work directory of the run.
        progress: Where the bars are shown.
        zero_shot: The first test, if an earlier run has done it: it has no seed.
    """
    cfg = Config(cfg._cfg_dict, filename=cfg.filename).copy()
    cfg.work_dir = str(out)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)
    cfg.train_dataloader.dataset.seed = seed
    # MMEngine keeps visualizers by name for the whole process: each run its own.
    cfg.visualizer = dict(cfg.visualizer, name=str(out))
    runner: TunerRunner = build_runner(cfg)
    hook = ProgressHook(progress)
    runner.register_hook(hook)
    host, method = runner.host, method_of(cfg)
    # Before the first test loads the base weights: train() initialises whatever is not, yet.
    host.init_weights()

    def test(title: str) -> Score:
        hook.title = title
        start = time.perf_counter()
        metrics = runner.test()
        return Score(
            _percent(metrics, "bbox_mAP"),
            _percent(metrics, "bbox_mAP_50"),
            time.perf_counter() - start,
            hook.detections,
        )

    try:
        if zero_shot is None:
            with host.tuners_off():
                zero_shot = test("zero-shot test")
        hook.title = f"{method} training, seed {seed}"
        start = time.perf_counter()
        runner.train()
        seconds = time.perf_counter() - start
        tuned = test(f"test with {method}")
        with host.tuners_off():
            switched_off = test(f"test, {method} switched off")
    finally:
        for handler in list(runner.logger.handlers):
            runner.logger.removeHandler(handler)
            handler.close()
    sizes = [(p.numel(), p.requires_grad) for p in host.parameters()]
    run = Run(
        seed,
        method,
        zero_shot,
        tuned,
        switched_off,
        seconds,
        sum(size for size, trains in sizes if trains),
        sum(size for size, _ in sizes),
        out / "tuner.safetensors",
    )
    return run, runner


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what the toolboxes print to a file, where it disturbs no progress bar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield


# ---------------------------------------------------------------------- report


def draw_picture(run: Run, runner: TunerRunner, count: int, path: Path, title: str) -> None:
    """Draw evenly spaced test images, not chosen ones, before and after."""
    dataset = runner.test_dataloader.dataset
    picture = ComparisonPicture(
        dataset.metainfo["classes"],
        (
            "Ground truth",
            f"Before: zero-shot, AP {run.zero_shot.ap:.1f}",
            f"After: with {run.method}, AP {run.tuned.ap:.1f}",
        ),
    )
    count = min(count, len(dataset))
    for index in (len(dataset) * i // count for i in range(count)):
        info = dataset.get_data_info(index)
        truth = Boxes(
            [box["bbox"] for box in info["instances"]],
            [box["bbox_label"] for box in info["instances"]],
        )
        found = [
            Boxes(instances.bboxes.numpy(), instances.labels.numpy(), instances.scores.numpy())
            for instances in (
                score.detections[info["img_id"]] for score in (run.zero_shot, run.tuned)
            )
        ]
        image = imread(info["img_path"], channel_order="rgb")
        picture.add(image, f"test image {info['img_id']}", truth, *found)
    picture.save(path, title)


def _shots(count: int) -> str:
    return "1 shot" if count == 1 else f"{count} shots"


def run_table(run: Run, shots: int) -> Table:
    """The three tests of one run."""
    table = Table()
    table.add_column("")
    for name in ("AP", "AP50", "trainable\nparameters", "tuner\nfile", "training", "test"):
        table.add_column(name, justify="right")
    size = f"{run.tuner_file.stat().st_size / 1000:.1f} kB"
    trained = f"{run.trainable:,}\n({run.trainable / run.total:.2%})"
    for name, score, *rest in (
        ("zero-shot", run.zero_shot, "", "", ""),
        (f"{run.method}, {_shots(shots)}", run.tuned, trained, size, f"{run.seconds:.0f} s"),
        (f"{run.method} switched off", run.switched_off, "", "", ""),
    ):
        table.add_row(name, f"{score.ap:.1f}", f"{score.ap50:.1f}", *rest, f"{score.seconds:.0f} s")
    return table


def seeds_table(runs: list[Run]) -> Table:
    """AP of several runs, with mean and sample standard deviation."""
    table = Table()
    table.add_column("seed")
    method = runs[0].method
    for name in ("zero-shot\nAP", f"{method}\nAP", "gain", "zero-shot\nAP50", f"{method}\nAP50"):
        table.add_column(name, justify="right")
    rows = [
        (
            run.zero_shot.ap,
            run.tuned.ap,
            run.tuned.ap - run.zero_shot.ap,
            run.zero_shot.ap50,
            run.tuned.ap50,
        )
        for run in runs
    ]
    for run, row in zip(runs, rows, strict=True):
        table.add_row(str(run.seed), *(f"{value:.1f}" for value in row))
    table.add_section()
    columns = zip(*rows, strict=True)
    means = (f"{statistics.mean(c):.1f} ± {statistics.stdev(c):.1f}" for c in columns)
    table.add_row("mean ± std", *means)
    return table


def next_commands(args: argparse.Namespace, run: Run) -> str:
    """What to try next, ready to be copied."""
    changed = args.cfg_options or args.data_root
    # MMEngine writes the config as it was used into the work directory.
    config = run.tuner_file.parent / Path(args.config).name if changed else Path(args.config)
    python, config_path, file = (
        os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
        for path in (sys.executable, config.absolute(), run.tuner_file.absolute())
    )
    return (
        f"  {python} tools/test.py {config_path} {file}\n"
        f"  {python} tools/tuner_file.py inspect {file}\n"
        "  docs/new_dataset.md tells how to do the same with your own images"
    )


def as_json(runs: list[Run], cfg: Config, shots: int) -> str:
    """The numbers of all runs, to be kept."""
    content = dict(
        task=cfg.get("task"),
        shots=shots,
        load_from=cfg.load_from,
        runs=[
            dict(
                seed=run.seed,
                **{
                    name: dict(AP=round(score.ap, 1), AP50=round(score.ap50, 1))
                    for name, score in (
                        ("zero_shot", run.zero_shot),
                        ("tuned", run.tuned),
                        ("switched_off", run.switched_off),
                    )
                },
                off_is_exact=run.off_is_exact,
                trainable=run.trainable,
                training_seconds=round(run.seconds, 1),
            )
            for run in runs
        ],
    )
    return json.dumps(content, indent=1)


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo with the arguments of ``tools/demo.py``; 0 if switching off is exact."""
    cfg = demo_config(args)
    console = Console(highlight=False, markup=False)
    out = Path(args.out)
    log = out / "output.log"
    task = cfg.get("task") or Path(args.config).stem
    title = f"{method_of(cfg)} on {Path(cfg.load_from).stem}, task {task}, {_shots(args.shots)}"
    console.print(title, style="bold")
    console.print(f"Messages of the toolboxes go to {log}")
    progress = Progress(
        TextColumn("{task.description:24}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    seeds = args.seeds or [args.seed]
    runs: list[Run] = []
    with progress, output_to(log):
        for seed in seeds:
            folder = out / f"seed_{seed}" if len(seeds) > 1 else out
            run, runner = run_seed(cfg, seed, folder, progress, runs[0].zero_shot if runs else None)
            if not runs and args.images > 0:
                draw_picture(run, runner, args.images, out / "before_after.png", title)
            runs.append(run)
    console.print(run_table(runs[0], args.shots))
    if len(runs) > 1:
        console.print(seeds_table(runs))
    (out / "results.json").write_text(as_json(runs, cfg, args.shots) + "\n", encoding="utf-8")
    exact = all(run.off_is_exact for run in runs)
    count = sum(len(found) for found in runs[0].zero_shot.detections.values())
    if exact:
        console.print(f"Switched off, all {count:,} detections equal the zero-shot ones exactly.")
    else:
        console.print(
            "Switched off, the detections differ from the zero-shot ones.", style="bold red"
        )
    if args.images > 0:
        console.print(f"Picture:    {out / 'before_after.png'}")
    # Commands are to be copied: not wrapped at the width of the screen.
    console.print(
        f"Tuner file: {runs[0].tuner_file}\nNext:\n{next_commands(args, runs[0])}", soft_wrap=True
    )
    return 0 if exact else 1
