"""The rows of the benchmark's table: what is measured, what is compared, and what is wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmsdpt.utils.errors import InputError

_REPOSITORY = Path(__file__).resolve().parents[2]
Results = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One measurement in a process of its own.

    Attributes:
        config: Of the model.
        form: As of :func:`projects.benchmark.benchmark_step.measure`.
        size: Side of the images; None: what the host takes.
        batch: Images in a batch.
        classes: Number of class names.
        amp: In bfloat16 autocast.
        only: ``train`` or ``test``, where the other step is left out.
        warm_up: Steps before the one that counts.
        options: Overrides of the config.
        measure: Function of measurements.py.
    """

    config: str
    form: str = "ours"
    size: int | None = None
    batch: int = 1
    classes: int | None = None
    amp: bool = False
    only: str | None = None
    warm_up: int = 1
    options: tuple[tuple[str, Any], ...] = ()
    measure: str = "step"

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    def plain(self) -> Run:
        """The same in the plain form, float32; that needs no step to warm up."""
        return replace(self, form="plain", amp=False, warm_up=0, options=())


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: Short.
        what: In words.
        runs: What it compares, by name; ``ours`` is the one whose time is shown.
        value: Of the results.
        target: Wanted value, or None.
        at_least: Whether the value must be at least the target; otherwise at most.
        step: ``train`` or ``test``: the step whose time, multiply-adds and memory are shown.
    """

    name: str
    what: str
    runs: Mapping[str, Run]
    value: Callable[[Results], float]
    target: float | None = None
    at_least: bool = True
    step: str = "train"

    @property
    def amp(self) -> bool:
        return self.runs["ours"].amp

    def met(self, value: float) -> bool:
        assert self.target is not None
        return value >= self.target if self.at_least else value <= self.target


def ratio(key: str, over: str = "plain", under: str = "ours") -> Callable[[Results], float]:
    """``key`` of one run over that of another."""
    return lambda results: results[over][key] / results[under][key]


def select(rows: Sequence[Row], patterns: Sequence[str] | None) -> list[Row]:
    """Rows whose name matches one of the regular expressions.

    Raises:
        InputError: for a pattern that matches none.
    """
    for pattern in patterns or ():
        if not any(re.search(pattern, row.name) for row in rows):
            names = ", ".join(row.name for row in rows)
            raise InputError(f"--rows {pattern!r} matches no row; there are {names}")
    return [row for row in rows if not patterns or any(re.search(p, row.name) for p in patterns)]


def all_rows(small: bool = False, size: int | None = None) -> list[Row]:
    """The table, top to bottom.

    Args:
        small: GLIP-T instead of GLIP-L in the first rows.
        size: Of their images; None: 800 pixels, or 480.
    """
    return [*_sdpt(small, size), *_methods(), *_growth(), *_lvis(), *_clip(), *_mini()]


_CACHED = {(1, False): 12.0, (1, True): 22.0, (80, True): 14.0}
"""Wanted ratios with kept features, by classes and bfloat16."""
_LEAST_MEMORY = (("model.bbox_head.use_checkpoint", True), ("encoder_dtype", "bfloat16"))


def _sdpt(small: bool, size: int | None) -> list[Row]:
    """SDPT with ten tokens beside MMDetection's GLIP."""
    size, letter = (size or 480, "t") if small else (size or 800, "l")
    config = f"configs/sdpt/glip_{letter}_coco_k10.py"
    rows = []
    for classes, wanted in ((1, (5.5, 11.0)), (80, (4.0, 7.5))):
        for amp in (False, True):
            run = Run(config, size=size, classes=classes, amp=amp)
            pair = dict(ours=run, plain=run.plain())
            kind = "bf16" if amp else "fp32"
            name = f"sdpt_{letter}_{classes}_{kind}"
            what = f"GLIP-{letter.upper()}, {size} x {size}, {classes} classes, {kind}"
            rows.append(Row(name, f"step, {what}", pair, ratio("train_cpu_s"), wanted[amp]))
            if target := _CACHED.get((classes, amp)):
                pair_cached = dict(pair, ours=replace(run, form="cached", only="train"))
                what_cached = f"step with kept features, {what}"
                rows.append(
                    Row(f"{name}_cached", what_cached, pair_cached, ratio("train_cpu_s"), target)
                )
            if classes > 1:
                continue
            memory, testing = (0.35, 6.0) if amp else (0.40, 3.0)
            rows += [
                Row(
                    f"{name}_memory",
                    f"peak of the step, {what}",
                    pair,
                    ratio("train_bytes", "ours", "plain"),
                    memory,
                    at_least=False,
                ),
                Row(
                    f"{name}_test",
                    f"inference, {what}",
                    pair,
                    ratio("test_cpu_s"),
                    testing,
                    step="test",
                ),
            ]
    plain = Run(config, size=size, classes=1).plain()
    least = Run(
        config, "cached", size=size, classes=1, amp=True, only="train", options=_LEAST_MEMORY
    )
    rows.append(
        Row(
            f"sdpt_{letter}_least_memory",
            f"peak of the step, GLIP-{letter.upper()}, {size} x {size}, 1 class, bf16, kept"
            " features, recomputed layers, encoders stored in bf16",
            dict(ours=least, plain=plain),
            ratio("train_bytes", "ours", "plain"),
            0.25,
            at_least=False,
        )
    )
    rows.append(
        Row(
            f"plain_{letter}_pages",
            f"plain step over that on large pages, GLIP-{letter.upper()}, {size} x {size}, 1 class",
            dict(ours=replace(plain, form="plain_on_large_pages"), plain=plain),
            ratio("train_cpu_s"),
        )
    )
    first = Run(config, measure="inverse_projections")
    rows.append(
        Row(
            "first_step",
            f"CPU s of all inverse projections, GLIP-{letter.upper()}, float64",
            dict(ours=first),
            lambda results: results["ours"]["seconds"],
            1.0,
            at_least=False,
        )
    )
    tuned = Run("configs/sdpt/glip_t_coco_k10.py", size=320, classes=80)
    tuned = replace(tuned, measure="tuned_and_untuned")
    rows.append(
        Row(
            "tuned_test",
            "inference over that with the slot switched off, GLIP-T, 320 x 320, 80 classes",
            dict(ours=tuned),
            lambda results: results["ours"]["ratio"],
            1.01,
            at_least=False,
            step="test",
        )
    )
    return rows


