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

import itertools
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsdpt.utils.cli import OF_THE_RUNNER, merge_options, read_config_file
from mmsdpt.utils.detection_benchmarks import complete_detection_data
from mmsdpt.utils.errors import InputError

PROTOCOLS = ("few_shot", "base_to_new", "transfer", "comparison", "stacking")
FROM_A_SOURCE = ("transfer", "stacking")
SPLITS = ("test", "val")
ZERO_SHOT = "zero_shot"
REPOSITORY = Path(__file__).resolve().parents[2]


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
        """Its folder, relative to the work folder."""
        settings = ",".join(f"{name}={value}" for name, value in self.settings)
        method = f"{self.method}[{settings}]" if settings else self.method
        method = method.replace("/", "_").replace(" ", "")
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


# Names that options may set even if a study's config lacks them, by path.
_SELECTION = ("monitor", "rule", "interval", "patience")
_ABSENT_FROM_STUDIES = {
    "": ("hosts", "methods", "data", "cell"),
    "study": [each.name for each in fields(Study)],
    "study.selection": _SELECTION,
    "cell": OF_THE_RUNNER,
}


def _fixed(name: str, value: Any) -> Any:
    """A varied value with lists as tuples: settings identify a training and must be hashable."""
    if isinstance(value, Mapping):
        raise InputError(f"study.vary: {name} is {value!r}; vary its entries, as {name}.NAME")
    return tuple(_fixed(name, x) for x in value) if isinstance(value, (list, tuple)) else value


def load_study(path: str | os.PathLike, options: Mapping[str, Any] | None = None) -> Study:
    """Read a study.

    Args:
        path: Path of its config.
        options: Settings that override the config's, by dotted name: ``study.seeds``,
            ``cell.optim_wrapper.optimizer.lr``.

    Raises:
        InputError: if a setting is invalid.
    """
    path = Path(path)
    cfg = Config(read_config(path))
    merge_options(cfg, options or {}, known=_ABSENT_FROM_STUDIES)
    content = cfg.to_dict()
    given = content.get("study")
    if not isinstance(given, Mapping):
        raise InputError(f"{path} has no study: write study = dict(name=..., protocol=..., ...)")
    given = dict(given)
    for key in ("hosts", "methods", "data", "forgetting"):
        if isinstance(given.get(key), str):  # --cfg-options study.methods=mudpt
            given[key] = [given[key]]
    _check(path, given)

    def made(kind: type, entry: Any) -> Any:
        return _made(kind, entry, content)

    def by_name(kind: type, entries: Iterable[Any]) -> dict[str, Any]:
        return _by_name(path, kind, [made(kind, each) for each in entries])

    pairs = [tuple(made(Method, each).name for each in pair) for pair in given.get("pairs", ())]
    named = [each for pair in given.get("pairs", ()) for each in pair] or given.get("methods", [])
    methods = by_name(Method, named)
    methods = {ZERO_SHOT: methods.get(ZERO_SHOT) or made(Method, ZERO_SHOT), **methods}
    data = by_name(Data, given["data"])
    if given["protocol"] in FROM_A_SOURCE:
        source = made(Data, given["source"])
        given["source"] = source.name
        rest = data.values()
        data = _by_name(path, Data, [*rest, source] if source.name in data else [source, *rest])
    forgetting = by_name(Data, given.get("forgetting", ()))
    if both := data.keys() & forgetting.keys():
        raise InputError(f"{path}: {both.pop()} is in both study.data and study.forgetting")
    names = {*content.get("methods", ()), *methods}
    for each in data.values():
        _check_keys(f"{path}: settings of data {each.name!r}", each.settings, sorted(names))
    given.update(
        hosts=by_name(Host, given["hosts"]),
        methods=methods,
        data=data,
        forgetting=forgetting,
        runtime=find_config(given["runtime"]),
        pairs=pairs,
        cell=content.get("cell", {}),
        path=path,
    )
    return Study(**given)


def _check(path: Path, given: dict[str, Any]) -> None:
    """Refuse a study's config with unknown or missing keys; a single value becomes a list."""
    _check_keys(f"{path}: study", given, sorted(set(_names(Study)) - {"cell", "path"}))
    missing = [x for x in ("name", "protocol", "runtime", "hosts", "data") if not given.get(x)]
    if missing:
        raise InputError(f"{path}: study lacks {', '.join(missing)}")
    protocol = given["protocol"]
    if protocol not in PROTOCOLS:
        raise InputError(
            f"{path}: unknown protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}"
        )
    if protocol in FROM_A_SOURCE and not given.get("source"):
        raise InputError(f"{path}: the protocol {protocol} needs study.source")
    if given.get("split", "test") not in SPLITS:
        raise InputError(f"{path}: study.split must be {' or '.join(SPLITS)}")
    if given.get("forgetting") and protocol not in ("comparison", "few_shot"):
        raise InputError(
            f"{path}: study.forgetting is only for the protocols comparison and few_shot"
        )
    if (protocol == "stacking") != bool(given.get("pairs")):
        raise InputError(
            f"{path}: study.pairs must be set for the protocol stacking, and only for it"
        )
    for key in ("epochs", "image_size"):
        value = given.get(key)
        if value is not None and not (type(value) is int and value > 0):
            raise InputError(f"{path}: study.{key} must be a positive integer, got {value!r}")
    vary = given.get("vary") or {}
    if not isinstance(vary, Mapping) or not all(
        isinstance(asked, Mapping)
        or (isinstance(asked, Sequence) and all(isinstance(x, Mapping) for x in asked))
        for asked in vary.values()
    ):
        raise InputError(
            f"{path}: study.vary must be a dict of questions, each a list of dicts or a dict of"
            f" lists, got {vary!r}"
        )
    if selection := given.get("selection"):
        if not isinstance(selection, Mapping) or "monitor" not in selection:
            raise InputError(
                f"{path}: study.selection needs monitor, the name of a validation score"
            )
        _check_keys(f"{path}: study.selection", selection, _SELECTION)
    for key in ("shots", "seeds"):
        values = given.get(key)
        if values is not None and (isinstance(values, str) or not isinstance(values, Sequence)):
            given[key] = [values]
        for value in given.get(key, ()):
            if not (isinstance(value, int) or (key == "shots" and value is None)):
                raise InputError(f"{path}: study.{key} must hold integers, got {value!r}")


