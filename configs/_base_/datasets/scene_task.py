# A shifted task on procedural scenes, made under data/scenes/ when it is first used.
_base_ = "mini_pipelines.py"

task = "thermal"
data_root = "data/scenes/thermal/"

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
            pipeline=_base_.train_pipeline,
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
        pipeline=_base_.test_pipeline,
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
        pipeline=_base_.test_pipeline,
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
