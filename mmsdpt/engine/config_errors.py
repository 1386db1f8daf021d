"""Settings of a config that cannot be right: one sentence with their place, not a traceback."""

from __future__ import annotations

import difflib
import errno
import inspect
import logging
import math
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from mmsdpt.utils.errors import InputError, printable

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_COUNTS = {
    "train_cfg.max_epochs": 1,
    "train_cfg.max_iters": 1,
    "train_cfg.val_interval": 1,
    **{f"{role}_dataloader.batch_size": 1 for role in ("train", "val", "test")},
    **{f"{role}_dataloader.num_workers": 0 for role in ("train", "val", "test")},
}


_TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)


def check_settings(cfg: Config) -> None:
    """Check what is set most often, and most often wrong.

    Raises:
        InputError: naming the setting, and what it must be.
    """
    for names in _TOGETHER:
        there = [name for name in names if cfg.get(name) is not None]
        if there and len(there) < len(names):
            absent = [name for name in names if name not in there]
            raise InputError(
                f"{', '.join(absent)} is None, and {', '.join(there)} is not: they are set"
                " together, or all to None to leave this part out"
            )
    hooks = cfg.get("custom_hooks") or ()
    if any(isinstance(hook, Mapping) and hook.get("type") == "EMAHook" for hook in hooks):
        raise InputError(
            "custom_hooks has an EMAHook, which needs all weights in a run's checkpoints, and these"
            " hold what trains: leave it out"
        )
    level = cfg.get("log_level")
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        raise InputError(f"log_level must be a level such as INFO or WARNING, got {level!r}")
    for name, least in _COUNTS.items():
        value = _setting(cfg, name)
        if value is not None and not (type(value) is int and value >= least):
            kind = "a positive integer" if least else "an integer, 0 or more"
            raise InputError(f"{name} must be {kind}, got {value!r}")
    seed = _setting(cfg, "randomness.seed")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**32):
        raise InputError(f"randomness.seed must be an integer from 0 to {2**32 - 1}, got {seed!r}")
    rate = _setting(cfg, "optim_wrapper.optimizer.lr")
    is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if rate is not None and not (is_number and math.isfinite(rate) and rate >= 0):
        raise InputError(f"optim_wrapper.optimizer.lr must be a number, 0 or more, got {rate!r}")


@contextmanager
def settings_explained(cfg: Config) -> Iterator[None]:
    """Turn what a registry or a constructor says of a misspelt setting into one sentence with the
    setting's place in the config and the nearest name; a full disk gets the work folder's name
    where the system names no file.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in _OF_WRITING:
            raise OSError(error.errno, error.strerror, cfg.work_dir) from error
        raise
    except (TypeError, KeyError, ValueError, AssertionError) as error:
        if isinstance(error, (TypeError, KeyError)):
            sentence = _sentence(cfg, str(error.args[0]) if error.args else "")
            if sentence is not None:
                raise InputError(sentence) from error
        part = _refusing_part(error)
        if part is None:
            raise
        shown = ", ".join(f"{name}={value!r}" for name, value in part.items() if name != "type")
        text = str(error.args[0] if error.args else "")
        reason = printable(text or f"it does not take {shown}", 400)
        raise InputError(f"{_name(part)} cannot be built from the config: {reason}") from error


def _refusing_part(error: BaseException) -> Mapping | None:
    """The config of the part whose constructor refused a setting; None if it is another error."""
    part, where = None, error.__traceback__
    while where is not None:
        if where.tb_frame.f_code.co_name == "build_from_cfg":
            part = where.tb_frame.f_locals.get("cfg")
        where = where.tb_next
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    is_refusal = line.startswith(("raise ", "assert ")) or "__init__() missing" in str(error)
    return part if is_refusal and isinstance(part, Mapping) else None


def _sentence(cfg: Config, text: str) -> str | None:
    if found := re.search(r"__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        places = [
            (place, part, known)
            for place, part in _parts(cfg)
            if found[1] in part and found[1] not in (known := _arguments(part.get("type")))
        ]
        if not places:
            return None  # not of the config: an error of the code
        place, part, known = places[0]
        return f"{_join(place, found[1])} is not a setting of {_name(part)}" + _nearest(
            found[1], known
        )
    kind = _setting(cfg, "optim_wrapper.optimizer.type")
    if text == "None is not a callable object" and isinstance(kind, str):
        # MMEngine looks the optimizer up without seeing whether it is there.
        known = list(mmengine.registry.OPTIMIZERS.module_dict)
        return f"optim_wrapper.optimizer.type={kind!r} is not known" + _nearest(kind, known)
    if found := re.match(r"(\S+) is not in the (.+?) registry", text):
        places = [(place, part) for place, part in _parts(cfg) if part.get("type") == found[1]]
        if not places:
            return None
        known = [name for own in _registries() for name in own.module_dict]
        plain = found[1].rpartition(".")[2]
        return f"{_join(places[0][0], 'type')}={found[1]!r} is not known" + _nearest(plain, known)
    return None


def _parts(value: Any, place: str = "") -> Iterator[tuple[str, Mapping]]:
    """The dicts of a config with their places."""
    value = getattr(value, "_cfg_dict", value)
    if isinstance(value, Mapping):
        yield place, value
        for key, item in value.items():
            yield from _parts(item, _join(place, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, item in enumerate(value):
            yield from _parts(item, _join(place, i))


def _join(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _setting(cfg: Config, name: str) -> Any:
    value: Any = cfg
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) or hasattr(value, "get") else None
    return value


def _name(part: Mapping) -> str:
    kind = part.get("type")
    return "this part" if kind is None else getattr(kind, "__name__", str(kind))


def _registries() -> Iterator[Registry]:
    """MMEngine's registries, and those of the toolboxes and of this package below them."""
    waiting = [own for own in vars(mmengine.registry).values() if isinstance(own, Registry)]
    while waiting:
        own = waiting.pop()
        yield own
        waiting += own.children.values()


def _arguments(kind: Any) -> list[str]:
    """Arguments that a registered class, or one that it inherits from, names."""
    if isinstance(kind, str):
        plain = kind.rpartition(".")[2]
        kinds = [own.module_dict[plain] for own in _registries() if plain in own.module_dict]
        kind = kinds[0] if kinds else None
    if not inspect.isclass(kind):
        return []
    return [name for base in kind.__mro__ for name in _own_arguments(base)]


def _own_arguments(base: type) -> list[str]:
    init = vars(base).get("__init__")
    return [name for name in inspect.signature(init).parameters if name != "self"] if init else []


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else ""