def methods() -> list[str]:
    """Names of the poster's other methods on GLIP, as the configs call them."""
    ending = "_glip_t_coco.py"
    files = (_REPOSITORY / "configs/baselines").glob(f"*{ending}")
    return sorted(path.name.removesuffix(ending) for path in files)


def _methods() -> list[Row]:
    """A step of each method over one of SDPT, on GLIP-T."""
    sdpt = Run("configs/sdpt/glip_t_coco_k10.py", size=320, classes=20, only="train")
    rows = []
    for name in methods():
        run = replace(sdpt, config=f"configs/baselines/{name}_glip_t_coco.py")
        rows.append(
            Row(
                f"method_{name}",
                "step over SDPT's, GLIP-T, 320 x 320, 20 classes",
                dict(ours=run, sdpt=sdpt),
                ratio("train_cpu_s", "ours", "sdpt"),
                1.5,
                at_least=False,
            )
        )
    return rows


_GROWING = Run("configs/sdpt/glip_t_coco_k10.py", size=320, classes=10, only="train")


def growth() -> dict[str, dict[int, Run]]:
    """Runs of SDPT on GLIP-T by what grows, and its value; all else is as in the first one."""
    base = _GROWING

    def with_tokens(k: int) -> Run:
        return replace(base, options=(("model.tuner.num_tokens", k),))

    return {
        "images in a batch": {1: base, **{n: replace(base, batch=n) for n in (2, 4, 8)}},
        "side of the image, pixels": {
            320: base,
            **{n: replace(base, size=n) for n in (160, 480, 640)},
        },
        "class names": {10: base, **{n: replace(base, classes=n) for n in (1, 40, 80)}},
        "tokens k": {10: base, **{k: with_tokens(k) for k in (1, 50, 200)}},
    }


def _growth() -> list[Row]:
    """What a step costs as one thing grows, on GLIP-T at 320 x 320."""
    batches, *others = growth().items()
    rows = []
    for n, run in batches[1].items():
        if run == _GROWING:
            continue
        rows.append(
            Row(
                f"batch_{n}",
                f"cost per image, batch {n} over 1",
                dict(ours=run, one=_GROWING),
                lambda r, n=n: r["ours"]["train_cpu_s"] / n / r["one"]["train_cpu_s"],
                1.05,
                at_least=False,
            )
        )
    for name, (title, runs) in zip(("size", "classes", "k"), others, strict=True):
        for n, run in runs.items():
            if run != _GROWING:
                what = f"step over that of 320 pixels, 10 classes, k = 10: {title} {n}"
                pair = dict(ours=run, base=_GROWING)
                value = ratio("train_cpu_s", "ours", "base")
                rows.append(Row(f"{name}_{n}", what, pair, value))
    return rows


def _lvis() -> list[Row]:
    """LVIS' 1,203 names in chunks of 40."""
    run = Run(
        "configs/sdpt/glip_t_coco_k10.py",
        size=256,
        classes=1203,
        only="test",
        warm_up=0,
        options=(("model.test_cfg.chunked_size", 40),),
    )
    pair = dict(ours=run, plain=replace(run, form="plain"))
    what = "inference with 1,203 classes in chunks, GLIP-T, 256 x 256"
    return [Row("lvis", what, pair, ratio("test_cpu_s"), 3.0, step="test")]


def _clip() -> list[Row]:
    """Beside the published codes' form."""
    rows = []
    for name, folder, wanted in (
        ("mudpt", "mudpt", 5.0),
        ("coop", "clip_baselines", 10.0),
        ("cocoop", "clip_baselines", 10.0),
    ):
        for batch in (1, 4):
            run = Run(f"configs/{folder}/{name}_vit_b16_imagenet.py", batch=batch, classes=100)
            run = replace(run, only="train")
            rows.append(
                Row(
                    f"clip_{name}_{batch}",
                    f"step, ViT-B/16, 100 classes, batch {batch}",
                    dict(ours=run, plain=run.plain()),
                    ratio("train_cpu_s"),
                    wanted,
                )
            )
    for name in ("coop", "cocoop"):
        run = Run(f"configs/clip_baselines/{name}_vit_b16_imagenet.py", batch=4, classes=100)
        run = replace(run, only="train")
        rows.append(
            Row(
                f"clip_{name}_cached",
                "step with kept features, ViT-B/16, 100 classes, batch 4",
                dict(ours=replace(run, form="cached", warm_up=2), plain=run.plain()),
                ratio("train_cpu_s"),
                20.0,
            )
        )
    return rows


def _mini() -> list[Row]:
    run = Run(
        "configs/mini/sdpt_mini_new_names.py", size=160, batch=8, classes=4, only="train", warm_up=2
    )
    value: Callable[[Results], float] = lambda results: results["ours"]["train_cpu_s"]  # noqa: E731
    what = "CPU s of a step of mini GLIP, batch 8, 160 x 160"
    cached = replace(run, form="cached")
    return [
        Row("mini", what, dict(ours=run), value),
        Row(
            "mini_cached", f"{what}, kept features", dict(ours=cached), value, 0.25, at_least=False
        ),
    ]
