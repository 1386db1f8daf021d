"""Compose a complete config for tools/train.py from host, method, data and settings."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.multimodal.clip.utils import (
    OPENAI_IMAGENET_PROMPT,
    OPENAI_IMAGENET_PROMPT_SUB,
)
from torch.utils.data import Dataset

from mmsdpt.datasets.classification import default_template
from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.cli import merge_options, replace_prefix, spread_text_encoder
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.setting_kinds import join, parts, setting

from .configs import read_config
from .study import Cell, Method, Study, Training, epochs_for

Content = dict[str, Any]
CLASSIFICATION = "mmsdpt.ClassificationData"
TUNER_FILE = "tuner.safetensors"
FEATURES = "features"
DATA_ROOT = "data/"
_TRAIN, _TEST = ("train_dataloader",), ("test_dataloader", "test_evaluator", "test_cfg")
_VALIDATION = ("val_dataloader", "val_evaluator", "val_cfg")
_MULTIPLE = re.compile(r"\*\s*(\d+(?:\.\d+)?(?:e-?\d+)?)")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_DRAWS_SHOTS = (CLASSIFICATION, "mmsdpt.FewShotDataset")
_STOPS = (
    "mmsdpt.EarlyStoppingHook",
    "mmsdpt.StopOnPlateauHook",  # its name in version 0.1
    "EarlyStoppingHook",
)


def compose(
    study: Study, cell: Cell, work_dir: Path, look: Callable[[Mapping], Dataset | None]
) -> Content:
    """The config of a cell's training and test.

    Args:
        work_dir: Folder of the files of earlier trainings.
        look: Returns a dataset by its config, or None if it is missing; for settings that depend
            on its numbers of classes and images.

    Raises:
        InputError: if a config lacks a required part, or settings change the seed.
    """
    training, host = cell.training, study.hosts[cell.training.host]
    base, cfg = read_config(host.config), read_config(study.runtime)
    sources = [cfg, base]
    if "model" not in base:
        raise InputError(f"{host.config} has no model")
    cfg["load_from"] = host.load_from or base.get("load_from")
    if "lang_model_name" in base:
        cfg["lang_model_name"] = base["lang_model_name"]
    model = cfg["model"] = base["model"]
    for name in ("tuner", "tuners"):
        model.pop(name, None)
    size = study.image_size or model.get("vision_backbone", {}).get("img_size", 224)
    test = _read_tests(study, cell.data, sources)
    cfg.update({name: test[name] for name in _TEST})
    if study.metrics:
        cfg["test_evaluator"] = list(study.metrics)
    _choose(test["test_dataloader"], cell.data, classes=cell.classes, image_size=size)
    if study.methods[training.method].ensemble:
        dataset = test["test_dataloader"]["dataset"]
        dataset["template"] = ensemble_templates(dataset["name"], dataset.get("template"))
    model["tuners"] = {}
    if training.data is not None:
        _add_training(cfg, study, training, size, sources, look)
        if training.on is not None:
            cfg["tuner_files"]["old"] = str(work_dir / training.on.folder / TUNER_FILE)
    for tuner in model["tuners"].values():
        if tuner.get("depth") and "text_backbone" in model:
            # Methods are configured for CLIP's 12 blocks; a smaller model has prompts in all of its
            # blocks.
            tuner["depth"] = min(tuner["depth"], num_blocks(model))
    imports = [name for x in sources for name in x.get("custom_imports", {}).get("imports", ())]
    cfg["custom_imports"] = dict(imports=list(dict.fromkeys(imports)), allow_failed_imports=False)
    whole = Config(cfg)
    merge_options(whole, dict(_options(copy.deepcopy(study.cell))), "cell.")
    for settings in (
        study.methods[training.method].settings,
        _settings_on_data(study, training),
        dict(training.settings),
    ):
        _set(whole, settings)
    spread_text_encoder(whole, {})
    content = whole.to_dict()
    if training.data is not None and content["randomness"].get("seed") != training.seed:
        raise InputError(
            "the setting randomness.seed would give trainings of different seeds the same one: set"
            " study.seeds"
        )
    if not study.methods[training.method].ensemble:
        _set_template(content, content)  # of study.cell or a varied setting
    if content.get("feature_cache") is not None:
        content["feature_cache"].setdefault("folder", str(work_dir / FEATURES))
    if not content["load_from"]:
        raise InputError(f"{host.config} names no base weights: set the host's load_from")
    for tuner in content["model"]["tuners"].values():
        if tuner.get("num_classes"):
            data = look(content["train_dataloader"]["dataset"])
            if data is not None:
                tuner["num_classes"] = len(data.metainfo["classes"])
                if tuner.get("shots"):
                    tuner["shots"] = most_of_a_class(data)
    return content


def _settings_on_data(study: Study, training: Training) -> Mapping[str, Any]:
    data = study.data.get(str(training.data))
    return data.settings.get(training.method, {}) if data else {}


def _options(part: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a part of a config by dotted name. A dict is a single setting if it replaces
    another (``_delete_``), or if its keys contain dots, such as module names in ``custom_keys``.
    """
    for name, value in part.items():
        has_names = isinstance(value, Mapping) and value and "_delete_" not in value
        if has_names and all(isinstance(key, str) and "." not in key for key in value):
            yield from _options(value, join(place, name))
        else:
            yield join(place, name), value


