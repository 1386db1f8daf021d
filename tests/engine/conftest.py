"""A GLIP and a dataset that are small enough to train in a second, as configs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from safetensors.torch import save_file

import mmsdpt.datasets
import mmsdpt.engine
import mmsdpt.hosts
import mmsdpt.tuners  # noqa: F401
from mmsdpt.registry import MODELS

CLASSES = ("red square", "blue square")
META_KEYS = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "text",
    "custom_entities",
)


def write_dataset(root: Path, images: int = 4, size: int = 64) -> None:
    """Squares of two colours in COCO's format: ``images/``, ``annotations.json``."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )
    for image_id in range(images):
        pixels = rng.integers(90, 160, (size, size, 3), dtype=np.uint8)
        for label in range(2):
            width = int(rng.integers(16, 30))
            x, y = (int(v) for v in rng.integers(0, size - width, 2))
            pixels[y : y + width, x : x + width] = (220, 30, 30) if label == 0 else (30, 30, 220)
            content["annotations"].append(
                dict(
                    id=len(content["annotations"]) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x, y, width, width],
                    area=width * width,
                    iscrowd=0,
                )
            )
        name = f"{image_id}.png"
        Image.fromarray(pixels).save(root / "images" / name)
        content["images"].append(dict(id=image_id, file_name=name, width=size, height=size))
    (root / "annotations.json").write_text(json.dumps(content))


def dataset_config(root: Path, training: bool) -> dict:
    load = [
        dict(type="LoadImageFromFile", imdecode_backend="pillow"),
        dict(type="FixScaleResize", scale=(64, 64), keep_ratio=True, backend="pillow"),
        dict(type="LoadAnnotations", with_bbox=True),
    ]
    augment = [
        dict(type="GTBoxSubOne_GLIP"),
        dict(type="RandomFlip_GLIP", prob=0.5),
        dict(type="PackDetInputs", meta_keys=(*META_KEYS, "flip", "flip_direction")),
    ]
    pack = [dict(type="PackDetInputs", meta_keys=META_KEYS)]
    return dict(
        type="CocoDataset",
        data_root=f"{root}/",
        ann_file="annotations.json",
        data_prefix=dict(img="images/"),
        metainfo=dict(classes=CLASSES),
        return_classes=True,
        serialize_data=False,
        test_mode=not training,
        pipeline=load + (augment if training else pack),
    )


def write_bert(repository: Path, folder: Path) -> None:
    """Mini GLIP's BERT with one narrow layer, as a folder."""
    shutil.copytree(repository / "mmsdpt/assets/mini_bert", folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    (folder / "config.json").write_text(json.dumps(config))


def tiny_config(repository: Path, folder: Path, work_dir: Path) -> Config:
    """Mini GLIP, smaller: one fusion layer of joint width 40; three epochs of two steps."""
    data, weights, bert = folder / "squares", folder / "base.safetensors", str(folder / "bert")
    model = Config.fromfile(repository / "configs/_base_/models/mini_glip.py")
    cfg = Config.fromfile(repository / "configs/_base_/default_runtime.py")
    cfg.merge_from_dict(dict(model=model.model.to_dict(), lang_model_name=bert))
    cfg.merge_from_dict(
        {
            "model.backbone.embed_dims": 16,
            "model.backbone.depths": [1, 1, 1],
            "model.backbone.num_heads": [1, 2, 4],
            "model.backbone.window_size": 4,
            "model.neck.in_channels": [32, 64],
            "model.neck.out_channels": 32,
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
            "model.bbox_head.num_dyhead_blocks": 1,
            "model.bbox_head.fusion": dict(embed_dim=40, num_heads=2, dropout=0.0),
            "model.bbox_head.lang_model_name": bert,
            "model.language_model.name": bert,
            "model.test_cfg.nms_pre": 20,
            "model.test_cfg.max_per_img": 5,
            "model.test_cfg.score_thr": 0.0,
            "model.tuner": dict(type="mmsdpt.SDPT", num_tokens=3),
        }
    )
    data_root = f"{data}/"
    cfg.merge_from_dict(
        dict(
            data_root=data_root,
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=True),
                dataset=dataset_config(data, training=True),
            ),
            val_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                dataset=dataset_config(data, training=False),
            ),
            val_evaluator=dict(
                type="CocoMetric", ann_file=data_root + "annotations.json", metric="bbox"
            ),
            val_cfg=dict(type="ValLoop"),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=1),
            optim_wrapper=dict(
                type="OptimWrapper",
                constructor="mmsdpt.TrainableOptimWrapperConstructor",
                optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.0),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
                dict(type="MultiStepLR", by_epoch=True, milestones=[2], gamma=0.1),
            ],
            load_from=str(weights),
            work_dir=str(work_dir),
            log_level="ERROR",  # MMEngine tells the story of every parameter at the start of a run
            default_hooks=dict(logger=dict(interval=1)),
            log_processor=dict(window_size=1),
        )
    )
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_evaluator = cfg.val_evaluator
    cfg.test_cfg = dict(type="TestLoop")
    cfg.visualizer.vis_backends = []
    return cfg


@pytest.fixture(autouse=True, scope="module")
def _short_beginnings(short_beginnings):
    """For all tests here."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, repository) -> Path:
    """Dataset ``squares``, text encoder ``bert`` and random base weights ``base.safetensors``."""
    folder = tmp_path_factory.mktemp("tiny")
    write_dataset(folder / "squares")
    write_bert(repository, folder / "bert")
    init_default_scope("mmdet")
    torch.manual_seed(1)
    cfg = tiny_config(repository, folder, folder)
    model = MODELS.build({**cfg.model.to_dict(), "tuner": None})
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "base.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def make_tiny_cfg(repository, tiny_folder) -> Callable[[Path], Config]:
    """Work directory to config."""
    return partial(tiny_config, repository, tiny_folder)


@pytest.fixture
def tiny_cfg(make_tiny_cfg, tmp_path) -> Config:
    """Config of a run in ``tmp_path / 'run'``."""
    return make_tiny_cfg(tmp_path / "run")
