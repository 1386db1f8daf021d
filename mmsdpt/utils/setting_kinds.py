"""Check the types of settings: a string instead of a dict, a dict instead of a list."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from .errors import InputError, nearest, printable

ABSENT = object()

_KINDS: dict[str, Callable[[Any], bool]] = {
    "a dict": lambda value: isinstance(value, Mapping),
    "a list": lambda value: isinstance(value, (list, tuple)),
    "a string": lambda value: isinstance(value, str),
    "True or False": lambda value: isinstance(value, bool),
    "a number, 0 or more": lambda value: _is_number(value) and value >= 0,
    "an integer, 0 or more": lambda value: type(value) is int and value >= 0,
    "a positive integer": lambda value: type(value) is int and value > 0,
    "-1": lambda value: type(value) is int and value == -1,
    "cpu or gpu": lambda value: value in ("cpu", "gpu"),
    "None": lambda value: value is None,
}
_ROLES = ("train", "val", "test")
# Settings that are absent, or already built, are not checked.
_SETTINGS = {
    ("a dict",): (
        *("model", "env_cfg", "randomness", "optim_wrapper.optimizer", "model.test_cfg"),
        *("model.language_model", "model.bbox_head", "model.train_cfg"),
        *(f"{role}_dataloader.dataset" for role in _ROLES),
    ),
    ("a dict", "None"): (
        *(f"{role}_{part}" for role in _ROLES for part in ("dataloader", "cfg")),
        *(f"{role}_dataloader.{part}" for role in _ROLES for part in ("sampler", "collate_fn")),
        *("optim_wrapper", "optim_wrapper.clip_grad", "optim_wrapper.paramwise_cfg"),
        *("default_hooks", "log_processor", "visualizer", "data_preprocessor", "auto_scale_lr"),
        *("feature_cache", "custom_imports", "tuner_files", "env_cfg.mp_cfg", "env_cfg.dist_cfg"),
        *("model.tuner", "model.tuners", "model.test_cfg.nms"),
        *("model.data_preprocessor", "model.init_cfg"),
    ),
    ("a list", "None"): ("custom_hooks", "model.trainable", "train_cfg.dynamic_intervals"),
    ("a dict", "a list", "None"): ("param_scheduler", "val_evaluator", "test_evaluator"),
    ("a string", "None"): (
        *("work_dir", "data_root", "load_from", "default_scope", "experiment_name"),
        "encoder_dtype",
        *("optim_wrapper.constructor", "lang_model_name", "model.language_model.name"),
    ),
    ("a string",): ("runner_type", "launcher"),
    ("a list", "a string", "None"): (
        *("activation_checkpointing", "efficient_conv_bn_eval", "custom_imports.imports"),
    ),
    ("True or False", "a dict", "None"): ("compile",),
    ("True or False", "None"): ("resume", "find_unused_parameters"),
    ("True or False",): (
        *(
            f"{role}_dataloader.{part}"
            for role in _ROLES
            for part in ("drop_last", "pin_memory", "persistent_workers", "sampler.shuffle")
        ),
        *(f"randomness.{part}" for part in ("per_sample", "deterministic", "diff_rank_seed")),
    ),
    ("a number, 0 or more",): (
        *(f"optim_wrapper.optimizer.{part}" for part in ("lr", "weight_decay")),
        "model.test_cfg.score_thr",
    ),
    ("an integer, 0 or more",): (
        *(f"{role}_dataloader.num_workers" for role in _ROLES),
        "train_cfg.val_begin",
    ),
    ("a positive integer",): (
        *("train_cfg.max_epochs", "train_cfg.max_iters", "train_cfg.val_interval"),
        *(f"{role}_dataloader.batch_size" for role in _ROLES),
        *("optim_wrapper.accumulative_counts", "log_processor.window_size"),
        *("default_hooks.logger.interval", "model.data_preprocessor.pad_size_divisor"),
    ),
    ("a positive integer", "-1"): ("default_hooks.checkpoint.interval",),
}

# All settings of test_cfg by the type of the model, because no constructor checks them.
_READ_IN_TESTS = {
    "GLIP": ("nms_pre", "min_bbox_size", "score_thr", "nms", "max_per_img", "chunked_size"),
    "GroundingDINO": ("max_per_img", "chunked_size"),
}
_READ_BY_NMS = (  # mmcv's batched_nms, and its nms and soft_nms
    *("type", "class_agnostic", "split_thr", "iou_threshold", "offset", "score_threshold"),
    *("max_num", "sigma", "min_score", "method"),
)

_OF_EVALUATORS = {
    "ann_file": ("a string", "None"),
    "metric_items": ("a list", "None"),
    "iou_thrs": ("a number, 0 or more", "a list", "None"),
    "collect_device": ("cpu or gpu",),
}


def check_kinds(cfg: Config) -> None:
    """Check that settings have values of the right type.

    Raises:
        InputError: naming the setting, and what it must be.
    """
    for kinds, names in _SETTINGS.items():
        for name in names:
            _check(name, setting(cfg, name), kinds)
    model = str(setting(cfg, "model.type", None)).rpartition(".")[2]
    if model in _READ_IN_TESTS:
        for place, known in (
            ("model.test_cfg", _READ_IN_TESTS[model]),
            ("model.test_cfg.nms", _READ_BY_NMS),
        ):
            for name in setting(cfg, place, None) or ():
                if name not in known:
                    raise InputError(
                        f"{place}.{name} is not a setting of {model}, which has"
                        f" {', '.join(known)}{nearest(name, known)}"
                    )
    for role in _ROLES:
        for place, part in parts(setting(cfg, f"{role}_dataloader", None), f"{role}_dataloader"):
            _check(f"{place}.data_root", part.get("data_root", ABSENT), ("a string", "None"))
            _check(f"{place}.ann_file", part.get("ann_file", ABSENT), ("a string", "None"))
            classes = setting(part, "metainfo.classes")
            _check(f"{place}.metainfo.classes", classes, ("a list", "a string", "None"))
            steps = part.get("pipeline", ABSENT)
            _check(f"{place}.pipeline", steps, ("a list",))
            if steps is not ABSENT and not len(steps):
                raise InputError(f"{place}.pipeline is empty, so no image would be loaded")
        for place, part in parts(cfg.get(f"{role}_evaluator"), f"{role}_evaluator"):
            for name, kinds in _OF_EVALUATORS.items():
                _check(f"{place}.{name}", part.get(name, ABSENT), kinds)
    hooks = setting(cfg, "default_hooks", None) or {}
    for place, hook in [
        *((f"default_hooks.{name}", hook) for name, hook in hooks.items() if hook is not None),
        *((f"custom_hooks.{i}", each) for i, each in enumerate(cfg.get("custom_hooks") or ())),
    ]:
        _check(place, hook, ("a dict",))


def check_same_kind(name: str, old: Any, new: Any) -> None:
    """Check that a number stays a number, and a bool a bool.

    A number may become a list, as sizes may be one or two numbers, or a word that stands for one.
    A value that replaces a dict, a list or a string is checked by the constructor.

    Raises:
        InputError: naming the setting, and what it was.
    """
    word = isinstance(new, str) and any(known in new for known in ("max_epochs", "image_size"))
    if isinstance(old, bool):
        wrong = isinstance(new, (str, int, float)) and type(new) is not bool
    else:
        wrong = _is_number(old) and isinstance(new, (str, bool)) and not word
    if wrong:
        kind = "neither True nor False" if isinstance(old, bool) else "not a number"
        raise InputError(
            f"{name} is {old!r} in the config, but its new value {_shown(new)} is {kind}"
        )


def setting(cfg: Any, name: str, default: Any = ABSENT) -> Any:
    """A setting by its dotted path, such as ``param_scheduler.0.end``."""
    value = getattr(cfg, "_cfg_dict", cfg)
    for word in name.split("."):
        if isinstance(value, (list, tuple)) and word.isdigit() and int(word) < len(value):
            value = value[int(word)]
        elif isinstance(value, Mapping) and word in value:
            value = value[word]
        else:
            return default
    return value


def parts(value: Any, place: str = "") -> Iterator[tuple[str, Mapping]]:
    """The dicts of a config with their dotted paths."""
    value = getattr(value, "_cfg_dict", value)
    if isinstance(value, Mapping):
        yield place, value
        for key, item in value.items():
            yield from parts(item, join(place, key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from parts(item, join(place, i))


def join(place: str, name: object) -> str:
    """The dotted path of a setting in a part of a config."""
    return f"{place}.{name}" if place else str(name)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and math.isfinite(value)


def _check(name: str, value: Any, kinds: tuple[str, ...]) -> None:
    plain = isinstance(value, (str, int, float, Mapping, list, tuple, type(None)))
    if plain and not any(_KINDS[kind](value) for kind in kinds):
        raise InputError(f"{name} must be {' or '.join(kinds)}, got {_shown(value)}")


def _shown(value: Any) -> str:
    return printable(repr(value.to_dict() if isinstance(value, ConfigDict) else value), 80)
