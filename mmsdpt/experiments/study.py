"""A study: a config that names hosts, methods, data, shots, seeds and settings; and its cells.

A study is a config in MMEngine's syntax with ``study = dict(...)``, whose keys are the attributes
of :class:`Study`. The catalogues ``hosts``, ``methods`` and ``data`` define names, and
``cell = dict(...)`` is merged into the config of every cell. The protocols:

* ``few_shot``, ``comparison``: K shots of each data set (or all of it), tested on its test set.
* ``base_to_new``: K shots of the base classes; base and new classes are tested separately.
* ``transfer``: K shots of a source, tested on the source and on others: other datasets, or
  variants of the source.
* ``stacking``: a method trains on the source and is frozen; a second one trains on other data with
  both attached; both datasets are tested with either tuner, or both.

The untuned model, ``zero_shot``, is always tested as the baseline.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsdpt.utils.errors import InputError

from .configs import read_config

PROTOCOLS = ("few_shot", "base_to_new", "transfer", "comparison", "stacking")
ZERO_SHOT = "zero_shot"
_LONGEST_NAME = 255  # bytes, of most file systems


@dataclass(frozen=True)
class Host:
    """A model."""

    name: str  # in tables and folders
    config: Path  # with ``model``
    load_from: str | None = None  # overrides the config's base weights


# Pairs (minimum number of shots, epochs); all images count as 0 shots.
EpochsByShots = Sequence[tuple[int, int]]


def epochs_for(shots: int | None, pairs: EpochsByShots) -> int | None:
    """Epochs of a training with this number of shots (None: all images); None if no pair fits."""
    fitting = [pair for pair in pairs if pair[0] <= (shots or 0)]
    return max(fitting)[1] if fitting else None


@dataclass(frozen=True)
class Data:
    """A dataset."""

    name: str  # in tables and folders
    config: Path  # its loaders and evaluators are used
    epochs: EpochsByShots = ()  # of trainings on it, overriding the methods'
    group: str = ""  # tables have a mean over each group
    # By method: settings of its trainings on these data, such as a learning rate chosen on
    # validation images; see Study.vary.
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method. Its config provides tuners, optimizer, schedule, hooks and batch size."""

    name: str  # in folders and on the command line
    label: str = ""  # in tables and plots
    config: Path | None = None  # None: nothing is trained
    ensemble: bool = False  # several templates instead of one
    epochs: EpochsByShots = ()  # default: the config's number
    iterations_per_shot: int | None = None  # K times as many iterations instead, rounded to epochs
    # Settings of the tuner, or with dots of the whole config; see Study.vary.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        return self.config is not None

    @property
    def names_new_classes(self) -> bool:
        """Whether it can predict classes that it was not trained on."""
        if self.config is None:
            return True
        model = read_config(self.config).get("model", {})
        tuners = [model.get("tuner"), *(model.get("tuners") or {}).values()]
        return not any((tuner or {}).get("num_classes") for tuner in tuners)


