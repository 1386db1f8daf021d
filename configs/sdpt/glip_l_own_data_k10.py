# SDPT on GLIP-L and all images of your own data, as the converters write it (docs/new_dataset.md),
# with the schedule of GLIP's protocol on ODinW.
_base_ = "glip_l_coco_k10.py"

data_root = "data/raccoon/"
metainfo = dict(classes=("raccoon",))

train_dataloader = dict(
    batch_size=4,
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
            filter_cfg=dict(filter_empty_gt=True),
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

# When the validation AP has not risen for more than 2 epochs, the rate falls to a tenth; after 4
# the run ends. The best epoch is kept. An AP that only equals the best has not risen.
train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(
        type="ReduceOnPlateauLR",
        monitor="coco/bbox_mAP",
        rule="greater",
        factor=0.1,
        patience=2,
        by_epoch=True,
    )
]
custom_hooks = [dict(type="mmsdpt.EarlyStoppingHook", monitor="coco/bbox_mAP", patience=4)]
