"""A page with predictions before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mmsdpt.visualization.boxes import Boxes, match_boxes
from mmsdpt.visualization.contact_sheet import Entry, contact_sheet
from mmsdpt.visualization.single import draw_detections, draw_scores, read_upright

from .models import BEFORE, Picture, Pictures, each_model


def compare(
    cfg: Config,
    tuners: Mapping[str, str],
    paths: Sequence[str],
    out: Path,
    *,
    words: Sequence[str] = (),
    count: int = 24,
    score_thr: float = 0.3,
    top_k: int | None = None,
) -> Path:
    """Draw the predictions of the base model and of each tuned model, and write a page.

    Args:
        cfg, tuners, paths, out, words, count: See
            :func:`~mmsdpt.analysis.attention_page.show_attention`.
        score_thr: Minimum score of a box.
        top_k: Maximum number of boxes or classes per image.

    Returns:
        The page, with the images that changed most at the top.
    """
    pictures = Pictures(cfg, words)
    chosen = pictures.choose(paths, count)
    found: dict[str, list[Boxes | np.ndarray]] = {}
    for name, host in each_model(cfg, tuners, pictures.words):
        found[name] = [_predict(host, picture) for picture in chosen]
    columns = [BEFORE, *tuners]
    folders = _folders(columns)
    entries = []
    for i, picture in enumerate(chosen):
        results = {name: found[name][i] for name in columns}
        image = read_upright(picture.path)
        files = {name: out / folders[name] / f"{picture.name}.png" for name in columns}
        draw = _boxes if pictures.detects else _scores
        notes, weight = draw(image, results, picture, files, pictures.words, score_thr, top_k)
        entries.append(Entry(picture.name, files, "; ".join(notes), weight))
    about = "The images that changed most come first. A click shows the whole picture."
    if any(picture.has_truth for picture in chosen) and pictures.detects:
        about += (
            " Where the truth is known, \N{CHECK MARK} is right, \N{BALLOT X} a wrong name or"
            " place, ? an object that nothing was found for."
        )
    return contact_sheet(entries, out, f"{len(entries)} images: {', '.join(columns)}", [about])


def _folders(names: Sequence[str]) -> dict[str, str]:
    """A unique folder for each name, also on case-insensitive file systems."""
    folders: dict[str, str] = {}
    for name in names:
        safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name)
        folder = safe.strip(". ") or "_"
        while folder.lower() in map(str.lower, folders.values()):
            folder += "_"
        folders[name] = folder
    return folders


@torch.no_grad()
def _predict(host, picture: Picture) -> Boxes | np.ndarray:
    """The predicted boxes, or the scores of all classes."""
    images, sample = picture.batch(host)
    (sample,) = host(images, [sample], mode="predict")
    if "pred_instances" in sample:
        return Boxes.of(sample.pred_instances)
    return sample.pred_score.cpu().numpy()


def _boxes(image, results, picture, files, words, score_thr, top_k) -> tuple[list[str], float]:
    truth = None
    if picture.has_truth:
        truth = Boxes.of(picture.item["data_samples"].gt_instances)
    notes = []
    shown = {name: boxes.shown(score_thr, top_k=top_k) for name, boxes in results.items()}
    for name, boxes in shown.items():
        draw_detections(image, boxes, words, files[name], truth)
        if truth is None:
            notes.append(f"{name}: {len(boxes)} found")
        else:
            right = int(match_boxes(boxes, truth).correct.sum())
            notes.append(f"{name}: {right} of {len(truth)} right, {len(boxes) - right} wrong")
    # Boxes without a match of the same name in the other model's predictions, both ways.
    before = shown[BEFORE]
    changed = 0
    for boxes in shown.values():
        same = int(match_boxes(boxes, before).correct.sum())
        changed = max(changed, len(boxes) + len(before) - 2 * same)
    return notes, float(changed)


def _scores(image, results, picture, files, words, score_thr, top_k) -> tuple[list[str], float]:
    true = words[int(picture.item["data_samples"].gt_label)] if picture.has_truth else None
    notes, weight = [], 0.0
    for name, scores in results.items():
        order = np.argsort(-scores, kind="stable")[: top_k or 5]
        draw_scores(image, [(words[i], float(scores[i])) for i in order], files[name], true)
        notes.append(f"{name}: {words[order[0]]} {scores[order[0]]:.2f}")
        weight = max(weight, float(np.abs(scores - results[BEFORE]).sum()))
    return notes + ([f"it is {true}"] if true else []), weight
