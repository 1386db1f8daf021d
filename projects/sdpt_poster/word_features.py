"""How different a task's names are to the language model, where the detector can see it.

``python -m projects.sdpt_poster.word_features TUNER_FILE...``

For the names of each tuner file, with its tuner switched off and on: the mean cosine of two names'
features, and how much of their differences lies in the directions that known phrases of three words
differ in. These directions are the principal components that hold 95 % of the variance of 300
phrases of mini GLIP's pre-training. What lies outside of them never told one thing from another.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsdpt.utils.cli import run_tool

if TYPE_CHECKING:  # --help is quick
    from torch import Tensor, nn

_PHRASES, _VARIANCE, _IN_A_CAPTION = 300, 0.95, 6


def features_of(model: nn.Module, names: Sequence[str]) -> Tensor:
    """(N, width): the language model's output, mean over the tokens of each name; ``model`` is the
    host. Captions are of six names.
    """
    import torch
    from mmdet.structures import DetDataSample

    found = []
    for start in range(0, len(names), _IN_A_CAPTION):
        part = tuple(names[start : start + _IN_A_CAPTION])
        sample = DetDataSample(metainfo=dict(text=part, custom_entities=True))
        ((_, caption, class_map, _),) = model._prediction_prompt(sample)
        with torch.no_grad():
            (tokens,) = model.encode_text([caption])["embedded"]
        weights = class_map.bool()[:, : len(tokens)].to(tokens.dtype)
        found.append(weights @ tokens / weights.sum(1, keepdim=True))
    return torch.cat(found)


def principal_directions(features: Tensor, variance: float = _VARIANCE) -> Tensor:
    """(n, width): the fewest orthonormal directions that hold this share of the variance."""
    import torch

    _, lengths, directions = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    held = lengths.square().cumsum(0) / lengths.square().sum()
    return directions[: int((held < variance).sum()) + 1]


def mean_cosine(features: Tensor) -> float:
    """Of all pairs."""
    import torch

    unit = torch.nn.functional.normalize(features, dim=1)
    cosines = unit @ unit.T
    return float(cosines[~torch.eye(len(unit), dtype=torch.bool)].mean())


def share_within(features: Tensor, directions: Tensor) -> float:
    """How much of the variance of the features these orthonormal directions hold."""
    differences = features - features.mean(0)
    return float((differences @ directions.T).square().sum() / differences.square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tuner", nargs="+", help="tuner file for mini GLIP")
    args = parser.parse_args()

    from mmsdpt.apis import Detector
    from projects.mini_world.world import seen_combinations

    known = [combination.phrase for combination in seen_combinations()]
    known = random.Random(0).sample(known, _PHRASES)
    table = Table("classes of", "tuner", "mean cosine", "differences along known ones, %")
    for path in args.tuner:
        detector = Detector(path, device="cpu")
        with detector.tuners_off():
            directions = principal_directions(features_of(detector.model, known))
        for on in (False, True):
            with nullcontext() if on else detector.tuners_off():
                found = features_of(detector.model, detector.classes)
            share = f"{100 * share_within(found, directions):.0f}"
            name = "" if on else escape(path)
            table.add_row(name, "on" if on else "off", f"{mean_cosine(found):.2f}", share)
    Console(width=160).print(f"{len(directions)} directions", table)


if __name__ == "__main__":
    run_tool(main)