def _set(cfg: Config, settings: Mapping[str, Any]) -> None:
    """Give a config the settings with dots in their names.

    Raises:
        InputError: for a name without effect, a value of the wrong type, or a multiple of a
            setting that is not a number.
    """
    for name, value in settings.items():
        if "." not in name:
            continue
        if multiple := isinstance(value, str) and _MULTIPLE.fullmatch(value):
            own = setting(cfg, name, None)
            if isinstance(own, bool) or not isinstance(own, (int, float)):
                raise InputError(f"{name}={value!r} multiplies {own!r}, which is not a number")
            value = own * float(multiple[1])
            if isinstance(own, int) and value.is_integer():
                value = int(value)
        merge_options(cfg, {name: value}, "")


def _add_training(
    cfg: Content,
    study: Study,
    training: Training,
    size: int,
    sources: list[Content],
    look: Callable[[Mapping], Dataset | None],
) -> None:
    """Add tuners, loaders, optimizer and schedule."""
    data, method = study.data[str(training.data)], study.methods[training.method]
    content = _read_method(method, sources)
    tuners = content["model"]["tuners"]
    settings = {**_settings_on_data(study, training), **dict(training.settings)}
    settings = {name: value for name, value in settings.items() if "." not in name}
    if settings:
        _only(tuners, method, "settings are for one").update(settings)
    if training.on is not None:
        first = study.methods[training.on.method]
        old = _only(_read_method(first, sources)["model"]["tuners"], first, "one can be stacked on")
        tuners = dict(old=dict(old, frozen=True), new=_only(tuners, method, "one can be stacked"))
    cfg["model"]["tuners"] = tuners
    hooks = [each for each in content.get("custom_hooks") or [] if each["type"] not in _STOPS]
    cfg.update(
        optim_wrapper=content["optim_wrapper"],
        param_scheduler=content.get("param_scheduler") or [],
        train_cfg=dict(content["train_cfg"]),
        custom_hooks=hooks,
        tuner_files=content.get("tuner_files") or {},
        randomness=dict(seed=training.seed),
    )
    source = _read_data(study, data.name, sources)
    own = {name: source.get(name) for name in (*_TRAIN, *_VALIDATION)}
    cfg.update({name: part for name, part in own.items() if part is not None})
    if "train_dataloader" not in cfg:
        raise InputError(f"data {data.name} have no train_dataloader: they can only be tested")
    batch_size = content.get("train_dataloader", {}).get("batch_size")
    if batch_size:
        cfg["train_dataloader"]["batch_size"] = batch_size
    drawn = {} if training.shots is None else dict(shots=training.shots, seed=training.seed)
    for name in [name for name in _LOADERS[:2] if name in cfg]:
        chosen: Content = dict(classes=training.classes, image_size=size, **drawn)
        _choose(cfg[name], data.name, needed=name in _TRAIN, **chosen)
    _set_template(cfg, content)  # the method's takes precedence over the data's
    by_shots = (epochs_for(training.shots, each.epochs) for each in (data, method))
    epochs = study.epochs or next(filter(None, by_shots), None)
    if epochs is None and method.iterations_per_shot:
        if "text_backbone" not in cfg["model"]:
            raise InputError(
                f"iterations_per_shot of {method.name!r} is only for classification, with images"
                " per class; set epochs instead"
            )
        epochs = _epochs_of(method.iterations_per_shot, cfg["train_dataloader"], look)
    cfg["train_cfg"]["max_epochs"] = epochs or cfg["train_cfg"]["max_epochs"]
    _add_selection(cfg, study, data.name)


def _set_template(cfg: Content, source: Content) -> None:
    """Copy the templates of a config's ``SetClassesHook`` to its datasets, as a study's tests run
    no hooks.
    """
    template = (source.get("default_hooks", {}).get("classes") or {}).get("template")
    for name in [name for name in _LOADERS if template and name in cfg]:
        dataset: Any
        for _, dataset in parts(cfg[name]["dataset"]):
            if dataset.get("type") == CLASSIFICATION:
                dataset["template"] = template


def _epochs_of(
    per_shot: int, loader: Content, look: Callable[[Mapping], Dataset | None]
) -> int | None:
    """Number of epochs with about ``per_shot`` iterations per training image of a class."""
    data = look(loader["dataset"])
    if data is None:
        return None
    batches = math.ceil(len(data) / loader["batch_size"])
    return max(1, round(per_shot * most_of_a_class(data) / max(1, batches)))


