# A dataset as voc2coco.py and yolo2coco.py write it, at mini GLIP's size. A config on top of it
# names data_root and the classes.
_base_ = "mini_pipelines.py"

data_root = "data/raccoon/"
metainfo = dict(classes=("raccoon",))

# The size of mini GLIP's pre-training: in larger pictures things are larger than any it has seen.
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = (160, 160)
test_pipeline[1].scale = (160, 160)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    # All images by default; shots=10 takes ten of each class.
    dataset=dict(
        type="mmsdpt.FewShotDataset",
        shots=0,
        copies=1,
        seed=3,
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            metainfo=metainfo,
            ann_file="annotations/train.json",
            data_prefix=dict(img="images/train/"),
            filter_cfg=dict(filter_empty_gt=True),
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
        type="CocoDataset",
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/val.json",
        data_prefix=dict(img="images/val/"),
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
        type="CocoDataset",
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/test.json",
        data_prefix=dict(img="images/test/"),
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
