"""Time and peak memory of a training step and an inference step, in our form and in the plain one.

``python -m projects.benchmark.benchmark_step configs/sdpt/glip_l_coco_k10.py --random-weights``

Both forms run on the same weights and inputs, each in a process of its own, and must give the same
losses. The plain form is MMDetection's of GLIP (plain_form.py), and on CLIP that of MMPreTrain and
of the published codes of prompt learning (plain_clip_form.py). Without the public weights
--random-weights draws them, and a BERT-base folder, too; times and memory do not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from projects.benchmark.random_bert import make_bert

PLAIN, PLAIN_ON_LARGE_PAGES = "plain", "plain_on_large_pages"
FORMS = ("ours", PLAIN)
CACHED = "cached"  # ours, where what is frozen has been computed
_PR_SET_THP_DISABLE = 41  # of prctl(2)
TOLERANCE = 1e-4  # of the losses, relative, in float32
GIGA = 1e9

# ---------------------------------------------------------------------- one form, in this process


def load(args: argparse.Namespace, bert: str | None):
    from mmsdpt.utils.cli import load_config

    options = dict(args.cfg_options or {})
    if bert is not None:
        options["lang_model_name"] = bert
    return load_config(argparse.Namespace(config=args.config, cfg_options=options))


def host_of(cfg):
    """The module that knows the host of a config."""
    names = {"GLIP": "glip_step", "GroundingDINO": "grounding_dino_step", "CLIP": "clip_step"}
    name = names.get(cfg.model.type.removeprefix("mmsdpt."))
    if name is None:
        from mmsdpt.utils.errors import InputError

        raise InputError(
            "model.type must be mmsdpt.GLIP, mmsdpt.GroundingDINO or mmsdpt.CLIP, got"
            f" {cfg.model.type!r}"
        )
    return importlib.import_module(f"projects.benchmark.{name}")


def build(cfg, args: argparse.Namespace, form: str):
    """The model of ``cfg`` in one of the forms, with the same weights in both."""
    import torch
    from mmengine.registry import init_default_scope

    from mmsdpt.hosts.stages import StageCache
    from mmsdpt.registry import MODELS
    from mmsdpt.utils.base_weights import load_base_file, resolve_checkpoint
    from mmsdpt.utils.feature_store import FeatureStore

    init_default_scope(cfg.default_scope)
    host = host_of(cfg)
    torch.manual_seed(0)
    plain = form in (PLAIN, PLAIN_ON_LARGE_PAGES)
    model = MODELS.build(host.plain_config(cfg.model) if plain else cfg.model)
    model.init_weights()
    if not args.random_weights and cfg.get("load_from"):
        path = resolve_checkpoint(cfg.load_from)
        load_base_file(model, path)
    if not plain and cfg.get("encoder_dtype"):
        model.halve_encoders(cfg.encoder_dtype)
    if form == CACHED:
        model.keep_features(StageCache(model, FeatureStore()))
    return (host.plain_form(model, cfg.model) if plain else model).to(args.device)


def as_without_mmsdpt() -> None:
    """Leave this process without the large memory pages that ``import mmsdpt`` asks for, where the
    system gives them to those alone who ask.
    """
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if setting.is_file() and "[madvise]" in setting.read_text():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "large memory pages cannot be switched off")


def _peak_bytes(device: str) -> int:
    """Highest memory so far: of the process on CPU (weights, libraries and all), of tensors on
    CUDA.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _timed(step: Callable[[], float | None], args: argparse.Namespace, name: str) -> tuple:
    """``args.warm_up`` steps, and ``args.steps`` that count: their median seconds by the wall and
    of processor time (all threads), and the results of all.
    """
    import torch

    wall, processor, results = [], [], []
    steps = args.warm_up + args.steps
    for _ in tqdm(range(steps), desc=name, file=sys.stderr, leave=False, disable=args.quiet):
        start = time.perf_counter(), time.process_time()
        results.append(step())
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    counted = slice(args.warm_up, None)
    return statistics.median(wall[counted]), statistics.median(processor[counted]), results


def _optim_wrapper(cfg, model, args: argparse.Namespace):
    """The optimizer as tools/train.py builds it."""
    from mmengine.optim import build_optim_wrapper

    from mmsdpt.engine.optim import use_mixed_precision

    settings = copy.deepcopy(cfg.optim_wrapper)
    if args.amp:
        kind = args.device.partition(":")[0]
        if kind != "cpu":
            settings.dtype, settings.loss_scale = "bfloat16", 1.0
        use_mixed_precision(settings, kind)
    return build_optim_wrapper(model, settings)


