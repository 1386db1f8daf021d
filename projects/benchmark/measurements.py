"""What a process of the benchmark's table measures."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

from projects.benchmark import benchmark_step
from projects.benchmark.rows import Run


def _arguments(run: Run) -> argparse.Namespace:
    args = benchmark_step.parse_args([run.config, "--random-weights", "--threads", "1"])
    args.size = None if run.size is None else [run.size, run.size]
    args.batch, args.classes, args.amp, args.only = run.batch, run.classes, run.amp, run.only
    args.warm_up, args.steps, args.quiet = run.warm_up, 1, True
    args.cfg_options = dict(run.options)
    # Not where memory is the question: who counts keeps more.
    counted = run.form in ("ours", "cached") and run.only != "test"
    args.count = counted and not run.options
    return args


def step(run: Run, bert: str) -> dict[str, Any]:
    """See :func:`projects.benchmark.benchmark_step.measure`."""
    args = _arguments(run)
    needs_bert = benchmark_step.needs_bert(args)
    return benchmark_step.measure(args, run.form, bert if needs_bert else None)


def inverse_projections(run: Run, bert: str) -> dict[str, float]:
    """CPU seconds of all inverse projections of an SDPT, computed in float64, kept in float32."""
    import torch

    torch.set_num_threads(1)
    model = _model(run, bert)
    (tuner,) = model.tuners.values()
    with torch.no_grad():
        warm = torch.randn(64, 32, dtype=torch.float64)
        torch.linalg.cholesky(warm.T @ warm)  # starts the library
        start = time.process_time()
        for i, layer in enumerate(tuner.layers):
            for side in tuner.used_sides:
                projection = model.seams()["fusion"][layer].projections[side]
                tuner.projections[side][i].pinv(projection, projection.weight.dtype)
        return dict(seconds=time.process_time() - start)


def tuned_and_untuned(run: Run, bert: str) -> dict[str, float]:
    """Inference with the slot and without, in turns: the ratio of the medians of five."""
    import torch

    from projects.benchmark import glip_step

    torch.set_num_threads(1)
    args = _arguments(run)
    model = _model(run, bert).eval()
    data = glip_step.make_data(model, args.size, run.batch, run.classes)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with torch.no_grad():
        for turn in range(6):
            for on in (True, False):
                for tuner in model.tuners.values():
                    tuner.enabled = on
                start = time.process_time()
                model.test_step(copy.deepcopy(data))
                if turn:
                    seconds[on].append(time.process_time() - start)
    tuned, untuned = (statistics.median(seconds[on]) for on in (True, False))
    return dict(ratio=tuned / untuned, test_cpu_s=tuned)


def _model(run: Run, bert: str) -> Any:
    args = _arguments(run)
    cfg = benchmark_step.load(args, bert if benchmark_step.needs_bert(args) else None)
    return benchmark_step.build(cfg, args, run.form)