def _add_selection(cfg: Content, study: Study, data: str) -> None:
    """Validate and keep the best state, which may be the untrained one; or do not validate."""
    cfg["train_cfg"]["val_interval"] = cfg["train_cfg"]["max_epochs"]
    if not study.selection:
        return
    if any(name not in cfg for name in _VALIDATION):
        raise InputError(
            f"study.selection needs a validation split, but the config of {data} has none: add"
            f" {', '.join(_VALIDATION)}, or set study.selection=None"
        )
    chosen = dict(rule="greater", interval=1, patience=None) | dict(study.selection)
    score = dict(monitor=chosen["monitor"], rule=chosen["rule"])
    cfg["train_cfg"]["val_interval"] = chosen["interval"]
    cfg["default_hooks"]["checkpoint"].update(save_best=score["monitor"], rule=score["rule"])
    cfg["custom_hooks"].append(dict(type="mmsdpt.ValidateFirstHook"))
    if chosen["patience"]:
        stop = dict(type="mmsdpt.EarlyStoppingHook", patience=chosen["patience"], **score)
        cfg["custom_hooks"].append(stop)


def _read_method(method: Method, sources: list[Content]) -> Content:
    """A method's config, with its tuners by slot; it is added to ``sources``."""
    path = method.config
    assert path is not None
    content = read_config(path)
    sources.append(content)
    for name in ("model", "optim_wrapper", "train_cfg"):
        if name not in content:
            raise InputError(f"{path} has no {name}: use a config for tools/train.py")
    model = content["model"]
    if model.get("trainable"):
        raise InputError(
            f"{path} trains parameters of the model itself (trainable=...), but studies only"
            " save tuners: use a tuner instead"
        )
    if "max_epochs" not in content["train_cfg"]:
        raise InputError(f"{path} does not train by epochs, which studies need")
    model["tuners"] = resolve_slots(model.get("tuner"), model.get("tuners"))
    if not model["tuners"]:
        raise InputError(f"{path} has no tuner, so there is nothing to train")
    settings = {name: value for name, value in method.settings.items() if "." not in name}
    if settings:
        _only(model["tuners"], method, "settings are for one").update(settings)
    return content


def _only(tuners: Mapping[str, dict], method: Method, why: str) -> dict:
    if len(tuners) != 1:
        raise InputError(f"{method.config} has {len(tuners)} tuners; {why}")
    return next(iter(tuners.values()))


def _read_data(study: Study, name: str, sources: list[Content]) -> Content:
    """The config of a dataset; it is added to ``sources``."""
    path = (study.data.get(name) or study.forgetting[name]).config
    content = read_config(path)
    missing = [each for each in (*_TRAIN, *_TEST) if each not in content]
    if missing:
        raise InputError(f"{path}, the config of the data {name}, has no {', '.join(missing)}")
    if study.data_root:
        content = replace_prefix(content, DATA_ROOT, study.data_root.rstrip("/") + "/")
    sources.append(content)
    return content


def _read_tests(study: Study, name: str, sources: list[Content]) -> Content:
    """The config of a dataset, with the study's test split as its test images."""
    content = _read_data(study, name, sources)
    if study.split == "test" or name in study.forgetting:
        return content
    if any(not content.get(each) for each in _VALIDATION):
        raise InputError(f"study.split={study.split!r}: {name} has no validation images")
    split = {test: content[val] for test, val in zip(_TEST[:2], _VALIDATION[:2], strict=True)}
    return content | split


def _choose(
    loader: Content, name: str, needed: bool = True, *, classes: str, image_size: int, **drawn: Any
) -> None:
    """Set shots, seed, classes and image size of the dataset of a loader."""
    inner = parts(loader["dataset"])
    found: list[Any] = [each for _, each in inner if each.get("type") in _DRAWS_SHOTS]
    classifies = [each for each in found if each["type"] == CLASSIFICATION]
    if classes != "all" and not classifies:
        raise InputError(f"{name} has no base and new classes: only {CLASSIFICATION} supports them")
    if drawn and needed and not found:
        raise InputError(
            f"{name} cannot draw {drawn['shots']} images per class: wrap its training data in"
            f" {_DRAWS_SHOTS[1]}, or set study.shots=[None]"
        )
    for each in found:
        each.update(drawn)
    for each in classifies:
        each.update(classes=classes, image_size=image_size)
        if each.get("shots") == 0:
            each["shots"] = None  # its value for all images


def most_of_a_class(dataset: Dataset) -> int:
    """Number of images of the largest class: K, if K images per class are drawn. Repeated images
    count each time.
    """
    labels = (int(dataset.get_data_info(i)["gt_label"]) for i in range(len(dataset)))
    return max(Counter(labels).values(), default=1)


def num_blocks(model: Mapping[str, Any]) -> int:
    """Number of blocks that both towers of a CLIP have: the maximum depth of prompts."""
    arch = model["vision_backbone"].get("arch")
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo[arch]
    found = [model["text_backbone"]["layers"]]
    return min(found if arch is None else [*found, arch["num_layers"]])


def ensemble_templates(name: str, template: str | Sequence[str] | None = None) -> list[str]:
    """Sentences with ``{}`` for the class, from MMPreTrain: OpenAI's 80 for ImageNet and its
    variants; for other data their own (``template``, if it differs) and the seven of OpenAI's that
    suit all kinds of pictures.
    """
    if name.startswith("imagenet"):
        return [sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT]
    own = default_template(name) if template is None else template
    generic = (sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT_SUB)
    return list(dict.fromkeys([*([own] if isinstance(own, str) else own), *generic]))