def measure(args: argparse.Namespace, form: str, bert: str | None = None) -> dict:
    """Measure one form in this process.

    Args:
        args: As :func:`parse_args` gives them.
        form: ``ours``, ``cached`` (ours, where what is frozen has been computed), ``plain``, or
            ``plain_on_large_pages`` (with the memory pages that ours asks for).
        bert: Folder of the BERT to use instead of the config's.

    Returns:
        ``train_s``, ``test_s`` (medians of the steps that count) and their processor time
        ``train_cpu_s``, ``test_cpu_s``; ``test_bytes`` and ``train_bytes`` (peaks); ``losses`` of
        all training steps; ``size`` (H, W) and ``text`` of the inputs; ``trainable`` parameters;
        with ``args.count``, ``train_macs``, the multiply-adds of a training step. What belongs to
        a step that ``args.only`` leaves out is not there.
    """
    import torch

    if form == PLAIN:
        as_without_mmsdpt()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(args.device)
    cfg = load(args, bert)
    host = host_of(cfg)
    model = build(cfg, args, form)
    size = args.size or [host.usual_size(cfg.model)] * 2
    data = host.make_data(model, size, args.batch, _num_classes(args, host))
    steps = {
        "test": partial(_test_step, model, data, args),
        "train": partial(_train_step, model, data, _optim_wrapper(cfg, model, args)),
    }
    result = dict(
        size=list(size),
        text=host.describe_text(model, data),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
    # Testing first: peaks only grow, and that of training is higher.
    for name in [name for name in ("test", "train") if args.only in (None, name)]:
        model.train(name == "train")
        losses: list[float] = []
        if name == "train" and args.count:
            if args.only:  # what is computed once does not count
                losses = [steps[name]()]
            more, result["train_macs"] = _counted(steps[name])
            losses += more
            args.warm_up = 0
        wall, processor, outputs = _timed(steps[name], args, f"{form}, {name} step")
        result[f"{name}_s"], result[f"{name}_cpu_s"] = wall, processor
        result[f"{name}_bytes"] = _peak_bytes(args.device)
        if name == "train":
            result["losses"] = losses + outputs
    return result


def _test_step(model, data: dict, args: argparse.Namespace) -> None:
    import torch

    kind = torch.device(args.device).type
    with torch.no_grad(), torch.autocast(kind, dtype=torch.bfloat16, enabled=args.amp):
        model.test_step(copy.deepcopy(data))


def _train_step(model, data: dict, optim_wrapper) -> float:
    return model.train_step(copy.deepcopy(data), optim_wrapper)["loss"].item()


def _counted(step: Callable[[], float]) -> tuple[list[float], int]:
    """The loss of a training step, in a list, and the multiply-adds of its matrix products,
    attention and convolutions, backward pass included.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = step()
    return [loss], counter.get_total_flops() // 2


def _num_classes(args: argparse.Namespace, host) -> int:
    if args.classes is None:
        return host.USUAL_CLASSES
    if args.classes > len(host.CLASSES):
        from mmsdpt.utils.errors import InputError

        raise InputError(f"--classes must be at most {len(host.CLASSES)}, got {args.classes}")
    return args.classes


# ---------------------------------------------------------------------- both forms, compared


def _measure_in_process(args: argparse.Namespace, form: str, bert: str | None) -> dict:
    """:func:`measure` in a process of its own, so that its peak memory is its own."""
    env = dict(os.environ)
    if args.threads:
        env.update(OMP_NUM_THREADS=str(args.threads), MKL_NUM_THREADS=str(args.threads))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, "-m", __spec__.name, *sys.argv[1:], "--measure", form, str(out)]
        if bert is not None:
            command.append(bert)
        if code := subprocess.run(command, env=env).returncode:
            from mmsdpt.utils.errors import InputError

            raise InputError(f"the process that measures {form} ended with exit code {code}")
        return json.loads(out.read_text())


def loss_difference(results: dict[str, dict]) -> float:
    """Largest relative difference between the forms' losses over all steps."""
    first, *others = (result.get("losses", ()) for result in results.values())
    return max(
        (
            abs(a - b) / max(abs(a), 1e-12)
            for losses in others
            for a, b in zip(first, losses, strict=True)
        ),
        default=0.0,
    )


def make_table(results: dict[str, dict]) -> Table:
    """A row per quantity, a column per form, and how many times the plain form is above ours."""
    others = [form for form in results if form != "plain" and "plain" in results]
    table = Table(title_justify="left")
    table.add_column("")
    for form in results:
        table.add_column(form, justify="right")
    for form in others:
        table.add_column(f"plain / {form}", justify="right")
    rows = [
        ("training step, s", "train_s", 1.0, ".3f"),
        ("training step, CPU s", "train_cpu_s", 1.0, ".3f"),
        ("inference step, s", "test_s", 1.0, ".3f"),
        ("inference step, CPU s", "test_cpu_s", 1.0, ".3f"),
        ("multiply-adds of training, 10^9", "train_macs", GIGA, ",.1f"),
        ("peak memory of training, GB", "train_bytes", GIGA, ".2f"),
        ("peak memory of inference, GB", "test_bytes", GIGA, ".2f"),
    ]
    first = next(iter(results.values()))
    for name, key, unit, style in rows:
        if key not in first:
            continue
        values = [result[key] / unit for result in results.values()]
        cells = [format(v, style) for v in values]
        cells += [f"{results['plain'][key] / results[form][key]:.2f}" for form in others]
        table.add_row(name, *cells)
    table.add_section()
    for i in range(len(first.get("losses", ()))):
        cells = [f"{result['losses'][i]:.6f}" for result in results.values()]
        table.add_row(f"loss of step {i + 1}", *cells, *[""] * len(others))
    return table


def _size(values: list[int]) -> list[int]:
    return values * 2 if len(values) == 1 else values


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from mmsdpt.utils.cli import Options

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file of a GLIP or a CLIP")
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        metavar="N",
        help="height and width (default: 800 for GLIP, what a CLIP is made for)",
    )
    parser.add_argument("--batch", type=int, default=1, help="images in a batch")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them")
    parser.add_argument("--only", choices=("train", "test"), help="leave the other step out")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--count", action="store_true", help="count multiply-adds, in a step more")
    parser.add_argument("--classes", type=int, help="classes (default: GLIP 80, CLIP 100)")
    parser.add_argument(
        "--form", nargs="+", choices=(*FORMS, CACHED, PLAIN_ON_LARGE_PAGES), default=list(FORMS)
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="do not load weights; draw a BERT-base, too"
    )
    parser.add_argument("--threads", type=int, help="threads; default: torch's choice")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", metavar="OUT", help="write the results to this file, too")
    parser.add_argument(
        "--make-bert", metavar="DIR", help="only write a BERT-base folder without weights"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=Options,
        help="override settings, e.g. --cfg-options model.bbox_head.use_checkpoint=True",
    )
    # [form, file for the result, BERT folder]: what a process for one form is told.
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    parser.set_defaults(quiet=False)
    args = parser.parse_args(argv)
    args.size = _size(args.size) if args.size else None
    if args.config is None and args.make_bert is None:
        parser.error("name a config, or a folder with --make-bert")
    if args.size and (len(args.size) != 2 or min(args.size) < 1):
        parser.error(f"--size takes one or two positive numbers, got {args.size}")
    if min(args.batch, args.steps, 1 if args.classes is None else args.classes) < 1:
        parser.error("--batch, --steps and --classes must be at least 1")
    if args.warm_up < 0:
        parser.error(f"--warm-up must not be negative, got {args.warm_up}")
    return args


