"""One config from host, method, data and settings: complete, as tools/train.py takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.multimodal.clip.utils import (
    OPENAI_IMAGENET_PROMPT,
    OPENAI_IMAGENET_PROMPT_SUB,
)

from mmsdpt.datasets.classification import default_template
from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.cli import replace_prefix, spread_text_encoder
from mmsdpt.utils.errors import InputError

from .study import Cell, Method, Study, Training, read_config

CLASSIFICATION = "mmsdpt.ClassificationData"
TUNER_FILE = "tuner.safetensors"
DATA_ROOT = "data/"
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_TEST = ("test_dataloader", "test_evaluator", "test_cfg")
_VALIDATION = ("val_dataloader", "val_evaluator", "val_cfg")
_DRAWS_SHOTS = (CLASSIFICATION, "mmsdpt.FewShotDataset")
_SCHEDULE_ENDS = ("T_max", "end")
_STOPS = ("mmsdpt.StopOnPlateauHook", "EarlyStoppingHook")


def compose(
    study: Study, cell: Cell, work_dir: Path, count_classes: Callable[[Mapping], int]
) -> ConfigDict:
    """The config of a cell's training and test.

    Args:
        study: The study.
        cell: One of its cells.
        work_dir: Where the files of earlier trainings are.
        count_classes: Gives the number of classes of a data set's config, for tuners that have
            something for each class.

    Raises:
        InputError: if a config lacks what belongs in it.
    """
    training, host = cell.training, study.hosts[cell.training.host]
    base = read_config(host.config)
    if "model" not in base:
        raise InputError(f"{host.config} has no model")
    cfg = read_config(study.runtime)
    sources = [cfg, base]
    cfg.load_from = host.load_from or base.get("load_from")
    if not cfg.load_from:
        raise InputError(f"{host.config} names no base weights: set load_from of the host")
    if "lang_model_name" in base:
        cfg.lang_model_name = base.lang_model_name
    cfg.model = {key: value for key, value in base.model.items() if key not in ("tuner", "tuners")}
    cfg.model.tuners = {}
    method = study.methods[training.method]
    test = _read_data(study, cell.data, sources)
    cfg.update({name: test[name] for name in _TEST})
    if study.metrics:
        cfg.test_evaluator = list(study.metrics)
    size = study.image_size or base.model.get("vision_backbone", {}).get("img_size", 224)
    _choose(cfg.test_dataloader, cell.data, classes=cell.classes, image_size=size)
    if method.ensemble:
        dataset = cfg.test_dataloader.dataset
        dataset.template = ensemble_templates(dataset.get("name", ""), dataset.get("template"))
    if training.data is not None:
        _add_training(cfg, study, training, size, sources)
        if training.on is not None:
            cfg.tuner_files["old"] = str(work_dir / training.on.folder / TUNER_FILE)
    for tuner in cfg.model.tuners.values():
        if tuner.get("depth") and "text_backbone" in cfg.model:
            # Methods are set up for CLIP's 12 blocks; a smaller model has prompts in all of its.
            tuner.depth = min(tuner.depth, num_blocks(cfg.model))
    imports = [
        name for each in sources for name in each.get("custom_imports", {}).get("imports", ())
    ]
    cfg.custom_imports = dict(imports=list(dict.fromkeys(imports)), allow_failed_imports=False)
    whole = Config(cfg)
    whole.merge_from_dict(_dotted(study.cell))
    whole.merge_from_dict({name: x for name, x in training.settings if "." in name})
    for tuner in whole.model.tuners.values():
        if tuner.get("num_classes") and training.data is not None:
            tuner.num_classes = count_classes(whole.train_dataloader.dataset)
    spread_text_encoder(whole)
    return whole._cfg_dict


def _add_training(
    cfg: ConfigDict, study: Study, training: Training, size: int, sources: list[ConfigDict]
) -> None:
    """Add tuners, loaders, optimizer and schedule."""
    data, method = study.data[str(training.data)], study.methods[training.method]
    epochs = study.epochs or data.epochs or method.epochs_for(training.shots)
    parts = _method_parts(method, epochs, sources)
    settings = {name: value for name, value in training.settings if "." not in name}
    if settings:
        _only(parts["tuners"], method, "settings are for one").update(settings)
    if training.on is None:
        cfg.model.tuners = parts["tuners"]
    else:
        first = study.methods[training.on.method]
        old = _only(_method_parts(first, None, sources)["tuners"], first, "one can be stacked on")
        new = _only(parts["tuners"], method, "one can be stacked")
        cfg.model.tuners = dict(old=dict(old, frozen=True), new=new)
    cfg.update({name: parts[name] for name in ("optim_wrapper", "param_scheduler", "train_cfg")})
    cfg.update(custom_hooks=parts["custom_hooks"], tuner_files=parts["tuner_files"])
    cfg.randomness = dict(seed=training.seed)
    source = _read_data(study, data.name, sources)
    cfg.train_dataloader = source.train_dataloader
    if parts["batch_size"]:
        cfg.train_dataloader.batch_size = parts["batch_size"]
    cfg.update({name: source[name] for name in _VALIDATION if name in source})
    drawn = {} if training.shots is None else dict(shots=training.shots, seed=training.seed)
    for name in _LOADERS[:2]:
        if name in cfg:
            needed = name == "train_dataloader"
            _choose(
                cfg[name], data.name, needed, classes=training.classes, image_size=size, **drawn
            )
    if parts["template"]:  # the method's, whatever the data's is
        for name in _LOADERS:
            if name in cfg:
                cfg[name].dataset.template = parts["template"]
    _add_selection(cfg, study, data.name)


def _add_selection(cfg: ConfigDict, study: Study, data: str) -> None:
    """Validate and keep the best state, the untrained one included; or do not validate."""
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    if not study.selection:
        return
    if any(name not in cfg for name in _VALIDATION):
        raise InputError(
            f"study.selection needs a validation split, and the config of {data} has none: add"
            f" {', '.join(_VALIDATION)}, or set study.selection=None"
        )
    if "monitor" not in study.selection:
        raise InputError("study.selection needs monitor, the name of a score of validation")
    chosen = dict(rule="greater", interval=1, patience=None) | dict(study.selection)
    cfg.train_cfg.val_interval = chosen["interval"]
    cfg.default_hooks.checkpoint.update(save_best=chosen["monitor"], rule=chosen["rule"])
    cfg.custom_hooks.append(dict(type="mmsdpt.ValidateFirstHook"))
    if chosen["patience"]:
        stop = dict(type="mmsdpt.StopOnPlateauHook", patience=chosen["patience"])
        cfg.custom_hooks.append(dict(stop, monitor=chosen["monitor"], rule=chosen["rule"]))


def _method_parts(method: Method, epochs: int | None, sources: list[ConfigDict]) -> dict[str, Any]:
    """What of a method's config belongs to the method.

    Args:
        method: A method that trains.
        epochs: Epochs instead of the config's.
        sources: Configs whose imports are needed; the method's is added.
    """
    path = method.config
    assert path is not None
    sources.append(read_config(path))
    content = sources[-1].to_dict()
    for name in ("model", "optim_wrapper", "train_cfg"):
        if name not in content:
            raise InputError(f"{path} has no {name}: name a config that tools/train.py can train")
    model = content["model"]
    if model.get("trainable"):
        raise InputError(
            f"{path} trains parameters of the model itself (trainable=...); studies keep what a"
            " tuner learned, so let a tuner train instead"
        )
    tuners = resolve_slots(model.get("tuner"), model.get("tuners"))
    if not tuners:
        raise InputError(f"{path} has no tuner, so there is nothing to train")
    if method.settings:
        _only(tuners, method, "settings are for one").update(method.settings)
    train_cfg = dict(content["train_cfg"])
    if "max_epochs" not in train_cfg:
        raise InputError(f"{path} does not train by epochs, as studies do")
    schedulers = content.get("param_scheduler") or []
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    if epochs is not None:
        # What would begin after the end has no place: MMEngine refuses it.
        schedulers = [
            _stretched(each, train_cfg["max_epochs"], epochs)
            for each in schedulers
            if each.get("begin", 0) < epochs
        ]
        train_cfg["max_epochs"] = epochs
    set_classes = content.get("default_hooks", {}).get("classes") or {}
    hooks = [each for each in content.get("custom_hooks") or [] if each["type"] not in _STOPS]
    return dict(
        tuners=tuners,
        tuner_files=content.get("tuner_files") or {},
        optim_wrapper=content["optim_wrapper"],
        param_scheduler=schedulers,
        train_cfg=train_cfg,
        custom_hooks=hooks,
        batch_size=content.get("train_dataloader", {}).get("batch_size"),
        template=set_classes.get("template"),
    )


def _dotted(settings: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and "_delete_" not in value:
            found.update(_dotted(value, f"{start}{name}."))
        else:
            found[f"{start}{name}"] = value
    return found


def _only(tuners: Mapping[str, dict], method: Method, why: str) -> dict:
    if len(tuners) != 1:
        raise InputError(f"{method.config} has {len(tuners)} tuners; {why}")
    return next(iter(tuners.values()))


def _stretched(scheduler: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """A schedule whose end, where it is that of the training, follows another number of epochs."""
    return {
        key: new if key in _SCHEDULE_ENDS and value == old else value
        for key, value in scheduler.items()
    }


def _read_data(study: Study, name: str, sources: list[ConfigDict]) -> ConfigDict:
    """The loaders and evaluators of a data set."""
    path = study.data[name].config
    cfg = read_config(path)
    sources.append(cfg)
    missing = [each for each in ("train_dataloader", *_TEST) if each not in cfg]
    if missing:
        raise InputError(f"{path}, the config of the data {name}, has no {', '.join(missing)}")
    found = ConfigDict({key: cfg[key] for key in (*_LOADERS, *_TEST, *_VALIDATION) if key in cfg})
    if study.data_root:
        found = replace_prefix(found, DATA_ROOT, study.data_root.rstrip("/") + "/")
    return found


def _choose(
    loader: ConfigDict,
    name: str,
    needed: bool = True,
    *,
    classes: str,
    image_size: int,
    **drawn: Any,
) -> None:
    """Tell the data set of a loader its shots, seed, classes and the size of images."""
    found = [each for each in datasets(loader.dataset) if each.get("type") in _DRAWS_SHOTS]
    classifies = [each for each in found if each.type == CLASSIFICATION]
    for each in classifies:
        each.update(classes=classes, image_size=image_size)
    if classes != "all" and not classifies:
        raise InputError(f"{name} has no base and new classes: only {CLASSIFICATION} has")
    for each in found:
        each.update(drawn)
    if drawn and needed and not found:
        raise InputError(
            f"{name} cannot draw {drawn['shots']} images of each class: put its training data into"
            f" {_DRAWS_SHOTS[1]}, or set study.shots=[None]"
        )


def datasets(cfg: Any) -> Iterator[Any]:
    """The configs of a data set and of those inside it."""
    if isinstance(cfg, Mapping):
        yield cfg
        yield from datasets(cfg.get("dataset"))
        yield from datasets(cfg.get("datasets"))
    elif isinstance(cfg, (list, tuple)):
        for part in cfg:
            yield from datasets(part)


def num_blocks(model: Mapping[str, Any]) -> int:
    """Blocks that both towers of a CLIP have: the most that can have prompts."""
    arch = model["vision_backbone"].get("arch")
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo[arch]
    found = [model["text_backbone"]["layers"]]
    return min(found if arch is None else [*found, arch["num_layers"]])


def ensemble_templates(name: str, template: str | Sequence[str] | None = None) -> list[str]:
    """Sentences with ``{}`` for the class: OpenAI's for ImageNet, as MMPreTrain has them.

    ImageNet and its variants have OpenAI's 80. Any other data has its own sentence and OpenAI's
    seven that work best on their own ("itap of a {}." and so on), which suit all kinds of pictures.

    Args:
        name: Of the data set, as ``mmsdpt.ClassificationData`` knows it.
        template: The data's own, where it is not the usual one.
    """
    if name.startswith("imagenet"):
        return [sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT]
    own = default_template(name) if template is None else template
    generic = (sentence("{}") for sentence in OPENAI_IMAGENET_PROMPT_SUB)
    return list(dict.fromkeys([*([own] if isinstance(own, str) else own), *generic]))