@dataclass(frozen=True)
class Training:
    """A training: a method on data, with shots, a seed and settings."""

    host: str
    method: str
    data: str | None = None  # None: nothing is trained
    classes: str = "all"  # or base, or new
    shots: int | None = None  # images of each class; 0: all; None: as the data's config says
    seed: int | None = None  # of the selection of images, if shots are set, and of the training
    settings: tuple[tuple[str, Any], ...] = ()  # varied ones, by name
    on: Training | None = None  # its frozen tuner is below this one

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of its tuners' slots; empty if nothing is trained."""
        if self.data is None:
            return ()
        return ("default",) if self.on is None else ("old", "new")

    @property
    def folder(self) -> str:
        """Its folder, relative to the work folder, named by its settings or, if the name would be
        too long, by a digest of them.
        """
        settings = ",".join(f"{name}={value}" for name, value in self.settings)
        method = f"{self.method}[{settings}]" if settings else self.method
        method = method.replace("/", "_").replace(" ", "")
        if len(method.encode()) > _LONGEST_NAME:
            method = f"{self.method}[{hashlib.sha256(method.encode()).hexdigest()[:16]}]"
        start = f"{self.host}/{method}" if self.on is None else f"{self.on.folder}/then_{method}"
        if self.data is None:
            return start
        classes = "" if self.classes == "all" else f"_{self.classes}"
        shots = "" if self.shots is None else f"{self.shots}_shots_"
        return f"{start}/{self.data}{classes}/{shots}seed_{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One result: a training, tested on data with some slots on."""

    training: Training
    data: str
    classes: str = "all"  # or base, or new
    slots: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique in a work folder: its path there, without the extension."""
        classes = "" if self.classes == "all" else f"_{self.classes}"
        some = self.slots != self.training.slots
        slots = f"_{'_'.join(self.slots)}_alone" if some else ""
        return f"{self.training.folder}/on_{self.data}{classes}{slots}"


@dataclass(frozen=True)
class Study:
    """The settings of a study; docs/experiments.md describes the keys."""

    name: str  # also of its file of results
    protocol: str  # one of PROTOCOLS
    runtime: Path  # config of the runner, hooks and log
    hosts: Mapping[str, Host]
    methods: Mapping[str, Method]  # zero_shot first; in stacking all that pairs name
    data: Mapping[str, Data]  # training and test data, including the source
    title: str = ""
    source: str | None = None  # first training data of transfer and stacking
    # Data that the model already knows, on which every trained method is also tested.
    forgetting: Mapping[str, Data] = field(default_factory=dict)
    split: str = "test"  # "val": test on the validation images, to choose settings
    pairs: Sequence[tuple[str, str]] = ()  # first and second method, for stacking
    shots: Sequence[int | None] = (None,)  # 0: all images; None: as many as the data's config says
    seeds: Sequence[int] = (0,)
    # Questions by name: a list of settings, or a grid (lists of values by setting). A setting
    # belongs to the tuner, or with dots to the whole config (optim_wrapper.optimizer.lr); "*3" is
    # three times the config's value.
    vary: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] | None = None  # of the tests, overriding the data's
    # dict(monitor=..., rule="greater", interval=1, patience=None): validate before the first epoch
    # and every ``interval`` epochs, keep the best state, and stop after ``patience`` validations
    # without improvement. None: the state after the last epoch.
    selection: Mapping[str, Any] | None = None
    epochs: int | None = None  # of every training, overriding the methods' and the data's
    data_root: str | None = None  # instead of data/ at the start of the data's paths
    image_size: int | None = None  # side in pixels, for classification; None: the model's
    cell: Mapping[str, Any] = field(default_factory=dict)  # merged into the config of every cell
    published: str | None = None  # module with published numbers: see published.py
    path: Path | None = None  # of the config

    def questions(self) -> dict[str, list[dict[str, Any]]]:
        """The expanded settings of each question of ``vary``.

        Raises:
            InputError: for a dict as a value.
        """
        found = {}
        for name, asked in self.vary.items():
            if isinstance(asked, Mapping):
                lists = [value if isinstance(value, list) else [value] for value in asked.values()]
                points = [dict(zip(asked, x, strict=True)) for x in itertools.product(*lists)]
            else:
                points = [dict(settings) for settings in asked]
            found[name] = [{key: _fixed(key, x) for key, x in each.items()} for each in points]
        return found

    @property
    def left_out(self) -> list[str]:
        """Methods left out because they can only predict the classes they were trained on."""
        if self.protocol not in ("base_to_new", "transfer"):
            return []
        return [each.name for each in self.methods.values() if not each.names_new_classes]

    def cells(self) -> list[Cell]:
        """All cells, those of one training next to each other."""
        found = []
        for host in self.hosts:
            found += self._stacks(host) if self.protocol == "stacking" else self._rows(host)
        return list(dict.fromkeys(found))

    def _rows(self, host: str) -> list[Cell]:
        if self.protocol == "transfer":
            trained = {self.source: [(data, "all") for data in self.data]}
        else:
            halves = ("base", "new") if self.protocol == "base_to_new" else ("all",)
            trained = {data: [(data, half) for half in halves] for data in self.data}
        for tests in trained.values():
            tests += [(data, "all") for data in self.forgetting]
        classes = "base" if self.protocol == "base_to_new" else "all"
        methods = [each for each in self.methods.values() if each.name not in self.left_out]
        variants = dict.fromkeys(
            tuple(settings.items()) for points in self.questions().values() for settings in points
        )
        found = []
        for data, tests in trained.items():
            for method in methods:
                if not method.trains:
                    found += [Cell(Training(host, method.name), *test) for test in tests]
            for k, seed, method, settings in itertools.product(
                self.shots, self.seeds, methods, variants or [()]
            ):
                if method.trains:
                    training = Training(host, method.name, data, classes, k, seed, settings)
                    found += [Cell(training, *test, training.slots) for test in tests]
        return found

    def _stacks(self, host: str) -> list[Cell]:
        plain = Training(host, ZERO_SHOT)
        found = [Cell(plain, data) for data in self.data]
        others = [data for data in self.data if data != self.source]
        for k, seed in itertools.product(self.shots, self.seeds):
            old = {
                one: Training(host, one, self.source, "all", k, seed)
                for one in dict.fromkeys(one for one, _ in self.pairs)
            }
            found += [
                Cell(each, data, "all", each.slots) for each in old.values() for data in self.data
            ]
            for (one, two), other in itertools.product(self.pairs, others):
                training = Training(host, two, other, "all", k, seed, on=old[one])
                for data in dict.fromkeys((self.source, other)):
                    for slots in (("new",), ("old", "new")):
                        found.append(Cell(training, str(data), "all", slots))
        return found


def _fixed(name: str, value: Any) -> Any:
    """A varied value with lists as tuples: settings identify a training and must be hashable."""
    if isinstance(value, Mapping):
        raise InputError(f"study.vary: {name} is {value!r}; vary its entries, as {name}.NAME")
    return tuple(_fixed(name, x) for x in value) if isinstance(value, (list, tuple)) else value


def records_file(study: Study, work_dir: Path) -> Path:
    """The results of a study."""
    return work_dir / f"{study.name}.jsonl"
