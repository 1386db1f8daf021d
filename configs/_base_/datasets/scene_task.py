# A shifted task on procedural scenes, made under data/scenes/ when it is first used.
task = "thermal"
data_root = "data/scenes/thermal/"
meta_keys = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "text",
    "custom_entities",
)
resize = dict(type="FixScaleResize", scale=(224, 224), keep_ratio=True, backend="pillow")

train_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="GTBoxSubOne_GLIP"),
    resize,
    dict(type="RandomFlip_GLIP", prob=0.5),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="PackDetInputs", meta_keys=(*meta_keys, "flip", "flip_direction")),
]
test_pipeline = [
    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
    resize,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mmsdpt.FewShotDataset",
        shots=10,
        copies=1,
        seed=3,
        dataset=dict(
            type="mmsdpt.SceneTaskDataset",
            task=task,
            split="train",
            data_root=data_root,
            pipeline=train_pipeline,
            return_classes=True,
        ),
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmsdpt.SceneTaskDataset",
        task=task,
        split="val",
        data_root=data_root,
        pipeline=test_pipeline,
        return_classes=True,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmsdpt.SceneTaskDataset",
        task=task,
        split="test",
        data_root=data_root,
        pipeline=test_pipeline,
        return_classes=True,
        test_mode=True,
    ),
)
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/val.json", metric="bbox")
test_evaluator = dict(
    type="CocoMetric", ann_file=data_root + "annotations/test.json", metric="bbox"
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
