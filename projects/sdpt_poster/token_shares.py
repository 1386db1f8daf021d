"""How much attention SDPT's tokens take, under the captions that they were trained on and others.

``python -m projects.sdpt_poster.token_shares TUNER_FILE... --images FOLDER --others NAME...``

For every fusion layer: the share of the image positions' attention, and of the words', that goes to
the tokens instead of words or positions, in percent, mean over heads, positions or words, and
images; and the tokens' mean length. A token that takes attention under an old caption takes it from
what the model knew.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsdpt.utils.cli import run_tool
from mmsdpt.utils.errors import InputError

if TYPE_CHECKING:  # --help is quick
    from torch import nn


class Shares:
    """Records the shares of all layers while a detector runs.

    Args:
        model: The host, with X-MHA layers.
    """

    def __init__(self, model: nn.Module) -> None:
        from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention

        layers = [each for each in model.modules() if isinstance(each, BiMultiHeadAttention)]
        self.found: list[list[tuple[float, float]]] = [[] for _ in layers]
        self._handles = [
            layer.register_forward_hook(self._hook(i), with_kwargs=True)
            for i, layer in enumerate(layers)
        ]

    def _hook(self, i: int):
        from mmsdpt.analysis.attention import XMHA_INPUTS, xmha_weights

        def record(layer: nn.Module, args: tuple, kwargs: dict, out: object) -> None:
            inputs = dict(zip(XMHA_INPUTS, args, strict=False)) | kwargs
            positions, words = inputs["vision"].shape[1], inputs["lang"].shape[1]
            weights = xmha_weights(layer, **inputs)
            to_tokens = (
                weights.image_to_text[..., words:].sum(-1),
                weights.text_to_image[:, :, :words, positions:].sum(-1),
            )
            self.found[i].append((float(to_tokens[0].mean()), float(to_tokens[1].mean())))

        return record

    def means(self) -> list[tuple[float, float]]:
        """Of each layer: the image's share, and the words'; recording ends."""
        for handle in self._handles:
            handle.remove()
        return [
            tuple(statistics.fmean(side) for side in zip(*each, strict=True))  # type: ignore[misc]
            for each in self.found
        ]


def shares(detector, images: Sequence[Path], classes: Sequence[str]) -> list[tuple[float, float]]:
    """Of each layer, for these images under the caption of these classes."""
    recorded = Shares(detector.model)
    for image in images:
        detector(str(image), classes=list(classes))
    return recorded.means()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tuner", nargs="+", help="tuner file of an SDPT")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--others", nargs="+", required=True, help="names that were not trained")
    parser.add_argument("--count", type=int, default=20, help="images, in the order of their names")
    args = parser.parse_args()
    if not args.images.is_dir():
        parser.error(f"--images {args.images} is not a folder")
    import torch

    from mmsdpt.apis import Detector
    from mmsdpt.tuners import SDPT

    images = sorted(path for path in args.images.iterdir() if path.is_file())[: args.count]
    if not images:
        parser.error(f"{args.images} has no images")
    table = Table("tuner file", "length", "captions", "image to tokens, %", "words to tokens, %")
    for path in args.tuner:
        detector = Detector(path)
        (tuner,) = detector.model.tuners.values()
        if not isinstance(tuner, SDPT):
            raise InputError(f"{path} is a tuner file of {type(tuner).__name__}, expected SDPT")
        lengths = [p.detach().norm(dim=-1).mean() for p in tuner.tokens.parameters()]
        length = f"{float(torch.stack(lengths).mean()):.1f}"
        for name, classes in (("own", detector.classes), ("others", args.others)):
            found = shares(detector, images, classes)
            sides = [" ".join(f"{100 * x:.0f}" for x in side) for side in zip(*found, strict=True)]
            table.add_row(escape(path) if name == "own" else "", length, name, *sides)
            length = ""
    Console(width=160).print(table)


if __name__ == "__main__":
    run_tool(main)
