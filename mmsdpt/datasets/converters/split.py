"""Random train/val/test splits by seed."""

import random
from collections.abc import Sequence

from mmsdpt.datasets.split_names import SPLITS
from mmsdpt.utils.errors import InputError

from .common import Sample
from .report import ConversionReport


def parse_split(text: str) -> tuple[float, float, float]:
    """Reads ``--split``: three fractions that sum to 1, or three whole numbers of images.

    Raises:
        InputError: if it is neither.
    """
    wanted = (
        "--split takes train,val,test as three fractions that sum to 1 or three numbers of images, "
        f"such as 0.8,0.1,0.1 or 150,29,17; got '{text}'."
    )
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(wanted) from error
    if (
        len(values) != 3
        or not all(0 <= value < float("inf") for value in values)
        or sum(values) == 0
    ):
        raise InputError(wanted)
    if abs(sum(values) - 1) > 1e-6 and not all(value.is_integer() for value in values):
        raise InputError(wanted)
    return values[0], values[1], values[2]


def random_split(
    samples: Sequence[Sample], split: Sequence[float], seed: int, report: ConversionReport
) -> dict[str, list[Sample]]:
    """Draws train, val and test from samples sorted by path, by ``random.Random(seed)`` alone.

    Args:
        split: Three fractions that sum to 1, or three counts.

    Raises:
        InputError: if the counts ask for more images than there are.
    """
    order = sorted(samples, key=lambda sample: report.name(sample.image))
    random.Random(seed).shuffle(order)
    total = len(order)
    if abs(sum(split) - 1) <= 1e-6:
        ends = [round(total * split[0]), round(total * (split[0] + split[1])), total]
    else:
        ends = [int(split[0]), int(split[0] + split[1]), int(sum(split))]
        if ends[-1] > total:
            raise InputError(
                f"--split asks for {ends[-1]} images, but only {total} usable ones were found."
            )
    starts = [0, *ends[:-1]]
    for sample in order[ends[-1] :]:
        report.drop_image("not_in_split", sample.image, boxes=len(sample.instances))
    return {name: order[start:end] for name, start, end in zip(SPLITS, starts, ends, strict=True)}