def _check_keys(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"{what} has no key {unknown[0]!r}; its keys are {', '.join(known)}")


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]


def _by_name(path: Path, kind: type, entries: Iterable[Any]) -> dict[str, Any]:
    """Hosts, methods or data by their names.

    Raises:
        InputError: if two different ones have the same name, as their results would be mixed.
    """
    found: dict[str, Any] = {}
    for each in entries:
        if found.setdefault(each.name, each) != each:
            raise InputError(
                f"{path}: two different {_KINDS[kind][0]} have the name {each.name!r}: give each a"
                " different name, as in dict(name=..., config=...)"
            )
    return found


def _made(kind: type, entry: Any, content: Mapping[str, Any]) -> Any:
    """Resolve a name, a path or a dict in a study's config. A dict without a config adds settings
    to the entry of its name.
    """
    plural, folder = _KINDS[kind]
    catalogue = content.get(plural, {})
    found: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else dict(name=str(entry))
    name = found.setdefault("name", Path(found.get("config") or "").stem)
    if not name:
        raise InputError(f"study.{plural} has {found}, but each entry needs a name or a config")
    if not found.get("config"):
        if name in catalogue:
            known = catalogue[name]
            found = {**known, **found}
            if "settings" in known:
                found["settings"] = {**known["settings"], **found["settings"]}
        elif name.endswith(".py"):
            found.update(name=Path(name).stem, config=name)
        elif folder:
            found.update(config=f"{folder}/{name}.py")
    if kind is Method and not found.get("config") and not _is_untuned(found):
        what = f"there is no method {name!r}"
        if name in (ZERO_SHOT, *catalogue):
            what = f"the method {name!r} has no config, so it trains nothing"
        others = ", ".join(each for each in catalogue if each != name) or "none"
        raise InputError(
            f"{what}; choose from {others}, or give the path of your own config (*.py)"
        )
    _check_keys(f"{kind.__name__.lower()} {found['name']!r}", found, _names(kind))
    if found.get("config"):
        found["config"] = find_config(found["config"])
    if kind is Method:
        default = "Zero-shot" if found["name"] == ZERO_SHOT else found["name"]
        found["label"] = found.get("label") or default
    if kind is Data:
        found["name"] = found["name"].removeprefix("clip_")
    if "epochs" in found:
        epochs = found["epochs"]
        pairs = epochs if isinstance(epochs, Sequence) else [(0, epochs)]
        pairs = () if epochs is None else pairs
        if not all(
            isinstance(x, Sequence) and list(map(type, x)) == [int, int] and x[1] > 0 for x in pairs
        ):
            raise InputError(
                f"epochs of {name!r} must be a positive integer, or pairs of a number of shots and"
                f" one, got {epochs!r}"
            )
        found["epochs"] = tuple(tuple(pair) for pair in pairs)
    count = found.get("iterations_per_shot")
    if count is not None and not (type(count) is int and count > 0):
        raise InputError(
            f"iterations_per_shot of {name!r} must be a positive integer, got {count!r}"
        )
    return kind(**found)


def _is_untuned(method: Mapping[str, Any]) -> bool:
    """Whether a method without a config is valid: the untuned model, possibly with several
    templates or other settings.
    """
    settings = method.get("settings", {})
    of_tuners = any("." not in name for name in settings)
    return not of_tuners and bool(method["name"] == ZERO_SHOT or method.get("ensemble") or settings)


_KINDS = {
    Host: ("hosts", "configs/_base_/models"),
    Method: ("methods", None),
    Data: ("data", "configs/_base_/datasets"),
}


def records_file(study: Study, work_dir: Path) -> Path:
    """The results of a study."""
    return work_dir / f"{study.name}.jsonl"


def find_config(path: str | os.PathLike) -> Path:
    """Find a config by its path, relative to the current folder or to the repository.

    Raises:
        InputError: if there is none.
    """
    for folder in (Path(), REPOSITORY):
        found = folder / path
        if found.is_file():
            return found
    looked = " and ".join(dict.fromkeys((str(Path.cwd()), str(REPOSITORY))))
    raise InputError(f"config not found: {path} (looked in {looked})")


def read_config(path: Path) -> dict[str, Any]:
    """A copy of a config's content; the file is read once for all cells.

    Raises:
        InputError: if the file, or one that it inherits, does not exist.
    """
    if not path.is_file():
        raise InputError(f"config not found: {path}")
    return pickle.loads(_parse(path.resolve(), path.stat().st_mtime_ns))


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int) -> bytes:
    cfg = read_config_file(path)
    complete_detection_data(cfg)
    return pickle.dumps(cfg.to_dict())  # faster than copying the objects
