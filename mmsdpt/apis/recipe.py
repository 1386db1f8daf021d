"""The recipe of a tuned model: all settings to rebuild it and its image pipeline, read from tuner
files, from a config of the tools, or from the ``config.json`` of a shared folder.

Headers and ``config.json`` are untrusted. MMEngine imports and calls any dotted path that a
``type`` names, so only parts that :mod:`mmsdpt.utils.untrusted` allows are built from them. A
Python config is code and trusted.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

import mmsdpt.datasets
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.engine.config_errors import settings_explained
from mmsdpt.hosts.base import build_on_base, resolve_slots
from mmsdpt.tuners.files import load_tuner, read_tuner_header
from mmsdpt.utils.cli import load_config
from mmsdpt.utils.data_files import dataset_configs, kind_of
from mmsdpt.utils.downloads import resolve_checkpoint
from mmsdpt.utils.errors import InputError, printable
from mmsdpt.utils.templates import default_template
from mmsdpt.utils.untrusted import MAX_TEXT, config_problems

FORMAT = 1
MAX_CLASSES = 20_000
MAX_JSON_BYTES = 1_000_000
SCOPES = ("mmdet", "mmpretrain")
# Transforms of a test pipeline that read or change annotations, which new images do not have.
_OF_TRUTH = ("LoadAnnotations", "FilterAnnotations", "GTBoxSubOne_GLIP")


@dataclass
class Recipe:
    """All settings to rebuild a tuned model.

    Attributes:
        scope: Scope of the registry, ``mmdet`` or ``mmpretrain``.
        model: The host's config, without tuners.
        tuners: Config of each slot.
        load_from: Base weights, as ``load_from`` in a config.
        pipeline: Transforms of a test image, without those for annotations.
        classes: Names, in the order of the labels.
        captions: GLIP's caption prompts by class.
        templates: CLIP's sentences with ``{}`` for the class.
        files: Tuner file of each slot that has one.
    """

    scope: str
    model: dict[str, Any]
    tuners: dict[str, dict[str, Any]]
    load_from: str | None
    pipeline: list[dict[str, Any]]
    classes: list[str] = field(default_factory=list)
    captions: dict[str, Any] | None = None
    templates: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The content of ``config.json``, with file names instead of paths.

        Raises:
            InputError: if the config has values that JSON does not support.
        """
        content = {**asdict(self), "format": FORMAT}
        content["files"] = {slot: Path(path).name for slot, path in self.files.items()}
        try:
            return json.dumps(content, indent=1)
        except TypeError as error:
            raise InputError(
                f"the config cannot be written as JSON ({error}): name classes by their registered"
                " names"
            ) from None

    @classmethod
    def from_json(cls, path: Path) -> Recipe:
        """Read ``config.json``; the tuner files are in the same folder.

        Raises:
            InputError: if it is missing or cannot be trusted.
        """
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise InputError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("format")
            recipe = cls(**content)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{path} is not the config of a shared model ({printable(error)})"
            ) from None
        if version != FORMAT:
            raise InputError(
                f"{path} has format {printable(version)}, but this mmsdpt reads {FORMAT}: update"
                " mmsdpt"
            )
        _check(recipe, str(path))
        _drop_training(recipe.model)
        if recipe.files.keys() != recipe.tuners.keys():
            raise InputError(
                f"{path} has tuners in the slots {printable(list(recipe.tuners))}, but files for"
                f" {printable(list(recipe.files)) or 'none'}: each slot needs a file"
            )
        recipe.pipeline = _without_truth(recipe.pipeline, None)
        for slot, name in recipe.files.items():
            if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
                raise InputError(f"{path} names a file outside its folder: {printable(name)}")
            recipe.files[slot] = str(path.parent / name)
        return recipe

    @classmethod
    def from_config(cls, path: str, files: Mapping[str, str] | str | None) -> Recipe:
        """Read a config of ``tools/train.py``.

        Args:
            path: The config; it is executed.
            files: One tuner file if the config has one slot, else files by slot.

        Raises:
            InputError: if the config has no such slot, or no test data.
        """
        return cls.of(load_config(argparse.Namespace(config=str(path))), files)

    @classmethod
    def of(cls, cfg: Config, files: Mapping[str, str] | str | None) -> Recipe:
        """Like :meth:`from_config`, for a config that was already read."""
        path = cfg.filename
        model = cfg.model.to_dict()
        slots = resolve_slots(model.pop("tuner", None), model.pop("tuners", None))
        _drop_training(model)
        if isinstance(files, str):
            files = {next(iter(slots), "default") if len(slots) == 1 else "default": files}
        files = dict(files or {})
        if unknown := [slot for slot in files if slot not in slots]:
            raise InputError(
                f"a file was given for slot {unknown[0]!r}, but the slots of {path} are"
                f" {', '.join(slots) or 'none'}: give dict(SLOT=FILE)"
            )
        loader = ConfigDict(cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}).to_dict()
        dataset = next(dataset_configs(loader.get("dataset")), None)
        if dataset is None or not dataset.get("pipeline"):
            raise InputError(f"{path} has no test_dataloader, whose pipeline prepares the images")
        recipe = cls(
            scope=cfg.get("default_scope", "mmdet"),
            model=model,
            tuners={slot: slots[slot] for slot in files},
            load_from=cfg.get("load_from"),
            pipeline=_without_truth(dataset["pipeline"], dataset.get("image_size")),
            captions=dataset.get("caption_prompt"),
            files=files,
        )
        metainfo = dataset.get("metainfo")
        if isinstance(metainfo, Mapping) and not isinstance(metainfo.get("classes"), str):
            recipe.classes = list(map(str, metainfo.get("classes") or ()))
        if recipe.scope == "mmpretrain":
            template = (
                _template_of_hooks(cfg)
                or dataset.get("template")
                or default_template(dataset.get("name", "folder"))
            )
            recipe.templates = [template] if isinstance(template, str) else list(template)
        told: Recipe | None = None
        for slot, file in files.items():  # the file's settings are those it was trained with
            header = read_tuner_header(file)
            part = replace(
                recipe,
                classes=_texts(section(header, "extra").get("classes")),
                templates=_texts(section(header, "data").get("templates")),
                files={slot: file},
            )
            told = part if told is None else told.joined(part)
        if told is not None:
            recipe.classes = told.classes or recipe.classes
            recipe.templates = told.templates or recipe.templates
        return recipe

    @classmethod
    def from_files(cls, files: Mapping[str, str] | str) -> Recipe:
        """Read tuner files that name their model.

        Raises:
            InputError: if a file does not name it or cannot be trusted, or two files belong to
                different models.
        """
        found: Recipe | None = None
        for slot, path in ({"": files} if isinstance(files, str) else files).items():
            part = _of_header(path, read_tuner_header(path), slot)
            found = part if found is None else found.joined(part)
        if found is None:
            raise InputError("give a tuner file, or the config of a model")
        return found

    @classmethod
    def of_one(cls, cfg: Config, file: str | None) -> Recipe:
        """The host and base weights of a config with one tuner file, which has its own settings
        and templates.

        Args:
            cfg: A config of ``tools/train.py``, for any method.
            file: The tuner file; one without settings (version 0.1) takes those of the config's
                tuner, if it has the same method. None: only the host.

        Raises:
            InputError: if neither has the settings, or the file cannot be trusted.
        """
        if file is None:
            return cls.of(cfg, None)
        header = read_tuner_header(file)
        if section(header, "model").get("config") and section(header, "data").get("pipeline"):
            part = _of_header(file, header, "")
            own = cls.of(cfg, None)
            return replace(
                own,
                tuners=part.tuners,
                templates=part.templates or own.templates,
                files=part.files,
            )
        slots = resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners"))
        for slot, tuner in slots.items():
            if tuner["type"].endswith(f".{header.get('method')}"):
                return cls.of(cfg, {slot: file})
        raise InputError(
            f"{file} has no settings, like files of older versions: give the config that it was"
            f" trained with, whose tuner is {printable(header.get('method'))}"
        )

    def joined(self, part: Recipe) -> Recipe:
        """This recipe with one more tuner file, and all classes and captions. If the files
        contradict each other, this recipe takes precedence and a warning is logged.

        Raises:
            InputError: if the file belongs to a different model.
        """
        first, path = (next(iter(each.files.values())) for each in (self, part))
        if part.model != self.model:
            raise InputError(f"{path} belongs to a different model than {first}")
        captions, others = self.captions or {}, part.captions or {}
        differ = {
            "pipeline of the images": part.pipeline != self.pipeline,
            "templates": self.templates and part.templates and part.templates != self.templates,
            "captions": any(captions.get(name, text) != text for name, text in others.items()),
        }
        if names := " and ".join(name for name, differs in differ.items() if differs):
            print_log(
                f"{path} was trained with different {names} than {first}: those of {first} are"
                " used, as it comes first",
                "current",
                logging.WARNING,
            )
        return replace(
            self,
            tuners={**self.tuners, **part.tuners},
            files={**self.files, **part.files},
            classes=list(dict.fromkeys([*self.classes, *part.classes])),
            captions={**others, **captions} or None,
            templates=self.templates or part.templates,
        )

    @contextmanager
    def building(self, **part: Any) -> Iterator[None]:
        """Context for building a part of this recipe: errors become one sentence.

        Raises:
            InputError: naming the setting, and the tuner files if there are any.
        """
        origin = ", ".join(self.files.values())
        with in_scope(self.scope), settings_explained(Config(part), origin):
            yield

    def build(self) -> nn.Module:
        """The model with its base weights and tuners, on the CPU.

        Raises:
            InputError: if a setting is unknown or invalid, tuners cannot be stacked, or weights are
                missing or do not fit.
        """
        if not self.load_from:
            raise InputError("the config names no base weights: pass --cfg-options load_from=PATH")
        path = resolve_checkpoint(self.load_from)
        config = ConfigDict(self.model, tuners=self.tuners or None)
        with self.building(model=config):
            model = build_on_base(config, path)
        for slot, file in self.files.items():
            load_tuner(model, file, slot)
        return model