def needs_bert(args: argparse.Namespace) -> bool:
    """Whether the config names a BERT of the hub, which random weights do without."""
    name = load(args, None).get("lang_model_name")
    return bool(args.random_weights and name and "://" not in name and not Path(name).is_dir())


def compare(args: argparse.Namespace) -> dict:
    """Measure all forms of ``args``, each in its process."""
    with tempfile.TemporaryDirectory() as folder:
        bert = None
        if needs_bert(args):
            make_bert(folder)
            bert = folder
        forms = {form: _measure_in_process(args, form, bert) for form in args.form}
    names = ("config", "batch", "threads", "device", "steps")
    settings = {name: getattr(args, name) for name in names}
    return dict(settings, forms=forms, loss_difference=loss_difference(forms))


def main() -> int:
    args = parse_args()
    import mmsdpt  # noqa: F401  makes mmdet importable without compiled mmcv

    if args.measure:
        from mmengine.logging import MMLogger

        # MMEngine logs the first values of every parameter to the logger that was made first.
        MMLogger.get_instance("benchmark", log_level="WARNING")
        form, out, *bert = args.measure
        Path(out).write_text(json.dumps(measure(args, form, *bert)))
        return 0
    if args.make_bert:
        make_bert(args.make_bert)
        return 0
    report = compare(args)
    first = next(iter(report["forms"].values()))
    console = Console()
    console.print(
        f"{args.config}: {args.batch} x {first['size'][0]} x {first['size'][1]}, {first['text']},"
        f" {first['trainable']:,} trainable parameters, {args.device}"
    )
    console.print(make_table(report["forms"]))
    console.print(
        "Times depend on the machine, by the wall also on what else it does: compare ratios. CPU s"
        " adds up all threads. Peak memory on CPU is the process's, weights and libraries included."
    )
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2) + "\n")
    if report["loss_difference"] > TOLERANCE:
        console.print(
            f"error: the losses of the forms differ by {report['loss_difference']:.1e} relative,"
            f" more than {TOLERANCE:.0e}"
        )
        return 1
    return 0


if __name__ == "__main__":
    from mmsdpt.utils.cli import run_tool

    run_tool(main)
