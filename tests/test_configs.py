"""Promises of configs/: every file builds, trains what it says, and keeps what GLIP's weights
expect.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmdet.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, RUNNERS, init_default_scope
from mmengine.visualization import Visualizer

from mmsdpt.engine.hooks.class_names import check_names_reach_the_model
from mmsdpt.engine.schedules import follow_max_epochs
from mmsdpt.utils.cli import replace_data_root
from projects.mini_world import task_dataset
from tests.config_files import FOLDER, config, innermost, read_once
from tests.hosts.disconnect import disconnect_all
from tests.hosts.full_size import bert_folder, on_meta

FILES = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.rglob("*.py")
    if "_base_" not in path.relative_to(FOLDER).parts
    # Those of CLIP are in test_clip_configs.py.
    and not re.search("clip|clothing|mudpt", path.relative_to(FOLDER).as_posix())
)
FULL_SIZE = [name for name in FILES if re.search("(?<!mini_)(glip_[lt]|grounding_dino)", name)]
# What is counted in the papers, or follows from it: k tokens of width 2048 in 8 or 6 layers, and of
# width 256 in the 3 layers of mini GLIP, of width 1024 in the 6 of Grounding DINO.
TRAINABLE = {
    "sdpt/glip_l_coco_k10.py": 163_840,
    "sdpt/glip_l_coco_k120.py": 1_966_080,
    "sdpt/glip_t_coco_k10.py": 122_880,
    "mini/sdpt_mini_thermal.py": 7_680,
    **{
        f"sdpt/{model}_coco_k10.py": 61_440
        for model in (
            "grounding_dino_swin_t",
            "mm_grounding_dino_swin_t",
            "mm_grounding_dino_swin_l",
        )
    },
}
FROZEN = {"sdpt/glip_l_coco_k10.py": 430_401_824}
ROLES = ("train", "val", "test")


@pytest.fixture(scope="module")
def bert_base(tmp_path_factory) -> str:
    return str(bert_folder(tmp_path_factory.mktemp("bert-base")))


def different(*keys: str, files: Iterable[str] = FILES) -> Iterator[tuple[str, Config]]:
    """The first file with each content of these keys: most files differ in their tuner alone."""
    seen = set()
    for name in files:
        cfg = read_once(name)
        content = json.dumps([cfg.get(key) for key in keys], sort_keys=True, default=str)
        if content not in seen:
            seen.add(content)
            yield name, copy.deepcopy(cfg)


@functools.cache
def host(structure: str, full_size: bool) -> torch.nn.Module:
    """The model of a config in JSON without its tuners, on the meta device."""
    init_default_scope("mmdet")
    if not full_size:
        return MODELS.build(json.loads(structure)).to("meta")
    with on_meta():
        return MODELS.build(json.loads(structure))


@contextlib.contextmanager
def with_tuners(structure: str, full_size: bool) -> Iterator[torch.nn.Module]:
    """The model of a config in JSON for a while: its host, which is built once, with its tuners."""
    model_cfg = json.loads(structure)
    attached = [model_cfg.pop(key, None) for key in ("tuner", "tuners", "trainable")]
    model = host(json.dumps(model_cfg), full_size)
    if not any(attached):
        yield model
        return
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        with torch.device("meta"):
            model._attach_tuners(*attached)
        yield model
    finally:
        disconnect_all(model.seams())
        model._attach_tuners(None, None, None)
        model.requires_grad_(True).train()
        for parameter in frozen:
            parameter.requires_grad_(False)


def structure_of(name: str, bert_base: str) -> tuple[str, bool]:
    """The model of a config, and whether it is of full size; for :func:`with_tuners`."""
    model_cfg = read_once(name).model.to_dict()
    if name in FULL_SIZE:
        model_cfg["language_model"]["name"] = bert_base
        if "lang_model_name" in model_cfg["bbox_head"]:
            model_cfg["bbox_head"]["lang_model_name"] = bert_base
    for key in ("train_cfg", "test_cfg"):
        model_cfg.pop(key)
    return json.dumps(model_cfg, sort_keys=True), name in FULL_SIZE


class Numbers(NamedTuple):
    """Of parameters of a model."""

    of: dict[str, int]
    """By name, all."""
    trainable: set[str]
    counted: dict[str, int]
    """By slot, what its tuner says that it trains; of tuners that are not frozen."""
    slots: int


@functools.cache
def numbers(structure: str, full_size: bool) -> Numbers:
    """Equal models are looked at once."""
    with with_tuners(structure, full_size) as model:
        return Numbers(
            {name: p.numel() for name, p in model.named_parameters()},
            {name for name, p in model.named_parameters() if p.requires_grad},
            {slot: t.num_trainable() for slot, t in model.tuners.items() if not t.frozen},
            len(model.tuners),
        )


def datasets_of(cfg: Config) -> dict[str, dict]:
    """Config of the dataset of each role that the config has, wrappers included."""
    loaders = {role: cfg.get(f"{role}_dataloader") for role in ROLES}
    return {role: loader.dataset for role, loader in loaders.items() if loader}


def metrics_of(cfg: Config) -> dict[str, dict]:
    return {
        role: cfg[f"{role}_evaluator"] for role in ("val", "test") if cfg.get(f"{role}_evaluator")
    }


def kinds(pipeline: list[dict]) -> list[str]:
    return [transform["type"] for transform in pipeline]


def test_there_are_configs():
    assert len(FILES) > 15
    assert {"sdpt/glip_l_coco_k10.py", "mini/sdpt_mini_raccoon.py"} <= set(FILES)


# test_ablations.py builds those.
@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("ablations/")])
def test_the_model_builds_and_exactly_the_tuner_trains(name, bert_base):
    found = numbers(*structure_of(name, bert_base))
    total = sum(found.of.values())
    trainable = sum(found.of[key] for key in found.trainable)
    cfg = read_once(name)
    if "tuner" in cfg.model or "tuners" in cfg.model:
        assert trainable == sum(found.counted.values())
        # A config whose slots are all frozen is one for testing.
        assert (trainable > 0) == bool(found.counted) and found.slots > 0
        prefixes = tuple(f"tuners.{slot}." for slot in found.counted)
        assert found.trainable == {key for key in found.of if key.startswith(prefixes)}
    else:
        assert trainable == total
    assert trainable == TRAINABLE.get(name, trainable)
    assert total - trainable == FROZEN.get(name, total - trainable)
    comment = (FOLDER / name).read_text().split("_base_")[0].replace("\n# ", " ")
    said = re.findall(r"([\d,]+) parameters", comment)
    assert [int(number.replace(",", "")) for number in said] in ([], [trainable]), "the comment"


def test_every_part_of_the_run_can_be_built():
    Visualizer.get_instance("test_configs")  # the hook that draws asks for one
    loops = ("train_cfg", "val_cfg", "test_cfg")
    hooks = ("default_hooks", "custom_hooks")
    loaders = [f"{role}_dataloader" for role in ROLES]
    run = ("runner_type", "default_scope", "visualizer", "optim_wrapper", "param_scheduler")
    for name, cfg in different(*run, *loops, *hooks, *loaders):
        assert RUNNERS.get(cfg.runner_type).__name__ == "TunerRunner"
        assert cfg.default_scope == "mmdet"
        assert VISUALIZERS.get(cfg.visualizer.type)
        for loop in loops:
            assert not cfg.get(loop) or LOOPS.get(cfg[loop].type)
        built = {key: HOOKS.build(hook) for key, hook in cfg.default_hooks.items()}
        assert [
            type(built[key]).__name__ for key in ("checkpoint", "trainable_table", "class_names")
        ] == ["TunerCheckpointHook", "TrainableTableHook", "ClassNamesHook"], name
        for hook in cfg.get("custom_hooks") or ():
            HOOKS.build(hook)
        for role in datasets_of(cfg):
            loader = cfg[f"{role}_dataloader"]
            assert DATA_SAMPLERS.get(loader.sampler.type)
            if "worker_init_fn" in loader:
                assert FUNCTIONS.get(loader.worker_init_fn.type)
        if "optim_wrapper" in cfg:
            wrapper = cfg.optim_wrapper
            assert OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.constructor)
            assert OPTIM_WRAPPERS.get(wrapper.type)
            optimizer = OPTIMIZERS.build(
                dict(wrapper.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
            )
            for scheduler in cfg.param_scheduler:
                scheduler = follow_max_epochs(scheduler, cfg.train_cfg.get("max_epochs", 1))
                # What the runner settles itself.
                scheduler.pop("convert_to_iter_based", None)
                PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))


def test_datasets_build_and_hand_over_the_class_names(monkeypatch):
    # Without drawing pictures.
    monkeypatch.setattr(task_dataset, "generate_task", lambda task, root: Path(root))
    for name, cfg in different(*(f"{role}_dataloader" for role in ROLES)):
        built = {}
        for role, dataset_cfg in datasets_of(cfg).items():
            layer = dataset_cfg
            while True:
                layer["lazy_init"] = True  # without reading files
                if "dataset" not in layer:
                    break
                layer = layer["dataset"]
            built[role] = DATASETS.build(dataset_cfg)
            check_names_reach_the_model(built[role], role)
        classes = {tuple(dataset.metainfo.get("classes", ())) for dataset in built.values()}
        assert len(classes) <= 1, f"{name}: other classes in another split: {classes}"


DATA = (*(f"{role}_dataloader" for role in ROLES), "val_evaluator", "test_evaluator", "data_root")


def test_an_evaluator_reads_the_annotations_of_its_dataset():
    for name, cfg in different(*DATA):
        for role, metric in metrics_of(cfg).items():
            assert METRICS.get(metric.type)
            dataset = innermost(datasets_of(cfg)[role])
            default = f"annotations/{dataset.get('split')}.json"
            wanted = os.path.join(dataset["data_root"], dataset.get("ann_file", default))
            assert metric.ann_file == wanted, name
            if "split" in dataset:
                assert dataset["split"] == role


def test_data_root_replaces_the_folder_everywhere():
    replaced = 0
    for name, cfg in different(*DATA):
        if "data_root" not in cfg:
            continue
        assert cfg.data_root.endswith("/")
        replace_data_root(cfg, "/mnt/elsewhere")
        for role, dataset in datasets_of(cfg).items():
            assert innermost(dataset)["data_root"] == "/mnt/elsewhere/", (name, role)
        for role, metric in metrics_of(cfg).items():
            assert metric.ann_file.startswith("/mnt/elsewhere/"), (name, role)
        replaced += 1
    assert replaced > 10


# ------------------------------------------------------------------ what GLIP's weights expect


def test_boxes_and_pixels_follow_glips_conventions():
    files = [name for name in FILES if "grounding_dino" not in name]
    for name, cfg in different("model", *(f"{role}_dataloader" for role in ROLES), files=files):
        head, assigner = cfg.model.bbox_head, cfg.model.train_cfg.assigner
        assert cfg.model.type == "mmsdpt.GLIP" and head.type == "mmsdpt.ATSSVLFusionHead"
        assert head.bbox_coder.type == "DeltaXYWHBBoxCoderForGLIP"
        assert assigner.iou_calculator.type == "BboxOverlaps2D_GLIP"
        assert cfg.model.data_preprocessor.bgr_to_rgb is False
        assert cfg.model.data_preprocessor.mean == [103.53, 116.28, 123.675]  # of B, G, R
        for role, dataset in datasets_of(cfg).items():
            pipeline = innermost(dataset)["pipeline"]
            for transform in pipeline:
                TRANSFORMS.build(transform)
                if transform["type"] == "LoadImageFromFile":
                    assert transform["imdecode_backend"] == "pillow"
                if "Resize" in transform["type"]:
                    resize = transform.get("resize_type", transform["type"])
                    assert (resize, transform["backend"], transform["keep_ratio"]) == (
                        "FixScaleResize",
                        "pillow",
                        True,
                    )
            names = kinds(pipeline)
            assert not {"Resize", "RandomFlip"} & set(names), name
            assert names[-1] == "PackDetInputs"
            if role == "train":
                boxes = names.index("GTBoxSubOne_GLIP")
                assert boxes < names.index("RandomFlip_GLIP")
                # From the file's boxes, before anything scales them.
                assert not any("Resize" in kind for kind in names[:boxes])
            else:
                assert "GTBoxSubOne_GLIP" not in names


def test_boxes_and_pixels_of_grounding_dino_are_mmdetections():
    found = 0
    for name, cfg in different(
        *(f"{role}_dataloader" for role in ROLES),
        files=[name for name in FULL_SIZE if "grounding_dino" in name],
    ):
        assert cfg.model.type == "mmsdpt.GroundingDINO"
        assert cfg.model.bbox_head.type == "mmsdpt.GroundingDINOHead"
        assert cfg.model.data_preprocessor.bgr_to_rgb is True
        for role, dataset in datasets_of(cfg).items():
            names = kinds(innermost(dataset)["pipeline"])
            assert names[-1] == "PackDetInputs" and not any("GLIP" in kind for kind in names)
            assert ("RandomFlip" in names) is (role == "train"), name
            found += 1
    assert found >= 6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("grounding_dino_swin_t", "grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco"),
        (
            "mm_grounding_dino_swin_t",
            "mm_grounding_dino/coco/grounding_dino_swin-t_finetune_16xb4_1x_coco",
        ),
        ("mm_grounding_dino_swin_l", "mm_grounding_dino/grounding_dino_swin-l_pretrain_all"),
    ],
)
def test_test_images_of_grounding_dino_are_read_as_in_mmdetection(ours, theirs):
    loaders = config(f"sdpt/{ours}_coco_k10.py"), get_config(f"mmdet::{theirs}.py")
    for role in ("val", "test"):
        found, wanted = (each[f"{role}_dataloader"].dataset.pipeline[:2] for each in loaders)
        for step, expected in zip(found, wanted, strict=True):
            assert {k: v for k, v in step.items() if k != "_scope_"} == expected


def test_nothing_that_is_frozen_is_checkpointed_or_decayed():
    for name, cfg in different("model", "optim_wrapper", "load_from", files=FULL_SIZE):
        assert not cfg.model.bbox_head.get("use_checkpoint")
        assert cfg.optim_wrapper.constructor == "mmsdpt.TrainableOptimWrapperConstructor"
        # The optimizer holds the tuner alone, so that decay is a matter of the method; none for
        # tokens.
        assert cfg.optim_wrapper.optimizer.weight_decay == 0.0 or not name.startswith("sdpt/")
        # MMDetection's settings for weights that are frozen here.
        assert ("paramwise_cfg" in cfg.optim_wrapper) == ("full_fine_tuning" in name), name
        assert not cfg.load_from.startswith("http")


def test_full_fine_tuning_decays_what_mmdetections_does(bert_base):
    name = "baselines/full_fine_tuning_glip_t_coco.py"
    ours = config(name).optim_wrapper
    theirs = get_config("mmdet::glip/glip_atss_swin-t_fpn_dyhead_16xb2_ms-2x_funtune_coco.py")
    theirs = theirs.optim_wrapper
    assert ours.optimizer.weight_decay == theirs.optimizer.weight_decay > 0
    spared = theirs.paramwise_cfg.custom_keys
    assert all(each.decay_mult == 0 for each in spared.values())
    with with_tuners(*structure_of(name, bert_base)) as model:
        decay = {
            id(parameter): group["weight_decay"]
            for group in build_optim_wrapper(model, ours).param_groups
            for parameter in group["params"]
        }
        for key, value in model.tuners.default.values.items():
            kept = any(word in key for word in spared)
            assert decay[id(value)] == (0 if kept else theirs.optimizer.weight_decay), key


def test_lvis_samples_its_captions_in_training_and_chunks_them_in_testing():
    cfg = config("sdpt/glip_l_lvis_k10.py")
    pipeline = innermost(cfg.train_dataloader.dataset)["pipeline"]
    assert kinds(pipeline)[-2:] == ["mmsdpt.SampleCaptionClasses", "PackDetInputs"]
    assert pipeline[-2]["max_classes"] == cfg.model.test_cfg.chunked_size == 40
    assert pipeline[-2]["max_tokens"] <= 256 and pipeline[-2]["language_model"]
    # The rest of the test settings stays.
    assert cfg.model.test_cfg.nms_pre == 1000 and cfg.model.test_cfg.max_per_img == 300
    assert cfg.test_evaluator.type == "mmsdpt.LVISMetric"
    assert cfg.default_hooks.checkpoint.save_best == "lvis_fixed_ap/AP"
    # The base's own pipelines are left as they were.
    assert "mmsdpt.SampleCaptionClasses" not in kinds(
        innermost(config("sdpt/glip_l_coco_k10.py").train_dataloader.dataset)["pipeline"]
    )
