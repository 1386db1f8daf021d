# SDPT on Grounding DINO with Swin-T and your own data, as the converters write it
# (docs/new_dataset.md): 61,440 parameters.
_base_ = "grounding_dino_swin_t_coco_k10.py"

data_root = "data/raccoon/"
metainfo = dict(classes=("raccoon",))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
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
            filter_cfg=dict(filter_empty_gt=False),
            pipeline=_base_.train_pipeline,
            return_classes=True,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/val.json",
        data_prefix=dict(img="images/val/"),
    )
)
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/test.json",
        data_prefix=dict(img="images/test/"),
    )
)
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
