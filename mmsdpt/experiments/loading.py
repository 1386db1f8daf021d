"""Reading a study: names, paths and dicts in its config become hosts, methods and data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsdpt.utils.cli import OF_THE_RUNNER, merge_options
from mmsdpt.utils.errors import InputError

from .configs import find_config, read_config
from .study import PROTOCOLS, ZERO_SHOT, Data, Host, Method, Study

FROM_A_SOURCE = ("transfer", "stacking")
SPLITS = ("test", "val")
_KINDS = {
    Host: ("hosts", "configs/_base_/models"),
    Method: ("methods", None),
    Data: ("data", "configs/_base_/datasets"),
}

# Names that options may set even if a study's config lacks them, by path.
_SELECTION = ("monitor", "rule", "interval", "patience")
_ABSENT_FROM_STUDIES = {
    "": ("hosts", "methods", "data", "cell"),
    "study": [each.name for each in fields(Study)],
    "study.selection": _SELECTION,
    "cell": OF_THE_RUNNER,
}


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
    if "/" in str(given["name"]):
        raise InputError(
            f"{path}: study.name is part of file names, so it must not contain a slash, got"
            f" {given['name']!r}"
        )
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
            f"{path}: study.vary must be a dict of which each entry is a list of dicts or a dict of"
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
            whole = type(value) is int and value >= 0
            if not (whole or (key == "shots" and value is None)):
                raise InputError(f"{path}: study.{key} must hold integers from 0, got {value!r}")


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
