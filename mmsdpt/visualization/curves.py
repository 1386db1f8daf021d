"""Training curves: loss, score and learning rate over epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mmsdpt.utils.cli import name_and_path, own_name
from mmsdpt.utils.errors import InputError

from .drawing import as_written, save_figure

# Names of scores; the first one in a run's log is drawn.
_SCORES = ("coco/bbox_mAP", "lvis_fixed_ap/AP", "accuracy/top1")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", ":", "-.")


def read_scalars(work_dir: str | os.PathLike) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the logs of MMEngine's ``LocalVisBackend`` from all sessions of a run.

    A session that resumed at an earlier step replaces the entries after that step.

    Returns:
        Training (``x``, ``loss``, ``lr``, ...) and validation (``x`` and scores), one row per log
        entry. ``x`` counts epochs, or iterations if the run has no epochs.

    Raises:
        InputError: if there are no entries.
    """
    files = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    parts: dict[bool, list[pd.DataFrame]] = {True: [], False: []}
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        # A killed run may leave an incomplete last line.
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        for trains, kept in parts.items():
            part = pd.DataFrame([e for e in entries if ("loss" in e) == trains and "step" in e])
            if len(part):
                first = part["step"].min()
                kept[:] = [old[old["step"] < first] for old in kept] + [part]
    if not parts[True]:
        raise InputError(
            f"no loss found in {work_dir}/*/vis_data/scalars.json: give the work folder of a"
            " training"
        )
    training = pd.concat(parts[True], ignore_index=True)
    validation = pd.concat(parts[False] or [pd.DataFrame(columns=["step"])], ignore_index=True)
    training["x"], validation["x"] = training["step"], validation["step"]
    if "epoch" in training:
        ends = training.groupby("epoch")["step"].max()
        last = -2 if len(ends) > 1 else -1  # the last epoch may be unfinished
        training["x"] *= ends.index[last] / ends.iloc[last]
    return training, validation


def draw_curves(work_dirs: Sequence[str], path: Path) -> Path:
    """Draw loss, score and learning rate of runs side by side.

    Args:
        work_dirs: Folders of runs; ``NAME=FOLDER`` gives one a name.
        path: Where to write; the extension selects the format.

    Raises:
        InputError: if a folder has no training, or two have the same name.
    """
    folders: dict[str, str] = {}
    for work_dir in work_dirs:
        name, folder = name_and_path(work_dir)
        if name is None:
            name = Path(folder).name or folder
        folders[own_name(name, folder, folders)] = folder
    runs = {name: read_scalars(folder) for name, folder in folders.items()}
    scores = [s for s in _SCORES if any(s in validation for _, validation in runs.values())]
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    panels[0].set_title("loss")
    panels[1].set_title(scores[0] if scores else "score: none was logged")
    panels[2].set_title("learning rate")
    for i, (name, (training, validation)) in enumerate(runs.items()):
        look = dict(
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=_LINES[i // len(_COLOURS) % len(_LINES)],
            marker="." if len(training) < 40 else "",
        )
        panels[0].plot(training["x"], training["loss"], label=as_written(name), **look)
        if scores and scores[0] in validation:
            panels[1].plot(validation["x"], validation[scores[0]], **{**look, "marker": "o"})
        if "lr" in training:
            panels[2].plot(training["x"], training["lr"], **look)
    tops = [training["lr"].max() for training, _ in runs.values() if "lr" in training]
    if tops and max(tops) > 10 * min(tops) > 0:
        panels[2].set_yscale("log")
    epochs = all("epoch" in training for training, _ in runs.values())
    for panel in panels:
        panel.set_xlabel("epoch" if epochs else "iteration")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(len(runs), 4))
    return save_figure(figure, path, dpi=140)
