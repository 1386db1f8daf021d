"""The four protocols as lists of cells: what is trained, and on what it is tested.

* ``few_shot``: K shots of all classes, tested on the full test set.
* ``base_to_new``: K shots of the base classes; base and new ones tested, each among themselves.
* ``cross_dataset``: K shots of a source, tested on the others.
* ``domain_generalisation``: K shots of a source, tested on its variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmsdpt.utils.errors import InputError

from .methods import ZERO_SHOT, Method

PROTOCOLS = ("few_shot", "base_to_new", "cross_dataset", "domain_generalisation")
SOURCE = "imagenet"
DATASETS = (
    "imagenet",
    "caltech-101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food-101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
VARIANTS = ("imagenetv2", "imagenet-sketch", "imagenet-adversarial", "imagenet-rendition")


@dataclass(frozen=True)
class Training:
    """What is trained, once for all protocols.

    Attributes:
        method: Name of the method.
        source: Dataset; None where nothing is trained.
        classes: ``all`` or ``base``.
        shots: Images of each class.
        seed: Of the draw of the images and of the training.
    """

    method: str
    source: str | None = None
    classes: str = "all"
    shots: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Cell:
    """One result: a training, tested.

    Attributes:
        training: What was trained.
        target: Dataset whose full test set is classified.
        classes: ``all``, ``base`` or ``new``.
    """

    training: Training
    target: str
    classes: str = "all"


def plan(
    protocol: str,
    methods: Mapping[str, Method],
    datasets: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
    source: str = SOURCE,
) -> list[Cell]:
    """All cells of a protocol, those of one training next to each other.

    The zero-shot model is always tested: its alignment is that before tuning.

    Args:
        protocol: One of :data:`PROTOCOLS`.
        methods: By name. Those that cannot name new classes get no cells where these are needed.
        datasets: Datasets; for the last two protocols those that are tested.
        shots: Numbers of images of each class.
        seeds: Seeds.
        source: For the last two protocols the dataset that is trained on; it is tested, too.

    Raises:
        InputError: if the protocol is not known.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    if protocol == "few_shot":
        trained = {dataset: [(dataset, "all")] for dataset in datasets}
        classes = "all"
    elif protocol == "base_to_new":
        trained = {dataset: [(dataset, "base"), (dataset, "new")] for dataset in datasets}
        classes = "base"
    else:
        targets = dict.fromkeys((source, *datasets))
        trained = {source: [(target, "all") for target in targets]}
        classes = "all"
    usable = [
        method for method in methods.values() if method.name not in left_out(protocol, methods)
    ]
    untrained = [method.name for method in usable if method.config is None]
    untrained = list(dict.fromkeys((ZERO_SHOT, *untrained)))
    cells: list[Cell] = []
    for dataset, tests in trained.items():
        for name in untrained:
            cells += [Cell(Training(name), *test) for test in tests]
        for k in shots:
            for seed in seeds:
                for method in usable:
                    if method.config is None:
                        continue
                    training = Training(method.name, dataset, classes, k, seed)
                    cells += [Cell(training, *test) for test in tests]
    return cells


def left_out(protocol: str, methods: Mapping[str, Method]) -> list[str]:
    """Names of the methods that a protocol cannot compare: they know only the classes that they
    were trained on.
    """
    if protocol == "few_shot":
        return []
    return [method.name for method in methods.values() if not method.names_new_classes]


def by_training(cells: Sequence[Cell]) -> dict[Training, list[Cell]]:
    """Cells by what has to be trained for them, in their order."""
    groups: dict[Training, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.training, []).append(cell)
    return groups
