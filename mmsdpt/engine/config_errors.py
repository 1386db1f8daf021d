"""Report invalid settings of a config in one sentence with their dotted path, not a traceback."""

from __future__ import annotations

import errno
import inspect
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mmengine.registry
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import Registry
from torch.utils.data import DataLoader, IterableDataset

from mmsdpt.utils.data_files import kind_of, metric_configs
from mmsdpt.utils.errors import InputError, nearest, printable
from mmsdpt.utils.setting_kinds import check_kinds, join, parts, setting

from .state import random_state, set_random_state

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)
_RENAMED = {"class_chunk": "token_chunk, which counts tokens instead of classes"}
# Steps of MMEngine's runner before the first batch, and the settings that they read.
_STEPS = {
    "scale_lr": "auto_scale_lr",
    "turn_on_activation_checkpointing": "activation_checkpointing",
    "turn_on_efficient_conv_bn_eval": "efficient_conv_bn_eval",
    "_maybe_compile": "compile",
    "init_weights": "init_cfg",
    "build_runner_from_cfg": "the run",
}


def check_settings(cfg: Config) -> None:
    """Check the settings that are most often set, and most often wrong.

    Raises:
        InputError: naming the setting, and what it must be.
    """
    check_kinds(cfg)
    for names in _TOGETHER:
        there = [name for name in names if cfg.get(name) is not None]
        if there and len(there) < len(names):
            absent = [name for name in names if name not in there]
            raise InputError(
                f"{', '.join(absent)} is None, but {', '.join(there)} is not: set all of them, or"
                " set all to None to leave this part out"
            )
    hooks = cfg.get("custom_hooks") or ()
    if any(kind_of(hook) == "EMAHook" for hook in hooks):
        raise InputError(
            "custom_hooks has an EMAHook, which needs all weights in a run's checkpoints, but these"
            " hold only trainable parameters: leave it out"
        )
    level = cfg.get("log_level")
    known = isinstance(level, str) and isinstance(logging.getLevelName(level), int)
    if level is not None and not known and type(level) is not int:
        raise InputError(f"log_level must be a level such as INFO or WARNING, got {level!r}")
    seed = setting(cfg, "randomness.seed", None)
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**32):
        raise InputError(f"randomness.seed must be an integer from 0 to {2**32 - 1}, got {seed!r}")
    for role in ("val", "test"):
        for metric in metric_configs(cfg.get(f"{role}_evaluator")):
            segments = "segm" in str(metric.get("metric"))
            if segments and not any("mask" in place for place, _ in parts(cfg.get("model"))):
                raise InputError(
                    f"{role}_evaluator.metric has segm, but this model predicts boxes, not"
                    " masks: metric='bbox' compares these"
                )


@contextmanager
def settings_explained(cfg: Config, origin: str = "") -> Iterator[None]:
    """Turn an error of a registry or constructor about a misspelt setting into one sentence with
    the setting's path in the config and the nearest name. An error about a full disk gets the name
    of the work folder if the system names no file.

    Args:
        cfg: The config to build.
        origin: The files that it was read from, if it is not the config of a run.
    """
    prefix = f"{origin}: " if origin else ""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in _OF_WRITING:
            raise OSError(error.errno, error.strerror, cfg.work_dir) from error
        raise
    except Exception as error:
        if isinstance(error, (TypeError, KeyError)):
            sentence = _sentence(cfg, str(error.args[0]) if error.args else "")
            if sentence is not None:
                raise InputError(prefix + sentence) from error
        part = _part_in_work(error)
        if part is None:
            raise
        if isinstance(part, str):
            name = part
        elif isinstance(part.get("type"), (str, type)):
            name = _name(part)
        else:
            name = next((place for place, each in parts(cfg) if each == part), "a part")
        raise InputError(
            f"{prefix}{name} cannot be built from the config: {_reason(error, part)}"
        ) from error


def try_first_sample(loader: DataLoader) -> None:
    """Prepare one sample, so that errors of a transform end the run before its first step. The
    random state is not changed.

    Raises:
        InputError: naming the transform.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is None or isinstance(dataset, IterableDataset) or not len(dataset):
        return
    before = random_state(devices=False)
    try:
        dataset[0]
    except InputError:
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        selves = [frame.f_locals.get("self") for frame in frames]
        steps = [type(each).__name__ for each in selves if isinstance(each, BaseTransform)]
        name = steps[-1] if steps else type(dataset).__name__
        raise InputError(
            f"{name} cannot prepare the first image of {type(dataset).__name__}: {_reason(error)}"
        ) from error
    finally:
        set_random_state(before)


def _part_in_work(error: BaseException) -> Mapping | str | None:
    """The part that was being built when an error occurred (config or description), or None."""
    found, where = None, error.__traceback__
    while where is not None:
        name = where.tb_frame.f_code.co_name
        if name == "build_from_cfg":
            part = where.tb_frame.f_locals.get("cfg")
            found = part if isinstance(part, Mapping) else f"a part that is {part!r:.80}"
        elif name in _STEPS:
            found = _STEPS[name]
        elif step := re.fullmatch(r"_?build_((?:(?!from_cfg)\w)+)", name):
            found = f"the {step[1].replace('_', ' ')}"
        where = where.tb_next
    return found


def _reason(error: BaseException, part: Mapping | str = "") -> str:
    """The message of an error, with its location in the code if it is not written for users."""
    text = printable(str(error.args[0] if error.args else ""), 400)
    place = traceback.extract_tb(error.__traceback__)[-1]
    refusal = (place.line or "").startswith(("raise ", "assert "))
    if refusal and not text and isinstance(part, Mapping):
        shown = ", ".join(f"{name}={value!r}" for name, value in part.items() if name != "type")
        return printable(f"it does not take {shown}", 400)
    if refusal or "__init__() missing" in text:
        return text
    where = "/".join(place.filename.split("/")[-2:])
    return f"{type(error).__name__}: {text} ({where}, line {place.lineno})"


def _sentence(cfg: Config, text: str) -> str | None:
    if found := re.search(r"__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        places = [
            (place, part, known)
            for place, part in parts(cfg)
            if found[1] in part and found[1] not in (known := _arguments(part.get("type")))
        ]
        if not places:
            return None  # an error of the code, not of the config
        # A dict without a type is rarely built, but may have a setting of this name, as metainfo.
        place, part, known = min(places, key=lambda each: "type" not in each[1])
        new = _RENAMED.get(found[1])
        hint = f"; it is now {new}" if new else nearest(found[1], known)
        return f"{join(place, found[1])} is not a setting of {_name(part)}{hint}"
    kind = setting(cfg, "optim_wrapper.optimizer.type", None)
    if text == "None is not a callable object" and isinstance(kind, str):
        # MMEngine does not check that the optimizer exists.
        known = list(mmengine.registry.OPTIMIZERS.module_dict)
        return f"optim_wrapper.optimizer.type={kind!r} is not known" + nearest(kind, known)
    if found := re.match(r"(\S+) is not in the (.+?) registry", text):
        places = [(place, part) for place, part in parts(cfg) if part.get("type") == found[1]]
        if not places:
            return None
        known = [name for own in _registries() for name in own.module_dict]
        plain = found[1].rpartition(".")[2]
        return f"{join(places[0][0], 'type')}={found[1]!r} is not known" + nearest(plain, known)
    return None


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
    """Argument names of a registered class and of the classes that it inherits from."""
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