def section(header: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a header; empty if it is missing or not an object."""
    found = header.get(name)
    return found if isinstance(found, Mapping) else {}


def _of_header(path: str, header: Mapping[str, Any], slot: str) -> Recipe:
    """The recipe of one file. ``slot`` is its slot; empty: the slot that it was trained in."""
    model, data, extra = (section(header, name) for name in ("model", "data", "extra"))
    config = model.get("config")
    pipeline: Any = data.get("pipeline")
    known = isinstance(pipeline, list) and all(isinstance(step, dict) for step in pipeline)
    if not isinstance(config, Mapping) or not known:
        raise InputError(
            f"{path} does not name its model, like files of older versions; give the config that"
            " it was trained with: config='configs/....py'"
        )
    config = dict(config)
    trained_in = str(header.get("slot"))
    try:
        slots = resolve_slots(config.pop("tuner", None), config.pop("tuners", None))
        tuner = slots[trained_in]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} has a damaged header: its model has no slot {printable(trained_in)}"
        ) from None
    _drop_training(config)
    slot = slot or trained_in
    if others := [name for name in slots if name != trained_in]:
        print_log(
            f"{path} was trained together with {', '.join(others)}: for the same results give all"
            " files, by slot",
            "current",
            logging.WARNING,
        )
    recipe = Recipe(
        scope=model.get("scope", "mmdet"),
        model=config,
        tuners={slot: {**tuner, "frozen": True}},
        load_from=model.get("load_from"),
        pipeline=_without_truth(pipeline, data.get("image_size")),
        classes=extra.get("classes") or [],
        captions=data.get("captions"),
        templates=data.get("templates") or [],
        files={slot: str(path)},
    )
    _check(recipe, str(path))
    return recipe


def _drop_training(model: dict[str, Any]) -> None:
    """Remove the settings of a host that act only in training (``class_chunk`` is of version 0.2),
    and the copies of others that MMDetection puts into a head's config when it builds a model. From
    an untrusted file ``retention.phrases`` would make MMEngine import what it names.
    """
    for name in ("trainable", "retention", "class_chunk"):
        model.pop(name, None)
    if isinstance(head := model.get("bbox_head"), dict):
        model["bbox_head"] = {k: v for k, v in head.items() if k not in ("train_cfg", "test_cfg")}


def _template_of_hooks(cfg: Config) -> Any:
    """The template of ``SetClassesHook``, which takes precedence over the dataset's."""
    hooks = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or ())]
    for hook in hooks:
        if isinstance(hook, Mapping) and str(hook.get("type")).endswith("SetClassesHook"):
            return hook.get("template")
    return None


