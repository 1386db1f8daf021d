"""One config from a model, a dataset and a method, as tools/train.py takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmpretrain.models.backbones import VisionTransformer

from mmsdpt.utils.errors import InputError

from .configs import read_config
from .methods import Method
from .plan import Training
from .templates import ensemble_templates

DATASET_TYPE = "mmsdpt.ClassificationData"
DATA_ROOT = "data/"
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass(frozen=True)
class Setup:
    """What all cells of a run share.

    Attributes:
        runtime: Config of the runner, hooks and log.
        model: Config with ``model`` and ``load_from``.
        datasets: Config of each dataset by its name.
        methods: By name.
        load_from: Base weights instead of the model config's.
        data_root: Takes the place of ``data/`` at the start of the datasets' folders.
        image_size: Side of the images in pixels; None: the model's.
        epochs: Of every training, instead of the methods' own.
        options: Settings that take the place of any config's, by dotted name.
        workers: Processes that load images; None: none on a CPU, else the dataset config's.
    """

    runtime: Path
    model: Path
    datasets: Mapping[str, Path]
    methods: Mapping[str, Method]
    load_from: str | None = None
    data_root: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None


def compose(setup: Setup, training: Training, target: str, classes: str = "all") -> ConfigDict:
    """The config of a training and its test.

    Args:
        setup: What all cells share.
        training: What is trained.
        target: Dataset of the test.
        classes: Its classes: ``all``, ``base`` or ``new``.

    Raises:
        InputError: if a config lacks what belongs into it.
    """
    method = setup.methods[training.method]
    parts = method.parts(training.shots, setup.epochs)
    base = read_config(setup.model)
    if "model" not in base:
        raise InputError(f"{setup.model} has no model")
    cfg = read_config(setup.runtime)
    cfg.load_from = setup.load_from or base.get("load_from")
    if not cfg.load_from:
        raise InputError(f"{setup.model} names no base weights: give them with --load-from PATH")
    cfg.model = {key: value for key, value in base.model.items() if key not in ("tuner", "tuners")}
    blocks = num_blocks(setup.model)
    for tuner in parts["tuners"].values():
        if tuner.get("depth"):  # methods are set up for CLIP's 12 blocks
            tuner["depth"] = min(tuner["depth"], blocks)
    cfg.model.tuners = parts["tuners"]
    cfg.model.predict_features = True
    size = setup.image_size or base.model.vision_backbone.get("img_size", 224)

    test = _read_dataset(setup, target)
    cfg.test_dataloader = test.test_dataloader
    cfg.test_cfg = dict(type="TestLoop")
    cfg.test_evaluator = [dict(type="Accuracy", topk=(1,)), dict(type="mmsdpt.AlignmentMetric")]
    cfg.test_dataloader.dataset.update(classes=classes, image_size=size)
    if method.ensemble:
        dataset = cfg.test_dataloader.dataset
        dataset.template = list(
            ensemble_templates(dataset.get("name", ""), dataset.get("template"))
        )
    if training.source is not None:
        cfg.update(
            optim_wrapper=parts["optim_wrapper"],
            param_scheduler=parts["param_scheduler"],
            train_cfg=parts["train_cfg"],
            custom_hooks=parts["custom_hooks"],
            tuner_files=parts["tuner_files"],
            randomness=dict(seed=training.seed),
        )
        # Protocols do not validate. Who trains with the config by itself does it once, at the end.
        cfg.train_cfg["val_interval"] = cfg.train_cfg["max_epochs"]
        cfg.val_cfg = dict(type="ValLoop")
        cfg.val_evaluator = dict(type="Accuracy", topk=(1,))
        source = _read_dataset(setup, training.source)
        for name in ("train_dataloader", "val_dataloader"):
            cfg[name] = source[name]
            cfg[name].dataset.update(
                shots=training.shots,
                seed=training.seed,
                classes=training.classes,
                image_size=size,
            )
        cfg.train_dataloader.batch_size = parts["batch_size"]
    if parts["template"]:  # the method's, whatever the dataset's is
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if name in cfg:
                cfg[name].dataset.template = parts["template"]
    whole = Config(cfg)
    whole.merge_from_dict(dict(setup.options))
    return whole._cfg_dict


def num_blocks(model: Path) -> int:
    """Blocks that both towers of a model have: the most that can have prompts."""
    cfg = read_config(model).model
    arch = cfg.vision_backbone.get("arch")
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo[arch]
    found = [cfg.text_backbone.layers]
    return min(found if arch is None else [*found, arch["num_layers"]])


def _read_dataset(setup: Setup, name: str) -> ConfigDict:
    path = setup.datasets[name]
    cfg = read_config(path)
    missing = [loader for loader in _LOADERS if loader not in cfg]
    if missing:
        raise InputError(f"the dataset's config {path} has no {' and no '.join(missing)}")
    for loader in _LOADERS:
        dataset = cfg[loader].dataset
        if dataset.type != DATASET_TYPE:
            raise InputError(
                f"{path} has a dataset of type {dataset.type}; protocols draw shots and classes"
                f" with {DATASET_TYPE}, which reads folders, CSV and json files, too"
            )
        root = dataset.get("data_root", DATA_ROOT)
        if setup.data_root and f"{root}/".startswith(DATA_ROOT):
            dataset.data_root = setup.data_root.rstrip("/") + "/" + root[len(DATA_ROOT) :]
        if setup.workers is not None:
            cfg[loader].num_workers = setup.workers
        if not cfg[loader].get("num_workers"):
            cfg[loader].persistent_workers = False
    return cfg