def _without_truth(pipeline: Sequence[Any], image_size: Any) -> list[dict[str, Any]]:
    """The transforms of an image; ``"image_size"`` in them is replaced by the number, and JSON's
    lists by tuples, which sizes must be.
    """

    def value_of(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return [
        {k: image_size if v == "image_size" else value_of(v) for k, v in step.items()}
        for step in pipeline
        if kind_of(step) not in _OF_TRUTH
    ]


def _texts(value: Any) -> list[str]:
    """The value if it is a list of short texts, else nothing."""
    return list(value) if _are_texts(value) else []


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_CLASSES
        and all(isinstance(text, str) and len(text) <= MAX_TEXT for text in value)
    )


# ---------------------------------------------------------------------- untrusted files


def _check(recipe: Recipe, origin: str) -> None:
    """Refuse anything that an untrusted file must not request; drops its ``init_cfg``."""

    def refuse(problem: str) -> None:
        raise InputError(
            f"{origin} is not used: {problem}; if you trust it, give the Python config that it was"
            " trained with: config='configs/....py'"
        )

    if recipe.scope not in SCOPES:
        refuse(f"its scope is {printable(recipe.scope)}, expected {' or '.join(SCOPES)}")
    if not isinstance(recipe.pipeline, list):
        refuse("its pipeline is not a list")
    for name in ("model", "tuners", "files"):
        if not isinstance(getattr(recipe, name), dict):
            refuse(f"its {name} is not an object")
    if not all(isinstance(name, str) for name in recipe.files.values()):
        refuse("its files are not file names")
    if recipe.load_from is not None and not isinstance(recipe.load_from, str):
        refuse("it does not name its base weights")
    if not _are_texts(recipe.classes) or not _are_texts(recipe.templates):
        refuse(f"its classes or templates must be at most {MAX_CLASSES} short strings")
    if recipe.captions is not None:
        captions = recipe.captions.values() if isinstance(recipe.captions, dict) else [None]
        if not all(isinstance(c, dict) and _are_texts(list(c.values())) for c in captions):
            refuse("its captions must be short strings by class")
    for what, part in (
        ("model", recipe.model),
        ("tuner", list(recipe.tuners.values())),
        ("pipeline", recipe.pipeline),
    ):
        for problem in config_problems(part, what):
            refuse(problem)
    if recipe.model.get("type") not in ("mmsdpt.GLIP", "mmsdpt.GroundingDINO", "mmsdpt.CLIP"):
        refuse(f"its model is {printable(recipe.model.get('type'))}, which is not a host of mmsdpt")
    for what, parts in (("tuner", recipe.tuners.values()), ("pipeline", recipe.pipeline)):
        if not all(isinstance(part, dict) and "type" in part for part in parts):
            refuse(f"its {what} has a part without a type")


def in_scope(scope: str) -> Any:
    """A context in which the default scope is a toolbox's registry."""
    return DefaultScope.overwrite_default_scope(scope)
